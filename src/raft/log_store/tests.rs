//! openraft's own suite for log stores and state machines, on ours.

use std::sync::Arc;

use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};

use super::LogStore;
use crate::{
    log::{FaultyFiles, Log, Options},
    raft::{
        applied::Applied,
        apply::{Applier, ApplyHandle},
        type_config::TypeConfig,
    },
    state_machine::StateMachine,
    storage::{Place, Storage},
    types::Revision,
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
            storage: storage.clone(),
            hub: WatchHub::new(storage.clone(), Revision::EMPTY_STORE),
            applied: Applied::default(),
            outlet: Box::new(drop),
        };
        let (handle, applying) = applier.split();
        tokio::spawn(applying);
        Ok(((), LogStore::new(log, storage), handle))
    }
}

#[tokio::test]
async fn openrafts_own_suite_passes() {
    Suite::test_all(Builder).await.unwrap();
}
