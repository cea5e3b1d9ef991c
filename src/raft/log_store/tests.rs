//! openraft's own suite for log stores and state machines, on ours.

use std::sync::Arc;

use openraft::{
    StorageError,
    entry::RaftEntry,
    storage::{IOFlushed, RaftLogStorage},
    testing::log::{StoreBuilder, Suite},
};

use super::LogStore;
use crate::{
    log::{FaultyFiles, Log, Options},
    raft::{
        applied::Applied,
        apply::{Applier, ApplyHandle, Gaps},
        type_config::{OpenEntry, TypeConfig, log_id_to_open},
    },
    state_machine::StateMachine,
    storage::{Place, Storage},
    types::{LogId, Revision},
    watch::WatchHub,
};

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, ApplyHandle> for Builder {
    async fn build(&self) -> Result<((), LogStore, ApplyHandle), StorageError<TypeConfig>> {
        let options =
            Options { dir: "log".into(), group: 0, segment_bytes: 64 << 10, cache_bytes: 16 << 10 };
        let (log, writer) = Log::open(Arc::new(FaultyFiles::new(1)), options).unwrap();
        tokio::spawn(writer.run());
        let storage = Storage::open(Place::Memory).unwrap();
        let applier = Applier {
            machine: StateMachine::open(storage.clone()).unwrap(),
            in_force: Default::default(),
            storage: storage.clone(),
            hub: WatchHub::new(storage.clone(), Revision::EMPTY_STORE),
            applied: Applied::default(),
            outlet: Box::new(drop),
            slow: std::time::Duration::MAX,
            gaps: Gaps::Allowed,
            traced: Default::default(),
        };
        // The suite purges what it never applied.
        let durable = Arc::new(|| Some(LogId { term: u64::MAX, node: u64::MAX, index: u64::MAX }));
        let (handle, applying) = applier.split();
        tokio::spawn(applying);
        Ok(((), LogStore::new(log, durable, Default::default()), handle))
    }
}

#[tokio::test]
async fn openrafts_own_suite_passes() {
    Suite::test_all(Builder).await.unwrap();
}

#[tokio::test]
async fn the_log_is_not_purged_past_what_the_state_would_survive_with() {
    let (_, mut store, _) = Builder.build().await.unwrap();
    let id = |index| LogId { term: 1, node: 1, index };
    let entry = |index| OpenEntry::new_blank(log_id_to_open(id(index)));
    store.append((0..10).map(entry), IOFlushed::noop()).await.unwrap();
    let purged = |store: &LogStore| store.log.state().purged.map(|id| id.index);

    store.durable = Arc::new(|| None);
    store.purge(log_id_to_open(id(5))).await.unwrap();
    assert_eq!(purged(&store), None);
    store.durable = Arc::new(move || Some(id(3)));
    store.purge(log_id_to_open(id(5))).await.unwrap();
    assert_eq!(purged(&store), Some(3));
    store.durable = Arc::new(move || Some(id(8)));
    store.purge(log_id_to_open(id(5))).await.unwrap();
    assert_eq!(purged(&store), Some(5));
}
