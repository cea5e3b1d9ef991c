//! Append streams on the replication lane.

use tokio::io::AsyncReadExt;

use super::{
    requests::{mute_member, mute_member_speaking},
    *,
};
use crate::raft::peers::replication::{WINDOW_BYTES, WINDOW_MESSAGES};

async fn next(replies: &mut AppendReceiver) -> Option<Result<AppendReply, PeerError>> {
    timeout(LONG, replies.next()).await.expect("a reply or the end comes")
}

fn accepted(index: u64) -> Option<Result<AppendReply, PeerError>> {
    Some(Ok(AppendReply::Accepted(Some(log_id(index)))))
}

/// Sends until the window is full; how many requests were handed over.
async fn fill(sender: &AppendSender, payload_bytes: usize) -> u64 {
    for index in 0.. {
        let send = sender.send(append_request(index, payload_bytes));
        match timeout(Duration::from_millis(300), send).await {
            Ok(sent) => sent.unwrap(),
            Err(_) => return index,
        }
    }
    unreachable!("a window is finite")
}

#[tokio::test]
async fn replies_come_in_the_order_of_requests() {
    let (one, two) = pair().await;
    let (sender, mut replies) = one.peers.append_stream(two.id).await.unwrap();
    let send = async {
        for index in 0..3000 {
            sender.send(append_request(index, (index % 1000) as usize)).await.unwrap();
        }
        drop(sender);
    };
    let receive = async {
        for index in 0..3000 {
            assert_eq!(next(&mut replies).await, accepted(index));
        }
        assert_eq!(next(&mut replies).await, None, "it ends when all is answered");
    };
    tokio::join!(send, receive);
}

#[tokio::test]
async fn a_full_window_holds_up_the_sender() {
    let (mut one, two) = pair().await;
    one.peers = patient(&one).await; // the stream must not die while it is held up
    one.meet(&two);
    two.handler.append_permits.forget_permits(Semaphore::MAX_PERMITS);
    let (sender, mut replies) = one.peers.append_stream(two.id).await.unwrap();
    let sent = fill(&sender, 10).await;
    let most = WINDOW_MESSAGES as u64 + 10;
    assert!((WINDOW_MESSAGES as u64..=most).contains(&sent), "{sent}");

    two.handler.append_permits.add_permits(5);
    for index in 0..5 {
        assert_eq!(next(&mut replies).await, accepted(index));
    }
    for index in 0..5 {
        sender.send(append_request(sent + index, 10)).await.unwrap();
    }
    let full = timeout(Duration::from_millis(200), sender.send(append_request(0, 10))).await;
    assert!(full.is_err(), "five replies make room for five requests");
}

#[tokio::test]
async fn a_window_is_bounded_in_bytes_too() {
    let (mut one, two) = pair().await;
    one.peers = patient(&one).await;
    one.meet(&two);
    two.handler.append_permits.forget_permits(Semaphore::MAX_PERMITS);
    let (sender, _replies) = one.peers.append_stream(two.id).await.unwrap();
    let (megabyte, most) = (1 << 20, (WINDOW_BYTES >> 20) as u64);
    let sent = fill(&sender, megabyte).await;
    assert!((most..=most + 5).contains(&sent), "{sent}");
}

#[tokio::test]
async fn replies_that_nobody_takes_hold_up_the_sender() {
    let (one, two) = pair().await;
    let (sender, mut replies) = one.peers.append_stream(two.id).await.unwrap();
    let sent = fill(&sender, 10).await;
    assert!(sent <= WINDOW_MESSAGES as u64 + 10, "{sent}");
    for index in 0..sent {
        assert_eq!(next(&mut replies).await, accepted(index));
    }
}

/// Another set of connections of the same member, for which a peer is not dead so soon.
async fn patient(node: &Node) -> Peers {
    node.peers.shutdown().await;
    Peers::new(Options {
        identity: node.peers.shared.options.identity,
        network: Arc::new(Sockets),
        tls: None,
        gate: Arc::clone(&node.gate) as Arc<dyn Gate>,
        dead_after: LONG,
        payload_bytes_max: PAYLOAD_BYTES_MAX,
        seed: 1,
    })
}

