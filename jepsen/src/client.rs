//! A client of one member: sends a request, notes it with its answer, and never sends it twice.

use std::{error::Error, time::Duration};

use futures::stream;
use orrery::proto::{
    etcdserverpb::{
        RangeRequest, TxnRequest, kv_client::KvClient, lease_client::LeaseClient,
        request_op::Request as Op,
    },
    v3electionpb::election_client::ElectionClient,
    v3lockpb::lock_client::LockClient,
};
use tonic::{Code, Status};

use crate::{
    access::{self, Connection},
    history::{Answer, Call, Failure, Kind, MemberIndex, Nanos, Outcome, Process, Request, Step},
    recorder::Recorder,
};

/// Longer than an answer takes when nothing is broken, shorter than a fault.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);

/// What the services for locks and elections say to whom nothing is left of what it had.
const LOST: [&str; 3] = ["mutex: session is expired", "election: not leader", NO_LEADER];

/// The answer to who leads while nobody does.
pub(crate) const NO_LEADER: &str = "election: no leader";

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Failed {
    /// The request certainly had no effect.
    Surely(Failure),
    /// Nobody knows.
    Perhaps(Failure),
}

impl Failed {
    pub fn failure(&self) -> &Failure {
        match self {
            Failed::Surely(failure) | Failed::Perhaps(failure) => failure,
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Failed::Surely(_) => Kind::Fail,
            Failed::Perhaps(_) => Kind::Info,
        }
    }
}

/// A process of the run, at one member.
#[derive(Debug)]
pub struct Client {
    recorder: Recorder,
    process: Process,
    member: MemberIndex,
    connection: Connection,
    timeout: Duration,
}

impl Client {
    pub fn new(recorder: Recorder, member: MemberIndex) -> Client {
        let process = recorder.new_process();
        Client { recorder, process, member, connection: access::client(member), timeout: TIMEOUT }
    }

    pub fn member(&self) -> MemberIndex {
        self.member
    }

    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    pub fn now(&self) -> Nanos {
        self.recorder.now()
    }

    /// For requests that wait by their nature.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Goes on at another member, as the same process.
    pub fn move_to(&mut self, member: MemberIndex) {
        self.member = member;
        self.connection = access::client(member);
    }

    /// Sends one request and waits for its answer. What became of it is in the history.
    ///
    /// # Errors There is no answer; whether it had an effect may be unknown.
    pub async fn call<A>(&mut self, request: impl Into<Request>) -> Result<A, Failed>
    where
        A: TryFrom<Answer>,
    {
        let request = request.into();
        let began = self.now();
        let answered = tokio::time::timeout(self.timeout, self.send(request.clone())).await;
        let answered = answered.unwrap_or_else(|_| {
            Err(Status::deadline_exceeded(format!("no answer within {:?}", self.timeout)))
        });
        let outcome = match answered {
            Ok(answer) => Outcome::Ok(answer),
            Err(status) => {
                let failure = failure(&status);
                match only_reads(&request) || had_no_effect(&status) {
                    true => Outcome::Fail(failure),
                    false => Outcome::Info(failure),
                }
            }
        };
        let call = Call {
            process: self.process,
            member: self.member,
            began,
            ended: self.now(),
            request,
            outcome: outcome.clone(),
        };
        self.recorder.history().calls.push(call);
        match outcome {
            Outcome::Ok(answer) => answer.try_into().map_err(|_| {
                let code = "Internal".to_owned();
                Failed::Perhaps(Failure { code, message: "an answer of another kind".to_owned() })
            }),
            Outcome::Fail(failure) => Err(Failed::Surely(failure)),
            Outcome::Info(failure) => {
                self.process = self.recorder.new_process();
                Err(Failed::Perhaps(failure))
            }
        }
    }

    /// The process that a step belongs to: take it before the step's first call.
    pub fn process(&self) -> Process {
        self.process
    }

    pub fn note(&self, step: Step) {
        self.recorder.history().steps.push(step);
    }

