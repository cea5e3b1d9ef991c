//! The Maintenance service: about this one member.

use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, async_trait};
use tracing::{info, warn};

use crate::{
    alarm::{Alarm, Kind},
    grpc::{
        aside::aside, downgrade::downgrade, header::Header, metrics::Proposals, saved, version, who,
    },
    node::{
        self, Credentials, Downgrades, Error, Freshness, Membership, Reader, Saver, Space,
        Standing, StatusHandle,
    },
    proto::etcdserverpb::{
        AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, DowngradeInfo,
        DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest,
        HashResponse, MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse,
        StatusRequest, StatusResponse, alarm_request::AlarmAction, maintenance_server,
    },
    types::{MemberId, Revision, Version},
};

pub(crate) struct Maintenance {
    pub(crate) status: StatusHandle,
    pub(crate) reader: Reader,
    pub(crate) membership: Membership,
    pub(crate) downgrades: Downgrades,
    pub(crate) proposals: Proposals,
    pub(crate) space: Space,
    pub(crate) saver: Saver,
    pub(crate) credentials: Credentials,
    pub(crate) header: Header,
}

#[async_trait]
impl maintenance_server::Maintenance for Maintenance {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let header = self.header.now().await?;
        Ok(Response::new(StatusResponse { header, ..status_response(&self.status.now()) }))
    }

    async fn hash_kv(
        &self,
        request: Request<HashKvRequest>,
    ) -> Result<Response<HashKvResponse>, Status> {
        let (found, now) = self.reader.hash_kv(request.into_inner().revision).await?;
        let header = self.header.at(now);
        Ok(Response::new(HashKvResponse {
            header,
            hash: found.hash,
            // As in etcd, where the floor starts below every revision.
            compact_revision: found.compact_revision.map_or(-1, Revision::get),
            hash_revision: found.hash_revision,
        }))
    }

    /// The answer has no header, as in etcd.
    async fn move_leader(
        &self,
        request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        self.membership.move_leader(MemberId(request.into_inner().target_id)).await?;
        Ok(Response::new(MoveLeaderResponse { header: None }))
    }

    /// The list is read as linearizably as if it went through the log, as in etcd it does.
    async fn alarm(
        &self,
        request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        let (who, request) = (who::of(&request), request.into_inner());
        let action = AlarmAction::try_from(request.action);
        let standing = if action == Ok(AlarmAction::Get) { Standing::User } else { Standing::Root };
        self.credentials.require(&who, standing).await?;
        let mut response = match action {
            Ok(AlarmAction::Get) => {
                let view = self.reader.view(Freshness::Linearizable).await?;
                let alarms = view.alarms().map_err(Error::from)?;
                let alarms = alarms.list(Kind::from_wire(request.alarm));
                AlarmResponse { header: self.header.at(view.keys().revision()), alarms }
            }
            Ok(AlarmAction::Activate | AlarmAction::Deactivate) => {
                let caller = self.credentials.caller(&who).await?;
                self.proposals.propose(&caller, request).await?
            }
            Err(_) => AlarmResponse { header: self.header.now().await?, alarms: Vec::new() },
        };
        self.header.fill(&mut response.header);
        Ok(Response::new(response))
    }

    /// The answer has no header, as in etcd.
    async fn defragment(
        &self,
        _: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        info!("starting defragment");
        // It goes on when the client goes away: half of it would be of no use.
        let space = self.space.clone();
        let done = tokio::spawn(async move { space.defragment().await }).await;
        match done {
            Ok(Ok(())) => info!("finished defragment"),
            Ok(Err(error)) => {
                warn!(%error, "failed to defragment");
                return Err(error.into());
            }
            Err(_) => return Err(Error::Stopped.into()),
        }
        Ok(Response::new(DefragmentResponse { header: None }))
    }

    /// Compares with no other member's: what is hashed is how this one keeps what it has.
    async fn hash(&self, _: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        let view = self.reader.view(Freshness::Any).await?;
        let header = self.header.at(view.keys().revision());
        let hash = aside(move || Ok(view.checksum()?)).await?;
        Ok(Response::new(HashResponse { header, hash }))
    }

    type SnapshotStream = ReceiverStream<Result<SnapshotResponse, Status>>;

    async fn snapshot(
        &self,
        _: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        Ok(Response::new(saved::stream(self.saver.save().await?)))
    }

    async fn downgrade(
        &self,
        request: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        let version = downgrade(&self.downgrades, request.get_ref()).await?;
        let header = self.header.now().await?;
        Ok(Response::new(DowngradeResponse { header, version }))
    }
}

