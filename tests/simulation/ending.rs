//! The end of a run: faults are over, and the cluster has to come to rest and agree.

use std::{sync::atomic::Ordering, time::Duration};

use orrery::proto::command::command::Operation;
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    clients::{Shared, put},
    door::{Reply, Request, Summary},
    machine::MEMBERS,
};

/// A cluster that is left in peace elects a leader and has everybody caught up by then.
const RECOVERY: Duration = Duration::from_secs(8);

/// The longest lease lives two seconds. Twice that, an election for each of the two times that a
/// leader may have changed meanwhile, and the leader's turn.
const LEASES_GONE: Duration = Duration::from_secs(6);

const POLL: Duration = Duration::from_millis(20);

/// Waits until all members agree and all watchers have seen it; the last revision.
///
/// # Errors
/// It takes too long, or members differ.
pub(crate) async fn wait(shared: Shared, work: Vec<JoinHandle<()>>) -> Result<i64, String> {
    bounded(RECOVERY, "no write goes through", write_somewhere(&shared, "recovered")).await?;
    shared.finishing.store(true, Ordering::Relaxed);
    for client in work {
        client.await.map_err(|error| error.to_string())?;
    }
    bounded(LEASES_GONE, "leases outlive their time", leases_gone(&shared)).await?;
    let written =
        bounded(RECOVERY, "no last write goes through", write_somewhere(&shared, "last")).await?;
    let last = bounded(RECOVERY, "members do not catch up", all_at(&shared, written)).await?;
    check_hashes(&shared, last).await?;
    bounded(RECOVERY, "watchers do not catch up", watchers_at(&shared, written, last)).await?;
    Ok(last)
}

async fn bounded<T>(
    limit: Duration,
    complaint: &str,
    wait: impl Future<Output = T>,
) -> Result<T, String> {
    timeout(limit, wait).await.map_err(|_| format!("{complaint} within {limit:?}"))
}

/// Writes a key that every watcher watches, at whichever member takes it.
async fn write_somewhere(shared: &Shared, value: &str) -> i64 {
    for attempt in 0u64.. {
        let operation = Operation::Put(put("b", format!("{value}-{attempt}"), 0));
        let member = usize::try_from(attempt).unwrap() % MEMBERS;
        if let Ok(revision) = shared.write(member, operation).await {
            return revision;
        }
        sleep(POLL).await;
    }
    unreachable!("attempts do not end")
}

async fn summaries(shared: &Shared, revision: i64) -> Option<Vec<Summary>> {
    let mut summaries = Vec::new();
    for member in 0..MEMBERS {
        match shared.call(member, Request::Summary(revision)).await {
            Ok(Reply::Summary(summary)) => summaries.push(summary),
            Ok(_) | Err(_) => return None,
        }
    }
    Some(summaries)
}

async fn leases_gone(shared: &Shared) {
    loop {
        let summaries = summaries(shared, 1 << 40).await;
        if summaries.is_some_and(|all| all.iter().all(|summary| summary.leases == 0)) {
            return;
        }
        sleep(POLL).await;
    }
}

async fn all_at(shared: &Shared, revision: i64) -> i64 {
    loop {
        if let Some(all) = summaries(shared, 1 << 40).await
            && all.iter().all(|summary| summary.revision == all[0].revision)
            && all[0].revision >= revision
        {
            return all[0].revision;
        }
        sleep(POLL).await;
    }
}

async fn check_hashes(shared: &Shared, revision: i64) -> Result<(), String> {
    let all = summaries(shared, revision).await.ok_or("a member is gone")?;
    let differs = all.iter().any(|summary| summary.hash.is_none() || summary.hash != all[0].hash);
    if differs { Err(format!("members differ at {revision}: {all:?}")) } else { Ok(()) }
}

async fn watchers_at(shared: &Shared, written: i64, last: i64) {
    let seen = || {
        let book = shared.history.book();
        book.watchers[0].next > last && book.watchers.iter().all(|it| it.next > written)
    };
    while !seen() {
        sleep(POLL).await;
    }
}