    async fn send(&self, request: Request) -> Result<Answer, Status> {
        let connection = || self.connection.clone();
        let kv = || KvClient::new(connection()).max_decoding_message_size(usize::MAX);
        let lease = || LeaseClient::new(connection());
        let lock = || LockClient::new(connection());
        let election = || ElectionClient::new(connection());
        Ok(match request {
            Request::Range(it) => kv().range(it).await?.into_inner().into(),
            Request::Put(it) => kv().put(it).await?.into_inner().into(),
            Request::DeleteRange(it) => kv().delete_range(it).await?.into_inner().into(),
            Request::Txn(it) => kv().txn(it).await?.into_inner().into(),
            // Only root may, where there are users.
            Request::Compact(it) => {
                let mut kv = KvClient::new(access::operator(self.member));
                kv.compact(it).await?.into_inner().into()
            }
            Request::LeaseGrant(it) => lease().lease_grant(it).await?.into_inner().into(),
            Request::LeaseRevoke(it) => lease().lease_revoke(it).await?.into_inner().into(),
            Request::LeaseKeepAlive(it) => {
                // The stream stays open on our side until there is an answer.
                let requests = futures::StreamExt::chain(stream::iter([it]), stream::pending());
                let mut answers = lease().lease_keep_alive(requests).await?.into_inner();
                let answer = answers.message().await?;
                answer.ok_or_else(|| Status::unavailable("the stream ended"))?.into()
            }
            Request::LeaseTimeToLive(it) => {
                lease().lease_time_to_live(it).await?.into_inner().into()
            }
            Request::Lock(it) => lock().lock(it).await?.into_inner().into(),
            Request::Unlock(it) => lock().unlock(it).await?.into_inner().into(),
            Request::Campaign(it) => election().campaign(it).await?.into_inner().into(),
            Request::Proclaim(it) => election().proclaim(it).await?.into_inner().into(),
            Request::Leader(it) => election().leader(it).await?.into_inner().into(),
            Request::Resign(it) => election().resign(it).await?.into_inner().into(),
        })
    }
}

fn failure(status: &Status) -> Failure {
    let mut message = status.message().to_owned();
    let mut cause = status.source();
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    Failure { code: format!("{:?}", status.code()), message }
}

fn only_reads(request: &Request) -> bool {
    match request {
        Request::Range(RangeRequest { .. }) | Request::LeaseTimeToLive(_) | Request::Leader(_) => {
            true
        }
        Request::Txn(TxnRequest { success, failure, .. }) => {
            let mut operations = success.iter().chain(failure);
            operations.all(|operation| matches!(operation.request, Some(Op::RequestRange(_))))
        }
        Request::Put(_)
        | Request::DeleteRange(_)
        | Request::Compact(_)
        | Request::LeaseGrant(_)
        | Request::LeaseRevoke(_)
        | Request::LeaseKeepAlive(_)
        | Request::Lock(_)
        | Request::Unlock(_)
        | Request::Campaign(_)
        | Request::Proclaim(_)
        | Request::Resign(_) => false,
    }
}

/// Whether the server refused the request for what it is, or it was never sent.
fn had_no_effect(status: &Status) -> bool {
    match status.code() {
        // etcd has carried out what it refuses for want of space only then.
        Code::ResourceExhausted => !status.message().contains("space exceeded"),
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => true,
        Code::Unknown if LOST.contains(&status.message()) => true,
        Code::Unavailable | Code::Unknown | Code::Internal => never_connected(status),
        Code::Ok | Code::Cancelled | Code::DeadlineExceeded | Code::Aborted | Code::DataLoss => {
            false
        }
    }
}

fn never_connected(status: &Status) -> bool {
    failure(status).message.contains("tcp connect error")
}

#[cfg(test)]
mod tests {
    use orrery::proto::etcdserverpb::{PutRequest, RangeRequest, RequestOp};

    use super::*;

    #[test]
    fn what_only_reads_can_be_said_to_have_failed() {
        let range = RequestOp { request: Some(Op::RequestRange(RangeRequest::default())) };
        let put = RequestOp { request: Some(Op::RequestPut(PutRequest::default())) };
        let txn = |operations: &[&RequestOp]| {
            let success = operations.iter().copied().cloned().collect();
            Request::Txn(TxnRequest { success, ..Default::default() })
        };
        assert!(only_reads(&txn(&[&range, &range])));
        assert!(!only_reads(&txn(&[&range, &put])));
        assert!(!only_reads(&PutRequest::default().into()));
    }

    #[test]
    fn silence_is_never_taken_for_a_refusal() {
        assert!(!had_no_effect(&Status::deadline_exceeded("")));
        assert!(!had_no_effect(&Status::unavailable("etcdserver: request timed out")));
        assert!(had_no_effect(&Status::failed_precondition("etcdserver: too many operations")));
        assert!(!had_no_effect(&Status::unknown("transport error")));
        assert!(had_no_effect(&Status::unknown("election: not leader")));
    }
}
