//! Compaction that nobody asks for: the leader proposes it, by time or by revisions.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    node::{Caller, Error, Node},
    proto::etcdserverpb::CompactionRequest,
    state_machine::Rejection,
};

/// What is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// This much time.
    Period(Duration),
    /// This many revisions.
    Revisions(u64),
}

/// A long period is compacted every hour, as in etcd.
const INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);

/// Looks at the clock in one interval: how exact a period is.
const LOOKS: u32 = 10;

/// How often revisions are counted, as in etcd.
const REVISIONS_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Compacts for ever, while this member leads.
pub async fn run(node: Node, retention: Retention) {
    match retention {
        Retention::Period(period) => by_time(node, period).await,
        Retention::Revisions(count) => by_revisions(node, count).await,
    }
}

async fn by_time(node: Node, period: Duration) {
    let mut history = History::new(period, Instant::now());
    loop {
        tokio::time::sleep(history.pause()).await;
        let Some(revision) = history.look(current(&node), Instant::now()) else { continue };
        if !leads(&node) {
            continue;
        }
        let start = Instant::now();
        info!(revision, compact_period = ?period, "starting auto periodic compaction");
        match compact(&node, revision).await {
            Ok(()) => {
                history.compacted(revision, Instant::now());
                let took = start.elapsed();
                info!(
                    revision,
                    compact_period = ?period,
                    ?took,
                    "completed auto periodic compaction"
                );
            }
            Err(error) => {
                warn!(
                    revision,
                    compact_period = ?period,
                    retry_interval = ?history.pause(),
                    %error,
                    "failed auto periodic compaction"
                );
            }
        }
    }
}

async fn by_revisions(node: Node, count: u64) {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let mut done = 0;
    loop {
        tokio::time::sleep(REVISIONS_INTERVAL).await;
        let revision = current(&node).saturating_sub(count);
        if revision <= 0 || revision == done || !leads(&node) {
            continue;
        }
        let start = Instant::now();
        info!(revision, revision_compaction_retention = count, "starting auto revision compaction");
        match compact(&node, revision).await {
            Ok(()) => {
                done = revision;
                info!(
                    revision,
                    revision_compaction_retention = count,
                    took = ?start.elapsed(),
                    "completed auto revision compaction"
                );
            }
            Err(error) => warn!(
                revision,
                revision_compaction_retention = count,
                retry_interval = ?REVISIONS_INTERVAL,
                %error,
                "failed auto revision compaction"
            ),
        }
    }
}

/// What the revision was, as far back as the period goes.
struct History {
    period: Duration,
    /// One for each look, oldest first; as many as a period has looks, and one.
    revisions: VecDeque<i64>,
    last: Instant,
    /// Time to the next compaction: the whole period before the first one.
    interval: Duration,
    done: i64,
}

impl History {
    fn new(period: Duration, now: Instant) -> History {
        History { period, revisions: VecDeque::new(), last: now, interval: period, done: 0 }
    }

    fn pause(&self) -> Duration {
        // A period of less than that is no period.
        (self.period.min(INTERVAL_MAX) / LOOKS).max(Duration::from_millis(1))
    }

    /// Notes the revision, and returns that of one period ago if it is time to compact.
    fn look(&mut self, revision: i64, now: Instant) -> Option<i64> {
        let looks = self.period.as_nanos() / self.pause().as_nanos() + 1;
        self.revisions.push_back(revision);
        while self.revisions.len() as u128 > looks {
            self.revisions.pop_front();
        }
        let oldest = self.revisions.front().copied()?;
        let is_due = now.duration_since(self.last) >= self.interval;
        (is_due && oldest != self.done).then_some(oldest)
    }

    fn compacted(&mut self, revision: i64, now: Instant) {
        self.done = revision;
        self.last = now;
        self.interval = self.period.min(INTERVAL_MAX);
    }
}

fn current(node: &Node) -> i64 {
    node.watch.head().get()
}

fn leads(node: &Node) -> bool {
    *node.status.leader().borrow() == Some(node.identity.member)
}

/// One who was faster has done the work.
async fn compact(node: &Node, revision: i64) -> Result<(), Error> {
    let request = CompactionRequest { revision, physical: false };
    match node.proposer.propose(&Caller::default(), request).await {
        Ok(_) => Ok(()),
        Err(Error::Rejected(Rejection::Compacted(_))) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every pause; the revision grows by one each time. When which was compacted, in pauses.
    fn compactions(period: Duration, looks: u32) -> Vec<(u32, i64)> {
        let start = Instant::now();
        let mut history = History::new(period, start);
        let mut found = Vec::new();
        for look in 1..=looks {
            let now = start + history.pause() * look;
            if let Some(revision) = history.look(i64::from(look), now) {
                history.compacted(revision, now);
                found.push((look, revision));
            }
        }
        found
    }

    #[test]
    fn what_is_older_than_the_period_goes() {
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        // Ten looks in a period of up to an hour, and each compaction keeps the last ten.
        let short = [(10, 1), (20, 10), (30, 20)];
        assert_eq!(compactions(minutes(5), 30), short);
        assert_eq!(compactions(minutes(60), 30), short);
        // A longer one is waited for once, and then served every hour.
        assert_eq!(compactions(minutes(180), 50), [(30, 1), (40, 10), (50, 20)]);
    }

    #[test]
    fn what_does_not_change_is_not_compacted_again() {
        let start = Instant::now();
        let mut history = History::new(Duration::from_secs(600), start);
        assert_eq!(history.look(7, start + Duration::from_secs(600)), Some(7));
        history.compacted(7, start + Duration::from_secs(600));
        assert_eq!(history.look(7, start + Duration::from_secs(1200)), None);
    }
}
