//! The methods that are served: their names, how many messages go each way, and who may call them.

use crate::node::Standing;

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

/// Who may make a call while authentication is enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Also somebody with a token that is none: to get a good one, or because it is not looked at.
    Open,
    Needs(Standing),
    /// What is asked for decides, so the service judges: in the view that it reads, or when a
    /// command is applied.
    Judged,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Method {
    pub(crate) service: &'static str,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) learner: Learner,
    pub(crate) access: Access,
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

const fn method(service: &'static str, name: &'static str, kind: Kind, access: Access) -> Method {
    Method { service, name, kind, learner: Learner::Refuses, access }
}

const USER: Access = Access::Needs(Standing::User);
const ROOT: Access = Access::Needs(Standing::Root);

const KV: &str = "etcdserverpb.KV";
const WATCH: &str = "etcdserverpb.Watch";
const LEASE: &str = "etcdserverpb.Lease";
const CLUSTER: &str = "etcdserverpb.Cluster";
const MAINTENANCE: &str = "etcdserverpb.Maintenance";
const AUTH: &str = "etcdserverpb.Auth";
const LOCK: &str = "v3lockpb.Lock";
const ELECTION: &str = "v3electionpb.Election";
const REGIONS: &str = "orrery.Regions";
const HEALTH: &str = "grpc.health.v1.Health";

pub(crate) const ALL: &[Method] = &[
    Method { learner: Learner::Depends, ..method(KV, "Range", Kind::Unary, Access::Judged) },
    method(KV, "RangeStream", Kind::ServerStream, Access::Judged),
    method(KV, "Put", Kind::Unary, Access::Judged),
    method(KV, "DeleteRange", Kind::Unary, Access::Judged),
    method(KV, "Txn", Kind::Unary, Access::Judged),
    method(KV, "Compact", Kind::Unary, ROOT),
    method(WATCH, "Watch", Kind::BidiStream, Access::Judged),
    method(LEASE, "LeaseGrant", Kind::Unary, USER),
    method(LEASE, "LeaseRevoke", Kind::Unary, USER),
    method(LEASE, "LeaseKeepAlive", Kind::BidiStream, Access::Judged),
    method(LEASE, "LeaseTimeToLive", Kind::Unary, USER),
    method(LEASE, "LeaseLeases", Kind::Unary, Access::Judged),
    method(CLUSTER, "MemberAdd", Kind::Unary, ROOT),
    method(CLUSTER, "MemberRemove", Kind::Unary, ROOT),
    method(CLUSTER, "MemberUpdate", Kind::Unary, ROOT),
    method(CLUSTER, "MemberList", Kind::Unary, Access::Judged),
    method(CLUSTER, "MemberPromote", Kind::Unary, ROOT),
    method(MAINTENANCE, "Alarm", Kind::Unary, Access::Judged),
    Method { learner: Learner::Serves, ..method(MAINTENANCE, "Status", Kind::Unary, USER) },
    method(MAINTENANCE, "Defragment", Kind::Unary, ROOT),
    method(MAINTENANCE, "Hash", Kind::Unary, ROOT),
    method(MAINTENANCE, "HashKV", Kind::Unary, ROOT),
    Method {
        learner: Learner::Serves,
        ..method(MAINTENANCE, "Snapshot", Kind::ServerStream, ROOT)
    },
    method(MAINTENANCE, "MoveLeader", Kind::Unary, ROOT),
    method(MAINTENANCE, "Downgrade", Kind::Unary, ROOT),
    method(AUTH, "AuthEnable", Kind::Unary, Access::Judged),
    method(AUTH, "AuthDisable", Kind::Unary, Access::Judged),
    method(AUTH, "AuthStatus", Kind::Unary, Access::Needs(Standing::Anybody)),
    method(AUTH, "Authenticate", Kind::Unary, Access::Open),
    method(AUTH, "UserAdd", Kind::Unary, Access::Judged),
    method(AUTH, "UserGet", Kind::Unary, Access::Judged),
    method(AUTH, "UserList", Kind::Unary, Access::Judged),
    method(AUTH, "UserDelete", Kind::Unary, Access::Judged),
    method(AUTH, "UserChangePassword", Kind::Unary, Access::Judged),
    method(AUTH, "UserGrantRole", Kind::Unary, Access::Judged),
    method(AUTH, "UserRevokeRole", Kind::Unary, Access::Judged),
    method(AUTH, "RoleAdd", Kind::Unary, Access::Judged),
    method(AUTH, "RoleGet", Kind::Unary, Access::Judged),
    method(AUTH, "RoleList", Kind::Unary, Access::Judged),
    method(AUTH, "RoleDelete", Kind::Unary, Access::Judged),
    method(AUTH, "RoleGrantPermission", Kind::Unary, Access::Judged),
    method(AUTH, "RoleRevokePermission", Kind::Unary, Access::Judged),
    method(LOCK, "Lock", Kind::Unary, Access::Judged),
    method(LOCK, "Unlock", Kind::Unary, Access::Judged),
    method(ELECTION, "Campaign", Kind::Unary, Access::Judged),
    method(ELECTION, "Proclaim", Kind::Unary, Access::Judged),
    method(ELECTION, "Leader", Kind::Unary, Access::Judged),
    method(ELECTION, "Observe", Kind::ServerStream, Access::Judged),
    method(ELECTION, "Resign", Kind::Unary, Access::Judged),
    Method { learner: Learner::Serves, ..method(REGIONS, "Show", Kind::Unary, USER) },
    method(REGIONS, "SetPriorities", Kind::Unary, ROOT),
    method(REGIONS, "Failover", Kind::Unary, ROOT),
    method(REGIONS, "Offline", Kind::Unary, ROOT),
    method(REGIONS, "Online", Kind::Unary, ROOT),
    method(REGIONS, "Configure", Kind::Unary, ROOT),
    method(HEALTH, "Check", Kind::Unary, Access::Open),
    method(HEALTH, "Watch", Kind::ServerStream, Access::Open),
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

    /// What must be asked of a caller before anything else is looked at, and what is left to the
    /// service. A method that is missing here is one that nobody has thought about.
    #[test]
    fn who_may_call_a_method_is_settled_for_each() {
        let of = |access: Access| {
            let methods = ALL.iter().filter(|method| method.access == access);
            methods.map(|method| method.name).collect::<Vec<_>>()
        };
        assert_eq!(of(Access::Open), ["Authenticate", "Check", "Watch"]);
        assert_eq!(of(Access::Needs(Standing::Anybody)), ["AuthStatus"]);
        assert_eq!(of(USER), ["LeaseGrant", "LeaseRevoke", "LeaseTimeToLive", "Status", "Show"]);
        assert_eq!(
            of(ROOT),
            [
                "Compact",
                "MemberAdd",
                "MemberRemove",
                "MemberUpdate",
                "MemberPromote",
                "Defragment",
                "Hash",
                "HashKV",
                "Snapshot",
                "MoveLeader",
                "Downgrade",
                "SetPriorities",
                "Failover",
                "Offline",
                "Online",
                "Configure",
            ]
        );
        let of_keys = ["Range", "RangeStream", "Put", "DeleteRange", "Txn", "Watch"];
        let of_leases = ["LeaseKeepAlive", "LeaseLeases", "MemberList", "Alarm"];
        let of_auth = [
            "AuthEnable",
            "AuthDisable",
            "UserAdd",
            "UserGet",
            "UserList",
            "UserDelete",
            "UserChangePassword",
            "UserGrantRole",
            "UserRevokeRole",
            "RoleAdd",
            "RoleGet",
            "RoleList",
            "RoleDelete",
            "RoleGrantPermission",
            "RoleRevokePermission",
        ];
        let of_queues = ["Lock", "Unlock", "Campaign", "Proclaim", "Leader", "Observe", "Resign"];
        let judged = [&of_keys[..], &of_leases, &of_auth, &of_queues].concat();
        assert_eq!(of(Access::Judged), judged);
    }

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
