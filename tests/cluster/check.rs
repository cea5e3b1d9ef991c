//! Whether a cluster still has what its clients were told, once the faults are over.

use std::collections::{BTreeMap, HashMap};

use etcd_client::GetOptions;
use tokio::{
    sync::watch,
    time::{Duration, timeout},
};

use crate::{
    members::Cluster,
    traffic::{Change, PREFIX, Record, watch_on},
};

/// Reading back the whole history of one test takes far less.
const READ_BACK_DEADLINE: Duration = Duration::from_secs(30);

/// Each fault that shows, in words. All members must run.
pub(crate) async fn faults(cluster: &Cluster, record: &Record) -> Vec<String> {
    let mut faults = record.faults.clone();
    let (_keep, last) = watch::channel(record.last_revision);
    for (at, endpoint) in cluster.endpoints().into_iter().enumerate() {
        let reading = timeout(READ_BACK_DEADLINE, watch_on(vec![endpoint], last.clone())).await;
        let Ok(history) = reading else {
            faults.push(format!("member {at} does not show its history up to the last write"));
            continue;
        };
        faults.extend(
            lost(&history, record).into_iter().map(|fault| format!("member {at}: {fault}")),
        );
        faults.extend(unlike(&history, &record.watched));
        faults.extend(latest_differs(cluster, at, &history).await);
    }
    faults.extend(hashes_differ(cluster, record.last_revision).await);
    faults
}

/// Acknowledged writes that the history lacks.
fn lost(history: &[Change], record: &Record) -> Vec<String> {
    let by_revision: HashMap<i64, &Change> =
        history.iter().map(|change| (change.revision, change)).collect();
    let missing = |told: &&Change| by_revision.get(&told.revision) != Some(told);
    let lost = record.acknowledged.iter().filter(missing);
    lost.map(|told| format!("acknowledged and lost: {told:?}")).collect()
}

/// Watchers that missed, repeated or invented an event, or got one out of order.
fn unlike(history: &[Change], watched: &[Vec<Change>]) -> Vec<String> {
    let watchers = watched.iter().enumerate().filter(|(_, seen)| *seen != history);
    let describe = |(watcher, seen): (usize, &Vec<Change>)| {
        let at = seen.iter().zip(history).position(|(seen, real)| seen != real);
        let at = at.unwrap_or(seen.len().min(history.len()));
        let (got, real) = (seen.get(at), history.get(at));
        format!("watcher {watcher}: event {at} was {got:?} and is {real:?}")
    };
    watchers.map(describe).collect()
}

/// What a linearizable read finds must be what the history ends with.
async fn latest_differs(cluster: &Cluster, at: usize, history: &[Change]) -> Option<String> {
    let expected: BTreeMap<&str, &str> =
        history.iter().map(|change| (change.key.as_str(), change.value.as_str())).collect();
    let options = GetOptions::new().with_prefix();
    let reply = match cluster.client(at).await.get(PREFIX, Some(options)).await {
        Ok(reply) => reply,
        Err(error) => return Some(format!("member {at} does not answer a read: {error}")),
    };
    let kvs = reply.kvs().iter();
    let found: BTreeMap<&str, &str> =
        kvs.map(|kv| (kv.key_str().unwrap(), kv.value_str().unwrap())).collect();
    (found != expected)
        .then(|| format!("member {at}: reads do not show what its history ends with"))
}

async fn hashes_differ(cluster: &Cluster, revision: i64) -> Option<String> {
    let mut hashes = Vec::new();
    for at in cluster.indices() {
        match cluster.client(at).await.hash_kv(revision).await {
            Ok(reply) => hashes.push((reply.hash(), reply.compact_version())),
            Err(error) => return Some(format!("member {at} does not answer HashKV: {error}")),
        }
    }
    let equal = hashes.windows(2).all(|pair| pair[0] == pair[1]);
    (!equal).then(|| format!("HashKV at {revision} differs between members: {hashes:?}"))
}

/// Panics with the first faults, if there are any.
#[track_caller]
pub(crate) fn assert_none(faults: &[String]) {
    let shown = faults.iter().take(20).cloned().collect::<Vec<_>>().join("\n");
    assert!(faults.is_empty(), "{} faults:\n{shown}", faults.len());
}

#[cfg(test)]
mod tests {
    use super::{Change, Record, lost, unlike};

    fn change(revision: i64) -> Change {
        Change { revision, key: "key".to_owned(), value: revision.to_string() }
    }

    #[test]
    fn an_acknowledged_write_that_history_lacks_is_a_fault() {
        let record = Record { acknowledged: vec![change(2), change(3)], ..Record::default() };
        assert_eq!(lost(&[change(2), change(3), change(4)], &record), Vec::<String>::new());
        assert_eq!(lost(&[change(2), change(4)], &record).len(), 1);
    }

    #[test]
    fn a_watcher_that_misses_repeats_or_reorders_is_a_fault() {
        let history = [change(2), change(3), change(4)];
        assert_eq!(unlike(&history, &[history.to_vec()]), Vec::<String>::new());
        assert_eq!(unlike(&history, &[vec![change(2), change(4)]]).len(), 1);
        assert_eq!(unlike(&history, &[vec![change(2), change(3)]]).len(), 1);
        assert_eq!(unlike(&history, &[vec![change(2), change(2), change(3), change(4)]]).len(), 1);
        assert_eq!(unlike(&history, &[vec![change(3), change(2), change(4)]]).len(), 1);
    }
}