#[tokio::test]
async fn a_stream_without_replies_is_dead() {
    let (one, two) = pair().await;
    let (sender, mut replies) = one.peers.append_stream(two.id).await.unwrap();
    tokio::time::sleep(2 * DEAD_AFTER).await; // silence is no fault while nothing is asked
    sender.send(append_request(1, 10)).await.unwrap();
    assert_eq!(next(&mut replies).await, accepted(1));

    two.handler.append_permits.forget_permits(Semaphore::MAX_PERMITS);
    let started = Instant::now();
    sender.send(append_request(2, 10)).await.unwrap();
    assert_eq!(next(&mut replies).await, Some(Err(PeerError::TimedOut)));
    let waited = started.elapsed();
    assert!(waited >= DEAD_AFTER.mul_f64(0.9) && waited < 10 * DEAD_AFTER, "{waited:?}");
    assert_eq!(next(&mut replies).await, None);
    sender.send(append_request(3, 10)).await.unwrap_err();
}

/// The mute one takes one connection: the urgent lane must be busy elsewhere meanwhile.
async fn meet_mute_member(one: &Node, url: PeerUrl) -> tokio::net::TcpStream {
    let urgent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("http://{}", urgent.local_addr().unwrap()).parse().unwrap();
    one.peers.set_addresses(MemberId(2), vec![silent]);
    let (busy, _) = urgent.accept().await.unwrap();
    one.peers.set_addresses(MemberId(2), vec![url]);
    busy
}

#[tokio::test]
async fn a_stream_to_a_mute_member_is_dead() {
    let one = Node::start(1).await;
    let (url, accepted) = mute_member().await;
    let _urgent = meet_mute_member(&one, url).await;
    let (sender, mut replies) = one.peers.append_stream(MemberId(2)).await.unwrap();
    for index in 0..8 {
        sender.send(append_request(index, 1 << 20)).await.unwrap();
    }
    assert_eq!(next(&mut replies).await, Some(Err(PeerError::TimedOut)));
    drop(accepted.await.unwrap());
}

#[tokio::test]
async fn a_conflict_ends_the_stream_and_not_the_connection() {
    let (one, two) = pair().await;
    for round in 0..50 {
        let (sender, mut replies) = one.peers.append_stream(two.id).await.unwrap();
        sender.send(append_request(round, 10)).await.unwrap();
        sender.send(append_request(CONFLICT_AT, 10)).await.unwrap();
        let _ = sender.send(append_request(round, 10)).await; // under way when the conflict comes
        assert_eq!(next(&mut replies).await, accepted(round));
        let conflict = Some(Ok(AppendReply::Conflict(log_id(CONFLICT_AT))));
        assert_eq!(next(&mut replies).await, conflict);
        assert_eq!(next(&mut replies).await, None);
    }
    assert_eq!(two.peers.shared.incoming.count(), 2, "urgent and replication, each dialled once");
}

#[tokio::test]
async fn a_follower_that_fails_or_ends_the_stream_is_heard() {
    let (one, two) = pair().await;
    for (index, reason) in [(FAIL_AT, "as you wish"), (END_AT, "the follower ended the stream")] {
        let (sender, mut replies) = one.peers.append_stream(two.id).await.unwrap();
        sender.send(append_request(1, 10)).await.unwrap();
        sender.send(append_request(index, 10)).await.unwrap();
        assert_eq!(next(&mut replies).await, accepted(1));
        let failed = PeerError::Failed(Failed(reason.to_owned()));
        assert_eq!(next(&mut replies).await, Some(Err(failed)));
        assert_eq!(next(&mut replies).await, None);
    }
}

