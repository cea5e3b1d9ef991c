//! What other members send, given to openraft.

use futures::{Stream, StreamExt, stream::BoxStream};
use openraft::{
    EntryPayload,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult,
        TransferLeaderRequest, VoteRequest,
    },
    type_config::alias::{SnapshotMetaOf, SnapshotOf},
};

use tracing::info;

use super::{
    OpenRaft, Raft,
    apply::{SnapshotData, open_position},
    leadership::Heard,
    message::{self, AppendReply, Failed, TransferReply},
    peers::SnapshotChunks,
    type_config::{
        TypeConfig, decode_stored_membership, entry_to_open, log_id_from_open, log_id_to_open,
        vote_from_open, vote_to_open,
    },
};
use crate::{
    storage::{Position, Storage, off_thread},
    telemetry::METERS,
    types::MemberId,
};

/// Takes what other members send. Clones share it.
#[derive(Clone)]
pub struct Incoming {
    open: OpenRaft,
    heard: Heard,
    storage: Storage,
    raft: Raft,
}

impl Incoming {
    pub(crate) fn new(raft: Raft, heard: Heard, storage: Storage) -> Incoming {
        Incoming { open: raft.0.open.clone(), heard, storage, raft }
    }

    pub(crate) async fn vote(
        &self,
        request: message::VoteRequest,
    ) -> Result<message::VoteReply, Failed> {
        let open = VoteRequest {
            vote: vote_to_open(request.vote),
            last_log_id: request.last.map(log_id_to_open),
            leadership_transfer: request.leadership_transfer,
        };
        let answered = match request.pre_vote {
            true => self.open.pre_vote(open).await,
            false => self.open.vote(open).await,
        };
        let reply = answered.map_err(failed)?;
        Ok(message::VoteReply {
            vote: vote_from_open(&reply.vote),
            granted: reply.vote_granted,
            last: reply.last_log_id.as_ref().map(log_id_from_open),
        })
    }

    /// A single request: a heartbeat.
    pub(crate) async fn append(
        &self,
        request: message::AppendRequest,
    ) -> Result<AppendReply, Failed> {
        let prev = request.prev;
        let last = request.entries.last().map(|entry| entry.id).or(prev);
        let reply = self.open.append_entries(open_append(request)?).await.map_err(failed)?;
        let reply = match reply {
            AppendEntriesResponse::Success => AppendReply::Accepted(last),
            AppendEntriesResponse::PartialSuccess(matching) => {
                AppendReply::Accepted(matching.as_ref().map(log_id_from_open))
            }
            AppendEntriesResponse::HigherVote(vote) => {
                AppendReply::HigherVote(vote_from_open(&vote))
            }
            AppendEntriesResponse::Conflict => match prev {
                Some(prev) => AppendReply::Conflict(prev),
                None => return Err(Failed("nothing can conflict with an empty log".into())),
            },
        };
        self.note(&reply);
        Ok(reply)
    }

    /// Requests in order, replies in the same order; ends with the first that is not accepted.
    pub(crate) fn append_stream(
        &self,
        requests: impl Stream<Item = message::AppendRequest> + Send + 'static,
    ) -> BoxStream<'static, Result<AppendReply, Failed>> {
        // A request that does not decode ends the stream: the sender finds its connection closed.
        let requests = requests
            .map(open_append)
            .take_while(|request| std::future::ready(request.is_ok()))
            .filter_map(|request| std::future::ready(request.ok()));
        let this = self.clone();
        self.open
            .stream_append(requests)
            .map(move |reply| {
                let reply = append_reply(reply.map_err(failed)?);
                this.note(&reply);
                Ok(reply)
            })
            .boxed()
    }

    /// Whoever sends entries of the vote that we hold leads us.
    fn note(&self, reply: &AppendReply) {
        match reply {
            AppendReply::Accepted(_) | AppendReply::Conflict(_) => self.heard.now(),
            AppendReply::HigherVote(_) => (),
        }
    }

    pub(crate) async fn transfer(
        &self,
        request: message::TransferRequest,
    ) -> Result<TransferReply, Failed> {
        let last = request.last.map(log_id_to_open);
        let open = TransferLeaderRequest::new(vote_to_open(request.from), request.to.0, last);
        let answered = self.open.handle_transfer_leader(open).await;
        Ok(match answered.map_err(failed)? {
            Ok(()) => TransferReply::Accepted,
            Err(refused) => TransferReply::Refused(refused.to_string()),
        })
    }

    pub(crate) async fn vacancy(&self, request: message::VacancyRequest) -> message::VacancyReply {
        self.raft.confirm_vacancy(request).await
    }

    pub(crate) async fn confirm(&self, request: message::ConfirmRequest) -> message::ConfirmReply {
        self.raft.confirm(request).await
    }

    /// Takes in a snapshot chunk by chunk, beside the present state, and puts it in force at its
    /// end.
    pub(crate) async fn snapshot(
        &self,
        from: MemberId,
        start: message::SnapshotStart,
        mut chunks: SnapshotChunks,
    ) -> Result<message::SnapshotReply, Failed> {
        self.heard.now();
        let metered = METERS.snapshots.received.begin(from);
        let membership = decode_stored_membership(start.meta).map_err(failed)?;
        let position = Position { applied: start.last, membership };
        let storage = self.storage.clone();
        let mut import = off_thread(move || storage.begin_import()).await.map_err(failed)?;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(failed)?;
            let taken = off_thread(move || import.chunk(chunk).map(|()| import));
            import = taken.await.map_err(failed)?;
            self.heard.now();
        }
        let (last_log_id, last_membership) = open_position(position).map_err(failed)?;
        let snapshot = SnapshotOf::<TypeConfig, SnapshotData> {
            meta: SnapshotMetaOf::<TypeConfig> { last_log_id, last_membership },
            snapshot: SnapshotData::Incoming(import),
        };
        let installed = self.open.install_full_snapshot(vote_to_open(start.vote), snapshot).await;
        let reply = installed.map_err(failed)?;
        METERS.snapshots.saved.observe(metered.succeeded());
        info!(%from, index = start.last.map_or(0, |last| last.index), "installed a snapshot");
        Ok(message::SnapshotReply { vote: vote_from_open(&reply.vote) })
    }
}

fn open_append(
    request: message::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, Failed> {
    let entries = request.entries.into_iter().map(entry_to_open);
    let mut entries = entries.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    for (position, trace) in request.traces {
        let entry = usize::try_from(position).ok().and_then(|at| entries.get_mut(at));
        if let Some(EntryPayload::Normal(command)) = entry.map(|entry| &mut entry.payload) {
            command.trace = Some(Box::new(trace));
        }
    }
    Ok(AppendEntriesRequest {
        vote: vote_to_open(request.vote),
        prev_log_id: request.prev.map(log_id_to_open),
        entries,
        leader_commit: request.commit.map(log_id_to_open),
    })
}

fn append_reply(result: StreamAppendResult<TypeConfig>) -> AppendReply {
    match result {
        Ok(matching) => AppendReply::Accepted(matching.as_ref().map(log_id_from_open)),
        Err(StreamAppendError::Conflict(id)) => AppendReply::Conflict(log_id_from_open(&id)),
        Err(StreamAppendError::HigherVote(vote)) => AppendReply::HigherVote(vote_from_open(&vote)),
    }
}

fn failed(error: impl ToString) -> Failed {
    Failed(error.to_string())
}
