//! How long requests took, by what they asked for.

use std::{sync::OnceLock, time::Duration};

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::{Histogram, Labels, from_1_ms};

/// What a request asks for, named as etcd names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Range,
    ReadonlyTxn,
    Put,
    DeleteRange,
    Txn,
    Compaction,
    LeaseGrant,
    LeaseRevoke,
    LeaseCheckpoint,
    Alarm,
    Authenticate,
    AuthEnable,
    AuthDisable,
    AuthUserAdd,
    AuthUserDelete,
    AuthUserChangePassword,
    AuthUserGrantRole,
    AuthUserRevokeRole,
    AuthRoleAdd,
    AuthRoleDelete,
    AuthRoleGrantPermission,
    AuthRoleRevokePermission,
    ClusterVersionSet,
    ClusterMemberAttrSet,
    DowngradeInfoSet,
}

impl Operation {
    const COUNT: usize = Operation::DowngradeInfoSet as usize + 1;
}

pub struct Operations {
    applied: Timed,
    requested: Timed,
    read: Timed,
    slow: Counter,
}

impl Default for Operations {
    fn default() -> Operations {
        let fast = || Histogram::doubling(0.0001, 20);
        Operations {
            applied: Timed::new(fast),
            requested: Timed::new(from_1_ms),
            read: Timed::new(fast),
            slow: Counter::default(),
        }
    }
}

impl Operations {
    /// Entries of a kind were applied, each of which took that long.
    pub fn applied(&self, operation: Operation, succeeded: bool, took: Duration) {
        let labels = |success: String| {
            let op = ("op", format!("{operation:?}"));
            vec![("version", "v3".to_owned()), op, ("success", success)]
        };
        self.applied.histogram(operation, succeeded, labels).observe(took);
    }

    /// So many entries took longer than `--warning-apply-duration`.
    pub fn slow(&self, entries: u32) {
        self.slow.inc_by(entries.into());
    }

    /// From the request to the answer of the group.
    pub fn requested(&self, operation: Operation, succeeded: bool, took: Duration) {
        let labels =
            |success: String| vec![("type", format!("{operation:?}")), ("success", success)];
        self.requested.histogram(operation, succeeded, labels).observe(took);
    }

    /// A range was read in a view.
    pub fn read(&self, succeeded: bool, took: Duration) {
        let labels = |success: String| vec![("success", success)];
        self.read.histogram(Operation::Range, succeeded, labels).observe(took);
    }

    #[rustfmt::skip] // a table
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("etcd_server_apply_duration_seconds",
            "Applying entries; those applied with one write share its time evenly",
            self.applied.family.clone());
        registry.register("etcd_server_request_duration_seconds",
            "Requests from their arrival to their outcome", self.requested.family.clone());
        registry.register("etcd_server_range_duration_seconds",
            "Reading ranges", self.read.family.clone());
        registry.register("etcd_server_slow_apply", "Entries that took long to apply", self.slow.clone());
    }
}

/// Histograms that come into being when they are first used, as etcd's do.
struct Timed {
    family: Family<Labels, Histogram, fn() -> Histogram>,
    /// By operation, then failed and succeeded: looked up once each.
    found: [[OnceLock<Histogram>; 2]; Operation::COUNT],
}

impl Timed {
    fn new(constructor: fn() -> Histogram) -> Timed {
        Timed { family: Family::new_with_constructor(constructor), found: Default::default() }
    }

    fn histogram(
        &self,
        operation: Operation,
        succeeded: bool,
        labels: impl FnOnce(String) -> Labels,
    ) -> &Histogram {
        self.found[operation as usize][usize::from(succeeded)]
            .get_or_init(|| self.family.get_or_create_owned(&labels(succeeded.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;

    use super::*;

    #[test]
    fn an_operation_is_shown_once_it_was_done() {
        let operations = Operations::default();
        let mut registry = Registry::default();
        operations.register(&mut registry);
        operations.applied(Operation::Put, true, Duration::from_micros(150));
        operations.applied(Operation::Put, true, Duration::from_millis(101));
        operations.slow(1);
        operations.requested(Operation::ClusterMemberAttrSet, false, Duration::from_secs(9));
        operations.read(false, Duration::from_nanos(1));
        let mut page = String::new();
        text::encode(&mut page, &registry).unwrap();
        for line in [
            r#"etcd_server_apply_duration_seconds_bucket{le="0.0002",version="v3",op="Put",success="true"} 1"#,
            r#"etcd_server_apply_duration_seconds_count{version="v3",op="Put",success="true"} 2"#,
            r#"etcd_server_request_duration_seconds_count{type="ClusterMemberAttrSet",success="false"} 1"#,
            r#"etcd_server_request_duration_seconds_bucket{le="8.192",type="ClusterMemberAttrSet",success="false"} 0"#,
            r#"etcd_server_range_duration_seconds_count{success="false"} 1"#,
            "etcd_server_slow_apply_total 1",
        ] {
            assert!(page.lines().any(|it| it == line), "{line}\n{page}");
        }
        assert!(!page.contains("DeleteRange"));
    }
}
