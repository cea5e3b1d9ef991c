//! Asking the leader: this member itself, or another one over the urgent connection.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use crate::{
    node::answer::Answers,
    proto::peer::{Reply, Request, reply, request},
    raft::{PeerError, Raft},
    types::MemberId,
};

/// Why the leader gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    /// Nobody to ask, or the asked member does not lead: nothing was done.
    #[error("no leader was asked")]
    NoLeader,
    /// The connection ended before an answer: nobody knows.
    #[error("the connection to the leader was lost")]
    ConnectionLost,
    /// No answer in time: nobody knows.
    #[error("the leader did not answer in time")]
    Timeout,
}

/// The way to whoever leads. Clones share it.
#[derive(Clone)]
pub(crate) struct Leader {
    raft: Raft,
    answers: Answers,
}

impl Leader {
    pub(crate) fn new(raft: Raft, answers: Answers) -> Leader {
        Leader { raft, answers }
    }

    pub(crate) fn now(&self) -> Option<MemberId> {
        self.raft.leadership().borrow().leader
    }

    /// Does this member lead?
    pub(crate) fn is_here(&self) -> bool {
        self.now() == Some(self.raft.id())
    }

    /// As [`Leader::ask`], for what may be asked again: gives up as soon as somebody else leads, or
    /// nobody.
    pub(crate) async fn ask_while_it_leads(
        &self,
        request: request::Request,
        timeout: Duration,
    ) -> Result<reply::Reply, AskError> {
        let mut leadership = self.raft.leadership();
        let asked = leadership.borrow_and_update().leader;
        tokio::select! {
            reply = self.ask(request, timeout) => reply,
            _ = leadership.wait_for(|now| now.leader != asked) => Err(AskError::NoLeader),
        }
    }

    /// Asks whoever leads now; a change of leader is the caller's to handle.
    pub(crate) async fn ask(
        &self,
        request: request::Request,
        timeout: Duration,
    ) -> Result<reply::Reply, AskError> {
        let leader = self.now().ok_or(AskError::NoLeader)?;
        let reply = if leader == self.raft.id() {
            let answer = self.answers.answer(request);
            tokio::time::timeout(timeout, answer).await.map_err(|_| AskError::Timeout)?
        } else {
            let request = Request { request: Some(request) };
            let encoded = Bytes::from(request.encode_to_vec());
            let answer = self.raft.call(leader, encoded, timeout).await.map_err(ask_error)?;
            let reply = Reply::decode(answer).map_err(|_| AskError::ConnectionLost)?;
            reply.reply.ok_or(AskError::ConnectionLost)?
        };
        match reply {
            reply::Reply::NotLeader(_) => Err(AskError::NoLeader),
            reply => Ok(reply),
        }
    }
}

fn ask_error(error: PeerError) -> AskError {
    match error {
        error if error.is_unsent() => AskError::NoLeader,
        PeerError::TimedOut => AskError::Timeout,
        _ => AskError::ConnectionLost,
    }
}
