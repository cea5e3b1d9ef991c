//! Snapshots on their own connections.

use std::sync::atomic::AtomicUsize;

use futures::stream;

use super::*;

fn start(meta: &'static str) -> SnapshotStart {
    SnapshotStart { vote: VOTE, last: Some(log_id(5)), meta: Bytes::from_static(meta.as_bytes()) }
}

/// `count` chunks of 64 KiB, each with other content.
fn chunks(count: usize) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin {
    stream::iter((0..count).map(|number| Ok(Bytes::from(vec![number as u8; 64 << 10]))))
}

fn never() -> std::future::Pending<()> {
    std::future::pending()
}

#[tokio::test]
async fn a_snapshot_arrives_whole() {
    let (one, mut two) = pair().await;
    for count in [0, 1, 200] {
        let sent = one.peers.send_snapshot(two.id, start(""), chunks(count), never()).await;
        assert_eq!(sent, Ok(SnapshotReply { vote: VOTE }));
        let expected = (0..count).flat_map(|number| vec![number as u8; 64 << 10]);
        let received = two.snapshots.recv().await.unwrap().unwrap();
        assert!(received.iter().copied().eq(expected), "{count} chunks");
    }
}

#[tokio::test]
async fn a_cancelled_snapshot_is_forgotten() {
    let (one, mut two) = pair().await;
    let sent = AtomicUsize::new(0);
    let endless = stream::repeat_with(|| {
        sent.fetch_add(1, Ordering::SeqCst);
        Ok(Bytes::from(vec![0; 1 << 20]))
    });
    let cancel = eventually(|| sent.load(Ordering::SeqCst) > 10);
    let result = one.peers.send_snapshot(two.id, start(""), endless, cancel).await;
    assert_eq!(result, Err(PeerError::Cancelled));
    let received = timeout(LONG, two.snapshots.recv()).await.unwrap().unwrap();
    assert!(matches!(received, Err(SnapshotError::Interrupted(_))), "{received:?}");
}

#[tokio::test]
async fn a_snapshot_that_can_not_be_read_is_forgotten() {
    let (one, mut two) = pair().await;
    let broken = chunks(3).chain(stream::iter([Err(io::Error::other("bad sector"))]));
    let result = one.peers.send_snapshot(two.id, start(""), broken, never()).await;
    assert_eq!(result, Err(PeerError::Source("bad sector".to_owned())));
    let received = timeout(LONG, two.snapshots.recv()).await.unwrap().unwrap();
    assert!(matches!(received, Err(SnapshotError::Interrupted(_))), "{received:?}");
}

#[tokio::test]
async fn a_receiver_that_gives_up_is_heard_while_chunks_flow() {
    let (one, two) = pair().await;
    let endless = stream::repeat_with(|| Ok(Bytes::from(vec![0; 1 << 20])));
    let sent = one.peers.send_snapshot(two.id, start("unwanted"), endless, never());
    let failed = PeerError::Failed(Failed("unwanted".to_owned()));
    assert_eq!(timeout(LONG, sent).await.unwrap(), Err(failed));
}

#[tokio::test]
async fn requests_go_on_while_a_snapshot_flows() {
    let (one, two) = pair().await;
    let endless = stream::repeat_with(|| Ok(Bytes::from(vec![0; 1 << 20])));
    let requests = async {
        for _ in 0..20 {
            one.echo(&two).await;
        }
    };
    let sent = one.peers.send_snapshot(two.id, start(""), endless, requests).await;
    assert_eq!(sent, Err(PeerError::Cancelled));
}

#[tokio::test]
async fn nobody_at_the_address_fails_a_snapshot() {
    let (one, two) = pair().await;
    two.peers.shutdown().await;
    let sent = one.peers.send_snapshot(two.id, start(""), chunks(1), never()).await;
    assert!(matches!(sent, Err(PeerError::Unreachable { .. })), "{sent:?}");
}