#[tokio::test]
async fn a_newer_stream_takes_the_place_of_an_older() {
    let (one, two) = pair().await;
    let (older, mut older_replies) = one.peers.append_stream(two.id).await.unwrap();
    older.send(append_request(1, 10)).await.unwrap();
    assert_eq!(next(&mut older_replies).await, accepted(1));
    two.handler.append_permits.forget_permits(Semaphore::MAX_PERMITS);
    older.send(append_request(2, 10)).await.unwrap();
    eventually(|| two.handler.appends_seen.load(Ordering::SeqCst) == 2).await;

    let (newer, mut newer_replies) = one.peers.append_stream(two.id).await.unwrap();
    assert_eq!(next(&mut older_replies).await, Some(Err(PeerError::Superseded)));
    assert_eq!(next(&mut older_replies).await, None);
    older.send(append_request(3, 10)).await.unwrap_err();
    newer.send(append_request(4, 10)).await.unwrap();
    eventually(|| two.handler.appends_seen.load(Ordering::SeqCst) == 3).await;
    two.handler.append_permits.add_permits(100);
    assert_eq!(next(&mut newer_replies).await, accepted(4));
}

#[tokio::test]
async fn dropping_the_receiver_ends_the_stream() {
    let (one, two) = pair().await;
    let (sender, replies) = one.peers.append_stream(two.id).await.unwrap();
    drop(replies);
    let closed = async { while sender.send(append_request(1, 10)).await.is_ok() {} };
    timeout(LONG, closed).await.expect("sending fails");
}

#[tokio::test]
async fn a_lost_connection_ends_the_stream() {
    let (one, two) = pair().await;
    two.handler.append_permits.forget_permits(Semaphore::MAX_PERMITS);
    let (sender, mut replies) = one.peers.append_stream(two.id).await.unwrap();
    sender.send(append_request(1, 10)).await.unwrap();
    eventually(|| two.handler.appends_seen.load(Ordering::SeqCst) == 1).await;
    two.peers.shutdown().await;
    assert_eq!(next(&mut replies).await, Some(Err(PeerError::Disconnected)));
    assert_eq!(next(&mut replies).await, None);

    let error = loop {
        match one.peers.append_stream(two.id).await {
            Err(error @ PeerError::Unreachable { .. }) => break error,
            Err(PeerError::Disconnected) => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    };
    let started = Instant::now();
    for _ in 0..10 {
        assert_eq!(one.peers.append_stream(two.id).await.unwrap_err(), error);
    }
    assert!(started.elapsed() < Duration::from_secs(1), "it fails at once");
}

#[tokio::test]
async fn a_large_append_shares_its_frame_and_arrives_whole() {
    let (one, two) = pair().await;
    let (sender, mut replies) = one.peers.append_stream(two.id).await.unwrap();
    sender.send(append_request(1, 5 << 20)).await.unwrap();
    assert_eq!(next(&mut replies).await, accepted(1));
    assert_eq!(two.handler.bytes_seen.load(Ordering::SeqCst), 5 << 20);
}

/// A frame's kind stands behind its length, checksum and group.
const KIND_AT: usize = 12;

#[tokio::test]
async fn traces_go_to_members_that_know_of_them() {
    async fn check(format: u16, kind: u8) {
        let one = Node::start(1).await;
        let (url, accepted) = mute_member_speaking(format).await;
        let _urgent = meet_mute_member(&one, url).await;
        let (sender, _replies) = one.peers.append_stream(MemberId(2)).await.unwrap();
        let trace = TraceContext::decode(&[7; TraceContext::BYTES]).unwrap();
        let request = AppendRequest { traces: vec![(0, trace)], ..append_request(1, 10) };
        sender.send(request).await.unwrap();
        let mut stream = timeout(LONG, accepted).await.unwrap().unwrap();
        let mut header = [0; KIND_AT + 1];
        timeout(LONG, stream.read_exact(&mut header)).await.unwrap().unwrap();
        assert_eq!(header[KIND_AT], kind, "to a member of format {format}");
    }
    check(1, 3).await;
    check(2, 20).await;
    check(3, 20).await;
}