/// Without the header.
fn status_response(status: &node::Status) -> StatusResponse {
    let no_leader = || Status::from(Error::NoLeader).message().to_owned();
    let no_leader = status.leader.is_none().then(no_leader);
    let alarms = status.alarms.iter().map(in_text_format);
    StatusResponse {
        header: None,
        version: version::SERVER.to_owned(),
        db_size: wire(status.sizes.on_disk),
        leader: status.leader.map_or(0, |leader| leader.0),
        raft_index: status.committed_index,
        raft_term: status.term,
        raft_applied_index: status.applied_index,
        errors: no_leader.into_iter().chain(alarms).collect(),
        db_size_in_use: wire(status.sizes.in_use),
        is_learner: status.is_learner,
        storage_version: text(status.versions.storage()),
        db_size_quota: status.quota_bytes,
        downgrade_info: Some(DowngradeInfo {
            enabled: status.versions.downgrade.is_some(),
            target_version: text(status.versions.downgrade),
        }),
    }
}

/// Empty for none.
fn text(version: Option<Version>) -> String {
    version.map(|version| version.to_string()).unwrap_or_default()
}

/// As Go prints a message; a number that is 0 is left out.
fn in_text_format(Alarm { member, kind }: Alarm) -> String {
    let member = (member.0 != 0).then(|| format!("memberID:{}", member.0));
    let kind = format!("alarm:{}", kind.name());
    member.into_iter().chain([kind]).collect::<Vec<_>>().join(" ")
}

fn wire(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{cluster::Versions, storage::Sizes};

    #[test]
    fn status_says_what_the_member_knows_and_that_it_has_no_leader() {
        let status = node::Status {
            leader: None,
            term: 7,
            committed_index: 12,
            applied_index: 11,
            is_learner: true,
            sizes: Sizes { on_disk: 4096, in_use: 1024 },
            quota_bytes: 2 << 30,
            versions: Versions { cluster: Version::parse("3.7"), downgrade: None },
            alarms: Arc::default(),
        };
        let expected = StatusResponse {
            header: None,
            version: "3.7.0".to_owned(),
            db_size: 4096,
            leader: 0,
            raft_index: 12,
            raft_term: 7,
            raft_applied_index: 11,
            errors: vec!["etcdserver: no leader".to_owned()],
            db_size_in_use: 1024,
            is_learner: true,
            storage_version: "3.7.0".to_owned(),
            db_size_quota: 2 << 30,
            downgrade_info: Some(DowngradeInfo::default()),
        };
        assert_eq!(status_response(&status), expected);
        let led = node::Status { leader: Some(MemberId(9)), ..status };
        let expected = StatusResponse { leader: 9, errors: Vec::new(), ..expected };
        assert_eq!(status_response(&led), expected);
        let target = Version::parse("3.6");
        let going_back =
            node::Status { versions: Versions { cluster: target, downgrade: target }, ..led };
        let info = DowngradeInfo { enabled: true, target_version: "3.6.0".to_owned() };
        let storage_version = "3.6.0".to_owned();
        let expected = StatusResponse { storage_version, downgrade_info: Some(info), ..expected };
        assert_eq!(status_response(&going_back), expected);
    }
}
