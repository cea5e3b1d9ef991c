//! What clients do during a run. Each workload is a client's next operation, how a run of it
//! begins, and what is read at the end.

mod append;
mod bank;
mod counter;
mod election;
mod guarded;
mod lease;
mod leased;
mod lock;
mod mix;
mod register;
mod serializable;
mod session;
mod set;
mod watch;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::{
    client::{Client, Failed},
    history::{Kind, Nanos, Process, Step},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Workload {
    /// Reads, writes and compare-and-swap of single keys.
    Register,
    /// Elements that are added, each a key of its own.
    Set,
    /// Additions to one number.
    Counter,
    /// Transactions that append to lists.
    Append,
    /// Transactions that write registers.
    Wr,
    /// Transfers between accounts, whose total never changes; also read at old revisions.
    Bank,
    /// Everything the key space offers, with leases and compaction.
    Mix,
    /// Watchers of every kind, beside clients that write.
    Watch,
    /// Leases that are kept for some time and then left to expire.
    Lease,
    /// A lock, and adds that are carried out only while whoever has it does.
    LockFenced,
    /// A lock, and adds that rely on it alone: some must be lost, or nothing would be found.
    LockUnfenced,
    /// Clients that go from member to member, and read what they and others wrote.
    Session,
    /// Reads without a quorum, by clients that stay at a member.
    Serializable,
    /// Candidates, leaders and their observers.
    Election,
}

/// What the clients of a run share.
#[derive(Debug, Default)]
pub struct Shared {
    /// Values that no operation has used.
    next: AtomicU64,
    /// The newest revision that any answer gave.
    newest: AtomicI64,
    /// The newest revision that whoever records all events has seen: nothing above is compacted.
    recorded: AtomicI64,
    leases: Mutex<Vec<i64>>,
}

impl Shared {
    pub fn unique(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub fn saw(&self, revision: i64) {
        self.newest.fetch_max(revision, Ordering::Relaxed);
    }

    pub fn newest(&self) -> i64 {
        self.newest.load(Ordering::Relaxed)
    }

    pub fn record(&self, revision: i64) {
        self.recorded.fetch_max(revision, Ordering::Relaxed);
    }

    pub fn recorded(&self) -> i64 {
        self.recorded.load(Ordering::Relaxed)
    }

    fn leases(&self) -> std::sync::MutexGuard<'_, Vec<i64>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client with what it needs to choose its next operation.
#[derive(Debug)]
pub struct Worker {
    /// Which of the clients it is, from 0 on.
    pub number: usize,
    /// How many members there are to go to.
    pub members: usize,
    pub client: Client,
    pub random: StdRng,
    pub shared: Arc<Shared>,
}

impl Workload {
    pub const ALL: [Workload; 14] = [
        Workload::Register,
        Workload::Set,
        Workload::Counter,
        Workload::Append,
        Workload::Wr,
        Workload::Bank,
        Workload::Mix,
        Workload::Watch,
        Workload::Lease,
        Workload::LockFenced,
        Workload::LockUnfenced,
        Workload::Session,
        Workload::Serializable,
        Workload::Election,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Workload::Register => "register",
            Workload::Set => "set",
            Workload::Counter => "counter",
            Workload::Append => "append",
            Workload::Wr => "wr",
            Workload::Bank => "bank",
            Workload::Mix => "mix",
            Workload::Watch => "watch",
            Workload::Lease => "lease",
            Workload::LockFenced => "lock-fenced",
            Workload::LockUnfenced => "lock-unfenced",
            Workload::Session => "session",
            Workload::Serializable => "serializable",
            Workload::Election => "election",
        }
    }

    /// Whether its checker must find it wrong, or the harness is broken.
    pub fn must_fail(self) -> bool {
        self == Workload::LockUnfenced
    }

    /// Before anything is broken.
    ///
    /// # Errors The cluster does not take it.
    pub async fn begin(self, worker: &mut Worker) -> Result<(), Failed> {
        match self {
            Workload::Bank => bank::begin(worker).await,
            Workload::Counter => counter::begin(worker).await,
            Workload::Register
            | Workload::Set
            | Workload::Append
            | Workload::Wr
            | Workload::Mix
            | Workload::Watch
            | Workload::Lease
            | Workload::LockFenced
            | Workload::LockUnfenced
            | Workload::Session
            | Workload::Serializable
            | Workload::Election => Ok(()),
        }
    }

    /// A client's next operation.
    pub async fn step(self, worker: &mut Worker) {
        match self {
            Workload::Register => register::step(worker).await,
            Workload::Set => set::step(worker).await,
            Workload::Counter => counter::step(worker).await,
            Workload::Append => append::step(worker, append::Kind::Append).await,
            Workload::Wr => append::step(worker, append::Kind::Write).await,
            Workload::Bank => bank::step(worker).await,
            Workload::Mix => mix::step(worker).await,
            Workload::Watch => watch::step(worker).await,
            Workload::Lease => lease::step(worker).await,
            Workload::LockFenced => lock::step(worker, lock::Kind::Fenced).await,
            Workload::LockUnfenced => lock::step(worker, lock::Kind::Unfenced).await,
            Workload::Session => session::step(worker).await,
            Workload::Serializable => serializable::step(worker).await,
            Workload::Election => election::step(worker).await,
        }
    }

    /// After everything was put right: what must be read for a verdict.
    ///
    /// # Errors The cluster does not answer.
    pub async fn end(self, worker: &mut Worker) -> Result<(), Failed> {
        match self {
            Workload::Set => set::end(worker).await,
            Workload::Counter => counter::end(worker).await,
            Workload::Bank => bank::end(worker).await,
            Workload::LockFenced => lock::end(worker, lock::Kind::Fenced).await,
            Workload::LockUnfenced => lock::end(worker, lock::Kind::Unfenced).await,
            Workload::Register
            | Workload::Append
            | Workload::Wr
            | Workload::Mix
            | Workload::Watch
            | Workload::Lease
            | Workload::Session
            | Workload::Serializable
            | Workload::Election => Ok(()),
        }
    }

    /// Between two operations of one client, so that all together send some hundred a second.
    pub fn pause(self) -> Duration {
        Duration::from_millis(40)
    }
}

/// A step under way.
struct Begun {
    process: Process,
    began: Nanos,
    f: &'static str,
    key: Option<String>,
    value: Value,
}

impl Worker {
    fn begin(&self, f: &'static str, key: Option<&str>, value: Value) -> Begun {
        let (process, began) = (self.client.process(), self.client.now());
        Begun { process, began, f, key: key.map(str::to_owned), value }
    }

    /// Notes what came of a step; an answer comes with its revision.
    fn end(&self, begun: Begun, ended: Result<(Value, i64), Failed>) {
        let Begun { process, began, f, key, value } = begun;
        let (kind, result, revision, error) = match ended {
            Ok((result, revision)) => (Kind::Ok, result, revision, String::new()),
            Err(failed) => {
                let failure = failed.failure();
                let error = format!("{}: {}", failure.code, failure.message);
                (failed.kind(), json!(null), 0, error)
            }
        };
        self.shared.saw(revision);
        self.client.note(Step {
            process,
            member: self.client.member(),
            f: f.to_owned(),
            key,
            value,
            began,
            ended: self.client.now(),
            kind,
            result,
            revision,
            error,
        });
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn a_history_names_a_workload_as_whoever_runs_it_does() {
        assert_eq!(Workload::ALL, Workload::value_variants());
        for workload in Workload::ALL {
            let named = Workload::from_str(workload.name(), false);
            assert_eq!(named, Ok(workload));
        }
    }
}
