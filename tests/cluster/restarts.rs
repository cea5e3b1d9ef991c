//! A rolling restart, as every upgrade is one.

use crate::{machine, members::Cluster, rolling_restart::roll};

#[tokio::test]
async fn a_rolling_restart_fails_no_request_of_clients_that_retry() {
    let _turn = machine::exclusive();
    let mut cluster = Cluster::start(3).await;
    let mut told = roll(&mut cluster).await.unwrap();
    let gap = told.longest_gap();
    machine::announce(&format!(
        "rolling restart: {} requests, {} attempts repeated, longest gap {gap:?}",
        told.requests, told.repeated
    ));
    assert!(told.failed.is_empty(), "{:#?}", told.failed);
    // Two seconds of load at the least, and members that go are noticed.
    assert!(told.requests > 500 && told.repeated > 0, "{} requests", told.requests);
}
