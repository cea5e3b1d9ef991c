//! The state machine in this process as a target: no network, no Raft, and none of the checks that
//! come before them.

use orrery::{
    mvcc::compaction,
    node::Error,
    proto::{
        command::{Command, command::Operation},
        etcdserverpb::{
            CompactionRequest, HashKvResponse, LeaseGrantRequest, LeaseLeasesResponse,
            LeaseRevokeRequest, LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
            ResponseHeader,
        },
    },
    state_machine::{Applied, Entry, Payload, Reply, StateMachine, View},
    storage::{Place, Storage},
    types::{LeaseId, LogId, Revision},
};
use tonic::Status;

use super::{
    answer::{self, Frame, Lines},
    request::Request,
};

/// A store of its own.
pub(crate) struct Machine {
    storage: Storage,
    machine: StateMachine,
    index: u64,
}

impl Machine {
    pub(crate) fn new() -> Machine {
        let storage = Storage::open(Place::Memory).unwrap();
        Machine { machine: StateMachine::open(storage.clone()).unwrap(), storage, index: 0 }
    }

    /// `None` for what the state machine has no part in.
    pub(crate) fn answer(&mut self, request: Request) -> Option<Lines> {
        Some(match self.ask(request)? {
            Ok(lines) => lines,
            Err(error) => answer::error(&Status::from(error)),
        })
    }

    fn ask(&mut self, request: Request) -> Option<Result<Lines, Error>> {
        let frame = Frame::default();
        let operation = match request {
            Request::Put(put) => Operation::Put(put),
            Request::Delete(delete) => Operation::DeleteRange(delete),
            Request::Txn(txn) => Operation::Txn(txn),
            Request::Compact(CompactionRequest { revision, physical }) => {
                Operation::Compact(CompactionRequest { revision, physical })
            }
            // Who proposes chooses the id and raises the time.
            Request::Grant(LeaseGrantRequest { id: 0, .. }) => return None,
            Request::Grant(grant) => Operation::LeaseGrant(grant),
            Request::Alarm(alarm) => Operation::Alarm(alarm),
            Request::Revoke(id) => Operation::LeaseRevoke(LeaseRevokeRequest { id }),
            Request::Range(range) | Request::RangeStream(range) => {
                let read = self.view().keys().range(&range).map_err(Error::from);
                return Some(read.map(|range| frame.range(&range)));
            }
            Request::HashKv(revision) => {
                let hash = self.view().keys().hash_kv(revision).map_err(Error::from);
                return Some(hash.map(|found| {
                    frame.hash_kv(&HashKvResponse {
                        header: Some(self.header()),
                        hash: found.hash,
                        compact_revision: found.compact_revision.map_or(-1, Revision::get),
                        hash_revision: found.hash_revision,
                    })
                }));
            }
            Request::TimeToLive(ask) => return Some(Ok(self.time_to_live(&ask))),
            Request::Leases => return Some(Ok(self.leases())),
            Request::KeepAlive(_)
            | Request::Watch { .. }
            | Request::Cancel { .. }
            | Request::Progress { .. }
            | Request::Events { .. }
            | Request::Next { .. }
            | Request::Silence { .. }
            | Request::Lock { .. }
            | Request::Unlock(_)
            | Request::Campaign { .. }
            | Request::Forge { .. }
            | Request::Proclaim { .. }
            | Request::Leader(_)
            | Request::Resign { .. }
            | Request::Observe(_)
            | Request::Finish(_)
            | Request::Pending(_)
            | Request::Sleep(_)
            | Request::Auth(_) => return None,
        };
        Some(self.apply(operation))
    }

    fn apply(&mut self, operation: Operation) -> Result<Lines, Error> {
        self.index += 1;
        let command = Command { operation: Some(operation), ..Command::default() };
        let id = LogId { term: 1, node: 1, index: self.index };
        let entry = Entry { id, payload: Payload::Command(command) };
        let Applied { reply, .. } = self.machine.apply(vec![entry]).unwrap().remove(0);
        let frame = Frame::default();
        Ok(match reply.map_err(Error::Rejected)? {
            Reply::Put(put) => frame.put(&put),
            Reply::DeleteRange(delete) => frame.delete(&delete),
            Reply::Txn(txn) => frame.txn(&txn),
            Reply::LeaseGrant(grant) => frame.grant(&grant),
            Reply::Compact(_) => {
                while compaction::step(&self.storage).unwrap() {}
                frame.only_header(Some(&self.header()))
            }
            Reply::Done => frame.only_header(Some(&self.header())),
            Reply::Alarm(alarms) => frame.alarm(&alarms),
            reply @ (Reply::Members { .. } | Reply::TokenGiven { .. }) => {
                panic!("{reply:?} was not asked for")
            }
        })
    }

    fn view(&self) -> View {
        View::new(self.storage.snapshot()).unwrap()
    }

    fn header(&self) -> ResponseHeader {
        ResponseHeader { revision: self.machine.revision().get(), ..ResponseHeader::default() }
    }

    /// As for a lease that was granted just now: time is the leader's.
    fn time_to_live(&self, ask: &LeaseTimeToLiveRequest) -> Lines {
        let view = self.view();
        let id = LeaseId::from_wire(ask.id);
        let lease = id.and_then(|id| view.lease(id).unwrap());
        let keys = lease.filter(|_| ask.keys).map(|lease| view.lease_keys(lease.id).unwrap());
        let (ttl, granted_ttl) = lease.map_or((-1, 0), |lease| (lease.ttl_secs, lease.ttl_secs));
        let keys = keys.unwrap_or_default();
        let header = Some(self.header());
        let answer = LeaseTimeToLiveResponse { header, id: ask.id, ttl, granted_ttl, keys };
        Frame::default().time_to_live(&answer)
    }

    fn leases(&self) -> Lines {
        let leases = self.view().leases().unwrap();
        let leases = leases.iter().map(|lease| LeaseStatus { id: lease.id.get() }).collect();
        Frame::default().leases(&LeaseLeasesResponse { header: Some(self.header()), leases })
    }
}
