//! What members say to each other, with the encoding of each message.
//!
//! A message is the payload of one frame, whose `kind` says which. Fields follow each other in the
//! order of the type; numbers are little-endian; an optional field has a byte before it that tells
//! whether it is there; the last field, when it is of variable length, takes what is left. Every
//! message has exactly one encoding. Payloads are cut out of the received frame, never copied.

mod fields;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use fields::Fields;

use crate::{
    log::Entry,
    types::{LogId, MemberId, TraceContext, Vote},
};

/// Everything that can be in a frame once a connection is established.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Request(Request),
    Reply(Reply),
    Snapshot(SnapshotPart),
    /// Asks whether the connection still works. The answer is a `Pong` at once.
    Ping,
    Pong,
}

/// What a member asks of another. Each has one reply, or [`Failed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Append(AppendRequest),
    Vote(VoteRequest),
    Transfer(TransferRequest),
    Vacancy(VacancyRequest),
    Confirm(ConfirmRequest),
    /// Opaque here: the layer above reads it.
    Call(Bytes),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Append(AppendReply),
    Vote(VoteReply),
    Transfer(TransferReply),
    Vacancy(VacancyReply),
    Confirm(ConfirmReply),
    Call(Bytes),
    Snapshot(SnapshotReply),
    Failed(Failed),
}

/// A snapshot on its way: a start, any number of chunks, an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotPart {
    Start(SnapshotStart),
    Chunk(Bytes),
    End(SnapshotEnd),
}

