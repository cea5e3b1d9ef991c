//! The Maintenance service: about this one member.

use std::time::Instant;

use tokio_stream::Empty;
use tonic::{Request, Response, Status, async_trait};

use crate::{
    grpc::{aside::aside, header::Header, status::not_implemented, version},
    node::{self, Error, Freshness, Membership, Reader, StatusHandle},
    proto::etcdserverpb::{
        AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, DowngradeInfo,
        DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest,
        HashResponse, MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse,
        StatusRequest, StatusResponse, alarm_request::AlarmAction, maintenance_server,
    },
    telemetry::METERS,
    types::{MemberId, Revision},
};

pub(crate) struct Maintenance {
    pub(crate) status: StatusHandle,
    pub(crate) reader: Reader,
    pub(crate) membership: Membership,
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
        let HashKvRequest { revision } = request.into_inner();
        let view = self.reader.view(Freshness::Any).await?;
        let header = self.header.at(view.keys().revision());
        let found = match self.reader.hash_at_compaction(revision) {
            Some(found) => found,
            None => {
                let begun = Instant::now();
                let found = aside(move || view.keys().hash_kv(revision)).await?;
                METERS.keys.hash_kv.observe(begun.elapsed());
                found
            }
        };
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

    /// Nothing raises an alarm yet, so the list is empty; `etcdctl endpoint health` asks for it.
    async fn alarm(
        &self,
        request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        match AlarmAction::try_from(request.into_inner().action) {
            Ok(AlarmAction::Get) => {
                let header = self.header.now().await?;
                Ok(Response::new(AlarmResponse { header, alarms: Vec::new() }))
            }
            Ok(AlarmAction::Activate | AlarmAction::Deactivate) | Err(_) => {
                Err(not_implemented("Alarm"))
            }
        }
    }

    async fn defragment(
        &self,
        _: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        Err(not_implemented("Defragment"))
    }

    /// Compares with no other member's: what is hashed is how this one keeps what it has.
    async fn hash(&self, _: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        let view = self.reader.view(Freshness::Any).await?;
        let header = self.header.at(view.keys().revision());
        let begun = Instant::now();
        let hash = aside(move || Ok(view.checksum()?)).await?;
        METERS.keys.hash.observe(begun.elapsed());
        Ok(Response::new(HashResponse { header, hash }))
    }

    type SnapshotStream = Empty<Result<SnapshotResponse, Status>>;

    async fn snapshot(
        &self,
        _: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(not_implemented("Snapshot"))
    }

    async fn downgrade(
        &self,
        _: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        Err(not_implemented("Downgrade"))
    }
}

/// Without the header.
fn status_response(status: &node::Status) -> StatusResponse {
    let no_leader = || Status::from(Error::NoLeader).message().to_owned();
    StatusResponse {
        header: None,
        version: version::SERVER.to_owned(),
        db_size: wire(status.sizes.on_disk),
        leader: status.leader.map_or(0, |leader| leader.0),
        raft_index: status.committed_index,
        raft_term: status.term,
        raft_applied_index: status.applied_index,
        errors: if status.leader.is_none() { vec![no_leader()] } else { Vec::new() },
        db_size_in_use: wire(status.sizes.in_use),
        is_learner: status.is_learner,
        storage_version: version::STORAGE.to_owned(),
        db_size_quota: status.quota_bytes,
        downgrade_info: Some(DowngradeInfo::default()),
    }
}

fn wire(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Sizes;

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
    }
}
