//! What happened in a run, as everybody outside the server saw it: the input of every checker, and
//! the file that a run leaves.
//!
//! There are two views of what clients did. A [`Step`] is what a workload meant, in Jepsen's words
//! ("append 3 to the list k"); a [`Call`] is one request on the wire with its whole answer. One
//! step is often several calls. All times are nanoseconds of one monotonic clock since the run
//! began.

mod calls;
mod file;
mod wire;

use std::collections::BTreeMap;

use orrery::proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use calls::{Answer, Request};

/// The revision that a header gives; 0 without one.
pub fn revision(header: Option<&ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

/// Nanoseconds since the run began.
pub type Nanos = u64;

/// Place of a member in the cluster, from 0 on. Members that are added later go on counting.
pub type MemberIndex = usize;

/// A client's thread of work: one thing after the other. Who does not know what became of its last
/// operation goes on under a new number, as in Jepsen.
pub type Process = u64;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    pub run: Run,
    pub steps: Vec<Step>,
    pub calls: Vec<Call>,
    pub watches: Vec<Watch>,
    pub faults: Vec<Fault>,
    pub samples: Vec<Sample>,
    pub ending: Ending,
}

/// Which run it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// "orrery" or "etcd", with the version that it gives.
    pub server: String,
    pub workload: String,
    pub nemesis: String,
    pub seed: u64,
    pub members: usize,
    /// How long clients and nemesis were at work, before the cluster was healed.
    pub duration: Nanos,
    /// Wall clock at the beginning, in RFC 3339.
    pub began_at: String,
}

/// How something ended, as far as a client can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Done, and the answer is known.
    Ok,
    /// Certainly without effect.
    Fail,
    /// Nobody can say.
    Info,
}

/// One operation of a workload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub process: Process,
    pub member: MemberIndex,
    /// What was to be done, in the workload's word: "read", "cas", "txn".
    pub f: String,
    /// The register, list or account it is about; `None` where the operation names several.
    pub key: Option<String>,
    /// The argument; a read has null.
    pub value: Value,
    pub began: Nanos,
    /// When the client knew, or gave up.
    pub ended: Nanos,
    pub kind: Kind,
    /// What was answered, where `kind` is [`Kind::Ok`]; otherwise null.
    pub result: Value,
    /// The revision in the header of the answer that decided it; 0 where there is none.
    pub revision: i64,
    /// The server's or the client's words where it is not ok.
    pub error: String,
}

/// One request to one member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    pub process: Process,
    pub member: MemberIndex,
    pub began: Nanos,
    pub ended: Nanos,
    pub request: Request,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    Ok(Answer),
    /// Certainly without effect.
    Fail(Failure),
    /// Nobody can say.
    Info(Failure),
}

/// What a client was told instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The name of the gRPC code: "Unavailable", "DeadlineExceeded".
    pub code: String,
    pub message: String,
}

/// One watcher, from its creation to the end of its stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watch {
    /// Whose watcher it is. A watcher that resumes elsewhere is a new [`Watch`] under the same name.
    pub name: String,
    pub member: MemberIndex,
    pub began: Nanos,
    pub ended: Nanos,
    #[serde(with = "wire")]
    pub request: WatchCreateRequest,
    #[serde(with = "wire::timed")]
    pub received: Vec<(Nanos, WatchResponse)>,
    /// Why the stream ended; empty when the run ended.
    pub error: String,
}

/// Something that was broken on purpose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    /// The nemesis: "kill", "partition-leader".
    pub name: String,
    /// Whom it hit; empty where it is everybody or nobody in particular.
    pub members: Vec<MemberIndex>,
    /// What exactly was done, for people.
    pub detail: String,
    pub began: Nanos,
    /// When it was undone.
    pub ended: Nanos,
    /// When the cluster acknowledged a write again after it ended; `None` when it did not within
    /// the deadline.
    pub recovered: Option<Nanos>,
    /// The longest time in which no client anywhere was answered, from its beginning to its end
    /// and the first answer after it.
    #[serde(default)]
    pub outage: Nanos,
    /// What shows that it took effect: "leader changed from 0 to 2", "41 requests failed". `None`
    /// when nothing does, and then the run proves little.
    pub evidence: Option<String>,
    /// Whether a quorum of members could work during it: then clients must be served.
    pub quorum_lives: bool,
    /// Whether it hit the member that led.
    pub hit_leader: bool,
}

/// One look at a member.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub at: Nanos,
    pub member: MemberIndex,
    /// `None` when it did not answer.
    pub state: Option<MemberState>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberState {
    pub leads: bool,
    pub is_learner: bool,
    pub term: u64,
    pub applied: u64,
    pub revision: i64,
    pub db_size: i64,
}

/// What was found after the cluster was healed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    /// How long after healing every member answered and agreed; `None` when not in time.
    pub healed_in: Option<Nanos>,
    /// HashKV at the same revision: member, hash, compact revision.
    pub hashes: BTreeMap<MemberIndex, (u32, i64)>,
    pub hash_revision: i64,
    /// Lines of the members' logs that no run may have, with the member.
    pub panics: Vec<(MemberIndex, String)>,
    /// Members that ended by themselves.
    pub ended_alone: Vec<(MemberIndex, String)>,
    /// Leaders there were, by term.
    pub leaders: BTreeMap<u64, MemberIndex>,
}

impl History {
    /// When answers came that show that a quorum works, each with when it was asked for, in order.
    /// A serializable read needs nobody else, and shows nothing.
    pub fn signs_of_life(&self) -> Vec<(Nanos, Nanos)> {
        let alone = |request: &Request| match request {
            Request::Range(range) => range.serializable,
            _ => false,
        };
        let calls = self.calls.iter().filter(|call| matches!(call.outcome, Outcome::Ok(_)));
        let calls = calls.filter(|call| !alone(&call.request));
        let mut signs: Vec<_> = calls.map(|call| (call.ended, call.began)).collect();
        if self.calls.is_empty() {
            // A history that somebody wrote by hand.
            let steps = self.steps.iter().filter(|step| step.kind == Kind::Ok);
            signs.extend(steps.map(|step| (step.ended, step.began)));
        }
        signs.sort_unstable();
        signs
    }
}