/// The request was received and no answer could be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failed(pub String);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendRequest {
    pub vote: Vote,
    /// The entry before the first of `entries`; `None` at the beginning of the log.
    pub prev: Option<LogId>,
    pub entries: Vec<Entry>,
    pub commit: Option<LogId>,
    /// Positions of entries whose traces are recorded, with the spans that follow-up work belongs
    /// to. Only for members that know of it.
    pub traces: Vec<(u32, TraceContext)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendReply {
    /// The follower's log agrees with the leader's up to here.
    Accepted(Option<LogId>),
    /// The follower does not have this entry (the request's `prev`).
    Conflict(LogId),
    /// The follower has seen a higher vote than the leader's.
    HigherVote(Vote),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteRequest {
    pub vote: Vote,
    /// The candidate's newest entry.
    pub last: Option<LogId>,
    /// Asks only whether the vote would be granted.
    pub pre_vote: bool,
    /// The leader itself gave way, so its lease does not count.
    pub leadership_transfer: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoteReply {
    pub vote: Vote,
    pub granted: bool,
    pub last: Option<LogId>,
}

/// A leader gives way to another member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferRequest {
    pub from: Vote,
    pub to: MemberId,
    /// What `to` must have before it may campaign.
    pub last: Option<LogId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferReply {
    Accepted,
    Refused(String),
}

/// Is the process of the leader that this vote made gone, as far as the other member can tell?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VacancyRequest {
    pub vote: Vote,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VacancyReply {
    pub vacant: bool,
    /// The newest entry of who replies.
    pub last: Option<LogId>,
}

/// Does the other member still hold this vote of who asks?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfirmRequest {
    pub vote: Vote,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfirmReply {
    pub held: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotStart {
    pub vote: Vote,
    /// The newest entry that the snapshot covers.
    pub last: Option<LogId>,
    /// Opaque here: the layer above reads it.
    pub meta: Bytes,
}

/// What the chunks were in all, so that a missing one is noticed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotEnd {
    pub bytes: u64,
    /// CRC32C of all chunks, one after the other.
    pub crc: u32,
}

impl SnapshotEnd {
    /// Counts one more chunk.
    pub fn add(&mut self, chunk: &[u8]) {
        self.bytes += chunk.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, chunk);
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotReply {
    pub vote: Vote,
}

/// The payload is not a message of the kind that the frame named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("no message has kind {0}")]
    Kind(u8),
    #[error("a message ends in the middle of a field")]
    Short,
    #[error("a message goes on after its last field")]
    Long,
    #[error("a field has a value that it can't have")]
    Value,
}

/// Kinds are on the wire: they never change, and no number is given twice.
mod kind {
    pub(super) const PING: u8 = 1;
    pub(super) const PONG: u8 = 2;
    pub(super) const APPEND: u8 = 3;
    pub(super) const APPEND_REPLY: u8 = 4;
    pub(super) const VOTE: u8 = 5;
    pub(super) const VOTE_REPLY: u8 = 6;
    pub(super) const TRANSFER: u8 = 7;
    pub(super) const TRANSFER_REPLY: u8 = 8;
    pub(super) const CALL: u8 = 9;
    pub(super) const CALL_REPLY: u8 = 10;
    pub(super) const SNAPSHOT_START: u8 = 11;
    pub(super) const SNAPSHOT_CHUNK: u8 = 12;
    pub(super) const SNAPSHOT_END: u8 = 13;
    pub(super) const SNAPSHOT_REPLY: u8 = 14;
    pub(super) const FAILED: u8 = 15;
    pub(super) const VACANCY: u8 = 16;
    pub(super) const VACANCY_REPLY: u8 = 17;
    pub(super) const CONFIRM: u8 = 18;
    pub(super) const CONFIRM_REPLY: u8 = 19;
    /// From format 2 on.
    pub(super) const APPEND_TRACED: u8 = 20;
}

/// Encoded size of an entry with an empty payload: log id, kind, length.
const ENTRY_BYTES: usize = 24 + 1 + 4;
/// Encoded size of a trace with its position.
const TRACE_BYTES: usize = 4 + TraceContext::BYTES;
/// No message but an append's entries has more fixed fields than this.
const FIXED_BYTES_MAX: usize = 128;

impl AppendRequest {
    /// About how much the request takes up in memory and on the wire.
    pub fn bytes(&self) -> usize {
        let entry = |entry: &Entry| ENTRY_BYTES + entry.payload.len();
        let traces = self.traces.len() * TRACE_BYTES;
        FIXED_BYTES_MAX + traces + self.entries.iter().map(entry).sum::<usize>()
    }
}

impl Request {
    /// At least as much as the encoded request takes.
    pub fn bytes(&self) -> usize {
        match self {
            Request::Append(request) => request.bytes(),
            Request::Vote(_) | Request::Transfer(_) | Request::Vacancy(_) | Request::Confirm(_) => {
                FIXED_BYTES_MAX
            }
            Request::Call(call) => call.len(),
        }
    }
}

impl Reply {
    /// At least as much as the encoded reply takes.
    pub fn bytes(&self) -> usize {
        match self {
            Reply::Append(_)
            | Reply::Vote(_)
            | Reply::Vacancy(_)
            | Reply::Confirm(_)
            | Reply::Snapshot(_) => FIXED_BYTES_MAX,
            Reply::Transfer(TransferReply::Accepted) => FIXED_BYTES_MAX,
            Reply::Transfer(TransferReply::Refused(reason)) => FIXED_BYTES_MAX + reason.len(),
            Reply::Call(answer) => answer.len(),
            Reply::Failed(Failed(reason)) => reason.len(),
        }
    }
}

impl Message {
    /// The frame's `kind`.
    pub fn kind(&self) -> u8 {
        match self {
            Message::Ping => kind::PING,
            Message::Pong => kind::PONG,
            Message::Request(Request::Append(append)) if append.traces.is_empty() => kind::APPEND,
            Message::Request(Request::Append(_)) => kind::APPEND_TRACED,
            Message::Request(Request::Vote(_)) => kind::VOTE,
            Message::Request(Request::Transfer(_)) => kind::TRANSFER,
            Message::Request(Request::Vacancy(_)) => kind::VACANCY,
            Message::Request(Request::Confirm(_)) => kind::CONFIRM,
            Message::Request(Request::Call(_)) => kind::CALL,
            Message::Reply(Reply::Append(_)) => kind::APPEND_REPLY,
            Message::Reply(Reply::Vote(_)) => kind::VOTE_REPLY,
            Message::Reply(Reply::Transfer(_)) => kind::TRANSFER_REPLY,
            Message::Reply(Reply::Vacancy(_)) => kind::VACANCY_REPLY,
            Message::Reply(Reply::Confirm(_)) => kind::CONFIRM_REPLY,
            Message::Reply(Reply::Call(_)) => kind::CALL_REPLY,
            Message::Reply(Reply::Snapshot(_)) => kind::SNAPSHOT_REPLY,
            Message::Reply(Reply::Failed(_)) => kind::FAILED,
            Message::Snapshot(SnapshotPart::Start(_)) => kind::SNAPSHOT_START,
            Message::Snapshot(SnapshotPart::Chunk(_)) => kind::SNAPSHOT_CHUNK,
            Message::Snapshot(SnapshotPart::End(_)) => kind::SNAPSHOT_END,
        }
    }

    /// At least as much as the encoded message takes.
    pub fn bytes(&self) -> usize {
        match self {
            Message::Ping | Message::Pong => 0,
            Message::Request(request) => request.bytes(),
            Message::Reply(reply) => reply.bytes(),
            Message::Snapshot(SnapshotPart::Start(start)) => FIXED_BYTES_MAX + start.meta.len(),
            Message::Snapshot(SnapshotPart::Chunk(chunk)) => chunk.len(),
            Message::Snapshot(SnapshotPart::End(_)) => FIXED_BYTES_MAX,
        }
    }

    /// Appends the message to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Message::Ping | Message::Pong => (),
            Message::Request(request) => encode_request(request, out),
            Message::Reply(reply) => encode_reply(reply, out),
            Message::Snapshot(SnapshotPart::Start(start)) => {
                put_vote(out, start.vote);
                put_optional_log_id(out, start.last);
                out.put_slice(&start.meta);
            }
            Message::Snapshot(SnapshotPart::Chunk(chunk)) => out.put_slice(chunk),
            Message::Snapshot(SnapshotPart::End(end)) => {
                out.put_u64_le(end.bytes);
                out.put_u32_le(end.crc);
            }
        }
    }

    /// The message of that kind in a frame's payload, all of it.
    pub fn decode(kind: u8, payload: Bytes) -> Result<Message, Error> {
        let mut fields = Fields(payload);
        let message = fields.message(kind)?;
        if fields.0.has_remaining() { Err(Error::Long) } else { Ok(message) }
    }
}

