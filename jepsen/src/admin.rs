//! What an operator asks members: who leads, how far they are, what they hold.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use orrery::proto::etcdserverpb::{
    DefragmentRequest, HashKvRequest, HashKvResponse, Member, MemberAddRequest, MemberListRequest,
    MemberPromoteRequest, MemberRemoveRequest, MoveLeaderRequest, RangeRequest, SnapshotRequest,
    StatusRequest, StatusResponse, cluster_client::ClusterClient, kv_client::KvClient,
    maintenance_client::MaintenanceClient,
};
use tokio::time::{sleep, timeout};

use crate::{client::channel, history::MemberIndex, world::network};

/// A member that does not answer so soon is taken to be away.
const PATIENCE: Duration = Duration::from_secs(1);

/// Longer than any step of an operator's takes in a cluster that works.
const WORK: Duration = Duration::from_secs(10);

const POLL: Duration = Duration::from_millis(50);

pub async fn status(member: MemberIndex) -> Result<StatusResponse> {
    let mut client = MaintenanceClient::new(channel(member));
    let answer = timeout(PATIENCE, client.status(StatusRequest {})).await;
    Ok(answer.context("no answer in time")??.into_inner())
}

/// The member that says of itself that it leads, in the newest term.
pub async fn leader(members: &[MemberIndex]) -> Option<MemberIndex> {
    let asked = members.iter().map(|at| async move { (*at, status(*at).await) });
    let answers = futures::future::join_all(asked).await;
    let leading = answers.into_iter().filter_map(|(at, answer)| {
        let answer = answer.ok()?;
        let own = answer.header.as_ref()?.member_id;
        (answer.leader == own && own != 0).then_some((answer.raft_term, at))
    });
    leading.max().map(|(_, at)| at)
}

/// Waits for a leader.
///
/// # Errors There is none in time.
pub async fn some_leader(members: &[MemberIndex], deadline: Duration) -> Result<MemberIndex> {
    let begin = Instant::now();
    while begin.elapsed() < deadline {
        if let Some(at) = leader(members).await {
            return Ok(at);
        }
        sleep(POLL).await;
    }
    bail!("no member leads after {deadline:?}")
}

/// The current revision, by a linearizable read at this member.
pub async fn revision(member: MemberIndex) -> Result<i64> {
    let mut client = KvClient::new(channel(member));
    let request = RangeRequest { key: "\0".into(), ..Default::default() };
    let answer = timeout(WORK, client.range(request)).await.context("no answer in time")??;
    Ok(answer.into_inner().header.unwrap_or_default().revision)
}

pub async fn hash(member: MemberIndex, revision: i64) -> Result<HashKvResponse> {
    let mut client = MaintenanceClient::new(channel(member));
    let answer = timeout(WORK, client.hash_kv(HashKvRequest { revision })).await;
    Ok(answer.context("no answer in time")??.into_inner())
}

pub async fn defragment(member: MemberIndex) -> Result<()> {
    let mut client = MaintenanceClient::new(channel(member));
    let answer = timeout(WORK, client.defragment(DefragmentRequest {})).await;
    answer.context("no answer in time")??;
    Ok(())
}

/// Reads a whole snapshot, as a backup does; gives its bytes.
pub async fn snapshot(member: MemberIndex) -> Result<u64> {
    let mut client = MaintenanceClient::new(channel(member));
    let read = async {
        let mut bytes = 0;
        let mut chunks = client.snapshot(SnapshotRequest {}).await?.into_inner();
        while let Some(chunk) = chunks.message().await? {
            bytes += chunk.blob.len() as u64;
        }
        anyhow::Ok(bytes)
    };
    timeout(WORK, read).await.context("no end in time")?
}

/// Hands leadership from one member to another.
pub async fn move_leader(from: MemberIndex, to: MemberIndex) -> Result<()> {
    let target_id = id(to).await?;
    let mut client = MaintenanceClient::new(channel(from));
    let answer = timeout(WORK, client.move_leader(MoveLeaderRequest { target_id })).await;
    answer.context("no answer in time")??;
    Ok(())
}

async fn id(member: MemberIndex) -> Result<u64> {
    Ok(status(member).await?.header.context("status has a header")?.member_id)
}

pub async fn members(through: MemberIndex) -> Result<Vec<Member>> {
    let mut client = ClusterClient::new(channel(through));
    let request = MemberListRequest { linearizable: true };
    let answer = timeout(WORK, client.member_list(request)).await;
    Ok(answer.context("no answer in time")??.into_inner().members)
}

/// Takes a member out, as soon as the others find themselves healthy enough for it.
///
/// # Errors They do not in time.
pub async fn remove(through: MemberIndex, id: u64, deadline: Duration) -> Result<()> {
    let begin = Instant::now();
    let mut client = ClusterClient::new(channel(through));
    loop {
        let error = match timeout(WORK, client.member_remove(MemberRemoveRequest { id })).await {
            Ok(Ok(_)) => return Ok(()),
            // The answer to an earlier attempt was lost.
            Ok(Err(status)) if status.code() == tonic::Code::NotFound => return Ok(()),
            Ok(Err(status)) => status.message().to_owned(),
            Err(_) => "no answer in time".to_owned(),
        };
        if begin.elapsed() > deadline {
            bail!("not removed after {deadline:?}: {error}");
        }
        sleep(POLL).await;
    }
}

/// Adds a member without a vote, where its peers will find it, as soon as the others find
/// themselves healthy enough for it. Gives its id.
///
/// # Errors They do not in time, or refuse it.
pub async fn add_learner(
    through: MemberIndex,
    member: MemberIndex,
    deadline: Duration,
) -> Result<u64> {
    let begin = Instant::now();
    let mut client = ClusterClient::new(channel(through));
    let url = format!("http://{}:2380", network::address(member));
    let request = MemberAddRequest { peer_ur_ls: vec![url], is_learner: true };
    loop {
        let answer = timeout(WORK, client.member_add(request.clone())).await;
        match answer.context("no answer in time")? {
            Ok(answer) => {
                let added = answer.into_inner().member;
                return Ok(added.context("the new member is in the answer")?.id);
            }
            // Refused before anything was done: somebody is not connected for long enough yet.
            Err(status)
                if status.message().ends_with("unhealthy cluster")
                    && begin.elapsed() < deadline =>
            {
                sleep(POLL).await;
            }
            Err(status) => return Err(status.into()),
        }
    }
}

/// Gives a learner its vote as soon as the leader finds it ready.
///
/// # Errors It is not in time.
pub async fn promote(through: MemberIndex, id: u64, deadline: Duration) -> Result<()> {
    let begin = Instant::now();
    let mut client = ClusterClient::new(channel(through));
    loop {
        let error = match timeout(WORK, client.member_promote(MemberPromoteRequest { id })).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(status)) => status.message().to_owned(),
            Err(_) => "no answer in time".to_owned(),
        };
        if begin.elapsed() > deadline {
            bail!("not promoted after {deadline:?}: {error}");
        }
        sleep(POLL).await;
    }
}
