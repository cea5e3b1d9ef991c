//! Reading the fields of a message.

use bytes::{Buf, Bytes};

use super::{
    AppendReply, AppendRequest, ConfirmReply, ConfirmRequest, Error, Failed, Message, Reply,
    Request, SnapshotEnd, SnapshotPart, SnapshotReply, SnapshotStart, TransferReply,
    TransferRequest, VacancyReply, VacancyRequest, VoteReply, VoteRequest, kind,
};
use crate::{
    log::{Entry, EntryKind},
    types::{LogId, MemberId, TraceContext, Vote},
};

/// What is left of a payload, read field by field.
pub(super) struct Fields(pub(super) Bytes);

impl Fields {
    pub(super) fn message(&mut self, kind: u8) -> Result<Message, Error> {
        Ok(match kind {
            kind::PING => Message::Ping,
            kind::PONG => Message::Pong,
            kind::APPEND => Message::Request(Request::Append(self.append(Vec::new())?)),
            kind::APPEND_TRACED => {
                let traces = self.traces()?;
                Message::Request(Request::Append(self.append(traces)?))
            }
            kind::VOTE => Message::Request(Request::Vote(VoteRequest {
                vote: self.vote()?,
                last: self.optional_log_id()?,
                pre_vote: self.bool()?,
                leadership_transfer: self.bool()?,
            })),
            kind::TRANSFER => Message::Request(Request::Transfer(TransferRequest {
                from: self.vote()?,
                to: MemberId(self.u64()?),
                last: self.optional_log_id()?,
            })),
            kind::VACANCY => {
                Message::Request(Request::Vacancy(VacancyRequest { vote: self.vote()? }))
            }
            kind::CONFIRM => {
                Message::Request(Request::Confirm(ConfirmRequest { vote: self.vote()? }))
            }
            kind::CALL => Message::Request(Request::Call(self.rest())),
            kind::APPEND_REPLY => Message::Reply(Reply::Append(match self.u8()? {
                0 => AppendReply::Accepted(self.optional_log_id()?),
                1 => AppendReply::Conflict(self.log_id()?),
                2 => AppendReply::HigherVote(self.vote()?),
                _ => return Err(Error::Value),
            })),
            kind::VOTE_REPLY => Message::Reply(Reply::Vote(VoteReply {
                vote: self.vote()?,
                granted: self.bool()?,
                last: self.optional_log_id()?,
            })),
            kind::TRANSFER_REPLY => Message::Reply(Reply::Transfer(match self.u8()? {
                0 => TransferReply::Accepted,
                1 => TransferReply::Refused(self.text()?),
                _ => return Err(Error::Value),
            })),
            kind::CONFIRM_REPLY => {
                Message::Reply(Reply::Confirm(ConfirmReply { held: self.bool()? }))
            }
            kind::VACANCY_REPLY => Message::Reply(Reply::Vacancy(VacancyReply {
                vacant: self.bool()?,
                last: self.optional_log_id()?,
            })),
            kind::CALL_REPLY => Message::Reply(Reply::Call(self.rest())),
            kind::SNAPSHOT_START => Message::Snapshot(SnapshotPart::Start(SnapshotStart {
                vote: self.vote()?,
                last: self.optional_log_id()?,
                meta: self.rest(),
            })),
            kind::SNAPSHOT_CHUNK => Message::Snapshot(SnapshotPart::Chunk(self.rest())),
            kind::SNAPSHOT_END => Message::Snapshot(SnapshotPart::End(SnapshotEnd {
                bytes: self.u64()?,
                crc: self.u32()?,
            })),
            kind::SNAPSHOT_REPLY => {
                Message::Reply(Reply::Snapshot(SnapshotReply { vote: self.vote()? }))
            }
            kind::FAILED => Message::Reply(Reply::Failed(Failed(self.text()?))),
            unknown => return Err(Error::Kind(unknown)),
        })
    }

    /// At least one, or the message would have another kind.
    fn traces(&mut self) -> Result<Vec<(u32, TraceContext)>, Error> {
        let count = self.u32()?;
        if count == 0 {
            return Err(Error::Value);
        }
        let mut traces = Vec::new();
        for _ in 0..count {
            let position = self.u32()?;
            if self.0.len() < TraceContext::BYTES {
                return Err(Error::Short);
            }
            let context = self.0.split_to(TraceContext::BYTES);
            traces.push((position, TraceContext::decode(&context).ok_or(Error::Value)?));
        }
        Ok(traces)
    }

    fn append(&mut self, traces: Vec<(u32, TraceContext)>) -> Result<AppendRequest, Error> {
        let (vote, prev) = (self.vote()?, self.optional_log_id()?);
        let commit = self.optional_log_id()?;
        let mut entries = Vec::new();
        while self.0.has_remaining() {
            entries.push(self.entry()?);
        }
        Ok(AppendRequest { vote, prev, entries, commit, traces })
    }

    fn entry(&mut self) -> Result<Entry, Error> {
        let id = self.log_id()?;
        let kind = match self.u8()? {
            0 => EntryKind::Blank,
            1 => EntryKind::Command,
            2 => EntryKind::Membership,
            _ => return Err(Error::Value),
        };
        let length = self.u32()? as usize;
        if length > self.0.len() {
            return Err(Error::Short);
        }
        Ok(Entry { id, kind, payload: self.0.split_to(length) })
    }

    fn vote(&mut self) -> Result<Vote, Error> {
        Ok(Vote { term: self.u64()?, node: self.u64()?, committed: self.bool()? })
    }

    fn log_id(&mut self) -> Result<LogId, Error> {
        Ok(LogId { term: self.u64()?, node: self.u64()?, index: self.u64()? })
    }

    fn optional_log_id(&mut self) -> Result<Option<LogId>, Error> {
        if self.bool()? { self.log_id().map(Some) } else { Ok(None) }
    }

    fn text(&mut self) -> Result<String, Error> {
        String::from_utf8(self.rest().to_vec()).map_err(|_| Error::Value)
    }

    fn rest(&mut self) -> Bytes {
        self.0.split_off(0)
    }

    fn bool(&mut self) -> Result<bool, Error> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Error::Value),
        }
    }

    fn u8(&mut self) -> Result<u8, Error> {
        self.0.try_get_u8().map_err(|_| Error::Short)
    }

    fn u32(&mut self) -> Result<u32, Error> {
        self.0.try_get_u32_le().map_err(|_| Error::Short)
    }

    fn u64(&mut self) -> Result<u64, Error> {
        self.0.try_get_u64_le().map_err(|_| Error::Short)
    }
}