fn encode_request(request: &Request, out: &mut BytesMut) {
    match request {
        Request::Append(append) => {
            put_traces(out, &append.traces);
            put_vote(out, append.vote);
            put_optional_log_id(out, append.prev);
            put_optional_log_id(out, append.commit);
            for entry in &append.entries {
                put_log_id(out, entry.id);
                out.put_u8(entry.kind as u8);
                let length = u32::try_from(entry.payload.len());
                out.put_u32_le(length.expect("senders check the size of a message"));
                out.put_slice(&entry.payload);
            }
        }
        Request::Vote(vote) => {
            put_vote(out, vote.vote);
            put_optional_log_id(out, vote.last);
            put_bool(out, vote.pre_vote);
            put_bool(out, vote.leadership_transfer);
        }
        Request::Transfer(transfer) => {
            put_vote(out, transfer.from);
            out.put_u64_le(transfer.to.0);
            put_optional_log_id(out, transfer.last);
        }
        Request::Vacancy(VacancyRequest { vote }) | Request::Confirm(ConfirmRequest { vote }) => {
            put_vote(out, *vote);
        }
        Request::Call(call) => out.put_slice(call),
    }
}

fn encode_reply(reply: &Reply, out: &mut BytesMut) {
    match reply {
        Reply::Append(AppendReply::Accepted(matching)) => {
            out.put_u8(0);
            put_optional_log_id(out, *matching);
        }
        Reply::Append(AppendReply::Conflict(id)) => {
            out.put_u8(1);
            put_log_id(out, *id);
        }
        Reply::Append(AppendReply::HigherVote(vote)) => {
            out.put_u8(2);
            put_vote(out, *vote);
        }
        Reply::Vote(reply) => {
            put_vote(out, reply.vote);
            put_bool(out, reply.granted);
            put_optional_log_id(out, reply.last);
        }
        Reply::Transfer(TransferReply::Accepted) => out.put_u8(0),
        Reply::Transfer(TransferReply::Refused(reason)) => {
            out.put_u8(1);
            out.put_slice(reason.as_bytes());
        }
        Reply::Vacancy(reply) => {
            put_bool(out, reply.vacant);
            put_optional_log_id(out, reply.last);
        }
        Reply::Confirm(reply) => put_bool(out, reply.held),
        Reply::Call(answer) => out.put_slice(answer),
        Reply::Snapshot(reply) => put_vote(out, reply.vote),
        Reply::Failed(Failed(reason)) => out.put_slice(reason.as_bytes()),
    }
}

/// What makes an append one with traces stands first, since its entries have no end of their own.
fn put_traces(out: &mut BytesMut, traces: &[(u32, TraceContext)]) {
    if traces.is_empty() {
        return;
    }
    let count = u32::try_from(traces.len()).expect("no more than there are entries");
    out.put_u32_le(count);
    for (position, trace) in traces {
        out.put_u32_le(*position);
        out.put_slice(&trace.encode());
    }
}

fn put_vote(out: &mut BytesMut, vote: Vote) {
    out.put_u64_le(vote.term);
    out.put_u64_le(vote.node);
    put_bool(out, vote.committed);
}

fn put_log_id(out: &mut BytesMut, id: LogId) {
    out.put_u64_le(id.term);
    out.put_u64_le(id.node);
    out.put_u64_le(id.index);
}

fn put_optional_log_id(out: &mut BytesMut, id: Option<LogId>) {
    put_bool(out, id.is_some());
    if let Some(id) = id {
        put_log_id(out, id);
    }
}

fn put_bool(out: &mut BytesMut, value: bool) {
    out.put_u8(value.into());
}

#[cfg(test)]
mod tests;
