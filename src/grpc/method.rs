//! The methods that are served: their names, and how many messages go each way.

/// In Prometheus's words, since that is where it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Unary,
    ServerStream,
    BidiStream,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Unary => "unary",
            Kind::ServerStream => "server_stream",
            Kind::BidiStream => "bidi_stream",
        }
    }

    pub(crate) fn is_stream(self) -> bool {
        match self {
            Kind::Unary => false,
            Kind::ServerStream | Kind::BidiStream => true,
        }
    }
}

/// What of a method a learner serves: only what needs no agreement with anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Learner {
    Serves,
    /// The request decides, so the service asks [`Admission`](crate::grpc::gate::Admission) itself.
    Depends,
    Refuses,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Method {
    pub(crate) service: &'static str,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) learner: Learner,
}

impl Method {
    pub(crate) fn is_txn(&self) -> bool {
        self.service == KV && self.name == "Txn"
    }

    /// Whether a call takes as long as others please, so that a stop of the server must end it.
    pub(crate) fn is_endless(&self) -> bool {
        let waits = matches!((self.service, self.name), (LOCK, "Lock") | (ELECTION, "Campaign"));
        waits || self.kind.is_stream()
    }
}

const fn method(service: &'static str, name: &'static str, kind: Kind) -> Method {
    Method { service, name, kind, learner: Learner::Refuses }
}

const KV: &str = "etcdserverpb.KV";
const WATCH: &str = "etcdserverpb.Watch";
const LEASE: &str = "etcdserverpb.Lease";
const CLUSTER: &str = "etcdserverpb.Cluster";
const MAINTENANCE: &str = "etcdserverpb.Maintenance";
const LOCK: &str = "v3lockpb.Lock";
const ELECTION: &str = "v3electionpb.Election";
const HEALTH: &str = "grpc.health.v1.Health";

pub(crate) const ALL: &[Method] = &[
    Method { learner: Learner::Depends, ..method(KV, "Range", Kind::Unary) },
    method(KV, "RangeStream", Kind::ServerStream),
    method(KV, "Put", Kind::Unary),
    method(KV, "DeleteRange", Kind::Unary),
    method(KV, "Txn", Kind::Unary),
    method(KV, "Compact", Kind::Unary),
    method(WATCH, "Watch", Kind::BidiStream),
    method(LEASE, "LeaseGrant", Kind::Unary),
    method(LEASE, "LeaseRevoke", Kind::Unary),
    method(LEASE, "LeaseKeepAlive", Kind::BidiStream),
    method(LEASE, "LeaseTimeToLive", Kind::Unary),
    method(LEASE, "LeaseLeases", Kind::Unary),
    method(CLUSTER, "MemberAdd", Kind::Unary),
    method(CLUSTER, "MemberRemove", Kind::Unary),
    method(CLUSTER, "MemberUpdate", Kind::Unary),
    method(CLUSTER, "MemberList", Kind::Unary),
    method(CLUSTER, "MemberPromote", Kind::Unary),
    method(MAINTENANCE, "Alarm", Kind::Unary),
    Method { learner: Learner::Serves, ..method(MAINTENANCE, "Status", Kind::Unary) },
    method(MAINTENANCE, "Defragment", Kind::Unary),
    method(MAINTENANCE, "Hash", Kind::Unary),
    method(MAINTENANCE, "HashKV", Kind::Unary),
    Method { learner: Learner::Serves, ..method(MAINTENANCE, "Snapshot", Kind::ServerStream) },
    method(MAINTENANCE, "MoveLeader", Kind::Unary),
    method(MAINTENANCE, "Downgrade", Kind::Unary),
    method(LOCK, "Lock", Kind::Unary),
    method(LOCK, "Unlock", Kind::Unary),
    method(ELECTION, "Campaign", Kind::Unary),
    method(ELECTION, "Proclaim", Kind::Unary),
    method(ELECTION, "Leader", Kind::Unary),
    method(ELECTION, "Observe", Kind::ServerStream),
    method(ELECTION, "Resign", Kind::Unary),
    method(HEALTH, "Check", Kind::Unary),
    method(HEALTH, "Watch", Kind::ServerStream),
];

/// Splits the path of a call; `None` when it is not of the form `/service/method`.
pub(crate) fn names(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix('/')?.split_once('/')
}

/// Position of a method in [`ALL`].
pub(crate) fn position(path: &str) -> Option<usize> {
    let (service, name) = names(path)?;
    // Some thirty short comparisons, most of which end at the length.
    ALL.iter().position(|method| method.name == name && method.service == service)
}

pub(crate) fn is_service(service: &str) -> bool {
    ALL.iter().any(|method| method.service == service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_found_by_its_path() {
        for (at, method) in ALL.iter().enumerate() {
            assert_eq!(position(&format!("/{}/{}", method.service, method.name)), Some(at));
        }
        for path in ["", "/", "/etcdserverpb.KV", "/etcdserverpb.KV/range", "/KV/Range"] {
            assert_eq!(position(path), None, "{path}");
        }
    }
}
