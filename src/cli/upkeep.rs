//! What a member does of its own accord because flags ask for it.

use futures::{FutureExt, future::BoxFuture};

use crate::{
    config::{AutoCompaction, Config},
    node::{
        Node,
        auto_compaction::{self, Retention},
    },
};

/// Runs until it is done or dropped.
pub(super) fn work(config: &Config, node: &Node) -> Vec<BoxFuture<'static, ()>> {
    let mut work = Vec::new();
    let retention = match config.auto_compaction {
        AutoCompaction::Off => None,
        AutoCompaction::Periodic(period) => Some(Retention::Period(period)),
        AutoCompaction::Revision(count) => Some(Retention::Revisions(count)),
    };
    work.extend(retention.map(|kept| auto_compaction::run(node.clone(), kept).boxed()));
    if let megabytes @ 1.. = config.bootstrap_defrag_threshold_megabytes {
        let (space, bytes) = (node.space.clone(), megabytes.saturating_mul(1 << 20));
        work.push(async move { space.defragment_at_start(bytes).await }.boxed());
    }
    work
}
