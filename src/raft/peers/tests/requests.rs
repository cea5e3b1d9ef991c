//! Requests and replies on the urgent lane.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::raft::{
    network::Network,
    peers::handshake::{Answer, FORMAT},
};

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn each_request_gets_its_reply() {
    let (one, two) = pair().await;
    let check = async |request, reply| {
        assert_eq!(one.peers.request(two.id, request, LONG).await, Ok(reply));
    };
    let (pre_vote, leadership_transfer, last) = (true, false, Some(log_id(7)));
    let vote = VoteRequest { vote: VOTE, last, pre_vote, leadership_transfer };
    let reply = VoteReply { vote: VOTE, granted: true, last };
    check(Request::Vote(vote), Reply::Vote(reply)).await;
    let heartbeat =
        AppendRequest { vote: VOTE, prev: None, entries: vec![], commit: last, traces: vec![] };
    check(Request::Append(heartbeat), Reply::Append(AppendReply::Accepted(last))).await;
    let transfer = TransferRequest { from: VOTE, to: two.id, last: None };
    let refused = TransferReply::Refused("no log".to_owned());
    check(Request::Transfer(transfer), Reply::Transfer(refused)).await;
    let vacancy = VacancyReply { vacant: true, last: None };
    check(Request::Vacancy(VacancyRequest { vote: VOTE }), Reply::Vacancy(vacancy)).await;
    check(Request::Call(bytes("who")), Reply::Call(bytes("1"))).await;
}

#[tokio::test]
async fn many_requests_are_in_flight_and_a_slow_one_holds_up_none() {
    let (one, two) = pair().await;
    let hanging = one.peers.call(two.id, bytes("hang"), LONG);
    let calls = (0..2000u64).map(|number| {
        let (one, two) = (one.peers.clone(), two.id);
        async move {
            let request = Bytes::from(number.to_string());
            assert_eq!(one.call(two, request.clone(), LONG).await, Ok(request));
        }
    });
    tokio::select! {
        _ = futures::future::join_all(calls) => (),
        _ = hanging => panic!("answered what hangs"),
    }
}

#[tokio::test]
async fn a_request_that_takes_long_does_not_make_the_connection_look_dead() {
    let (one, two) = pair().await;
    assert_eq!(one.peers.call(two.id, bytes("slow"), LONG).await, Ok(bytes("slow")));
}

#[tokio::test]
async fn failures_say_what_happened() {
    let (one, two) = pair().await;
    let failed = PeerError::Failed(Failed("as you wish".to_owned()));
    assert_eq!(one.peers.call(two.id, bytes("fail"), LONG).await, Err(failed));
    let short = Duration::from_millis(20);
    assert_eq!(one.peers.call(two.id, bytes("hang"), short).await, Err(PeerError::TimedOut));
    let stranger = MemberId(9);
    let unknown = Err(PeerError::Unknown(stranger));
    assert_eq!(one.peers.call(stranger, bytes("echo"), LONG).await, unknown);
    one.peers.set_addresses(one.id, vec![one.url.clone()]);
    let itself = Err(PeerError::Unknown(one.id));
    assert_eq!(one.peers.call(one.id, bytes("echo"), LONG).await, itself);
    one.echo(&two).await;
}

#[tokio::test]
async fn what_no_frame_can_carry_fails_alone() {
    let (one, two) = pair().await;
    let huge = Bytes::from(vec![0; PAYLOAD_BYTES_MAX + 1]);
    let error = one.peers.call(two.id, huge, LONG).await.unwrap_err();
    assert!(matches!(error, PeerError::TooLarge { .. }) && error.is_unsent(), "{error}");
    let error = one.peers.call(two.id, bytes("huge"), LONG).await.unwrap_err();
    assert!(matches!(error, PeerError::Failed(_)), "{error}");
    let largest = Bytes::from(vec![7; PAYLOAD_BYTES_MAX]);
    assert_eq!(one.peers.call(two.id, largest.clone(), LONG).await, Ok(largest));
}

#[tokio::test]
async fn a_lost_connection_fails_its_requests_at_once() {
    let (one, two) = pair().await;
    one.echo(&two).await;
    let hanging = tokio::spawn({
        let (one, two) = (one.peers.clone(), two.id);
        async move { one.call(two, bytes("hang"), LONG).await }
    });
    one.echo(&two).await; // sent behind the other
    two.peers.shutdown().await;
    assert_eq!(hanging.await.unwrap(), Err(PeerError::Disconnected));
}

#[tokio::test]
async fn nobody_at_the_address_fails_requests_at_once() {
    let (one, two) = (Node::start(1).await, Node::start(2).await);
    two.peers.shutdown().await;
    one.meet(&two);
    for _ in 0..20 {
        let error = one.peers.call(two.id, bytes("echo"), LONG).await.unwrap_err();
        let is_refused =
            matches!(error, PeerError::Unreachable { kind: io::ErrorKind::ConnectionRefused, .. });
        assert!(is_refused && error.is_unsent(), "{error}");
    }
    let link = one.peers.link(two.id).unwrap().borrow().clone();
    assert!(matches!(link, Link::Down { .. }), "{link:?}");
}

#[tokio::test]
async fn a_member_that_comes_back_is_reached_again() {
    let (one, two) = pair().await;
    one.echo(&two).await;
    let mut link = one.peers.link(two.id).unwrap();
    two.peers.shutdown().await;
    let is_down = link.wait_for(|link| matches!(link, Link::Down { .. }));
    timeout(LONG, is_down).await.expect("a lost member is noticed").unwrap();
    assert_eq!(one.peers.connected(two.id), None);

    let two = Node::start_at(2, 20, &two.url.to_string(), None).await;
    let is_up = link.wait_for(|link| matches!(link, Link::Up { .. }));
    timeout(LONG, is_up).await.expect("it is dialled again").unwrap();
    assert!(one.peers.connected(two.id).is_some());
    one.echo(&two).await;
}

#[tokio::test]
async fn a_member_that_dials_us_is_dialled_at_once() {
    let two = Node::start(2).await;
    two.peers.shutdown().await;
    let url = two.url;
    let one = Node::start(1).await;
    one.peers.set_addresses(MemberId(2), vec![url.clone()]);
    tokio::time::sleep(Duration::from_secs(2)).await; // the pauses grow to a second
    let two = Node::start_at(2, 20, &url.to_string(), None).await;
    let mut link = one.peers.link(two.id).unwrap();
    let started = Instant::now();
    two.meet(&one);
    two.echo(&one).await;
    link.wait_for(|link| matches!(link, Link::Up { .. })).await.unwrap();
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
}

#[tokio::test]
async fn all_addresses_are_tried_and_can_change() {
    let (one, two) = (Node::start(1).await, Node::start(2).await);
    let nowhere: PeerUrl = "http://127.0.0.1:1".parse().unwrap();
    one.peers.set_addresses(two.id, vec![nowhere.clone(), two.url.clone()]);
    one.echo(&two).await;

    let three = Node::start(3).await;
    one.peers.set_addresses(three.id, vec![nowhere]);
    one.peers.call(three.id, bytes("echo"), LONG).await.unwrap_err();
    one.meet(&three);
    let mut link = one.peers.link(three.id).unwrap();
    link.wait_for(|link| matches!(link, Link::Up { .. })).await.unwrap();
    one.echo(&three).await;
}

#[tokio::test]
async fn a_removed_member_is_cut_off() {
    let (one, two) = pair().await;
    two.meet(&one);
    two.echo(&one).await;
    one.echo(&two).await;
    one.gate.removed.lock().unwrap().insert(two.id);
    let mut link = two.peers.link(one.id).unwrap();
    one.peers.remove(two.id);
    let unknown = Err(PeerError::Unknown(two.id));
    assert_eq!(one.peers.call(two.id, bytes("echo"), LONG).await, unknown);
    let is_down = link.wait_for(|link| matches!(link, Link::Down { .. }));
    timeout(LONG, is_down).await.expect("its own connection ends too").unwrap();
    let refused = (one.id, Refusal::RemovedMember);
    assert!(two.gate.refusals.lock().unwrap().contains(&refused));
    let error = two.peers.call(one.id, bytes("echo"), LONG).await.unwrap_err();
    assert_eq!(error, PeerError::Refused(Refusal::RemovedMember));
}

/// Lets one member in as member 2 would and says nothing more.
pub(super) async fn mute_member() -> (PeerUrl, tokio::task::JoinHandle<TcpStream>) {
    mute_member_speaking(FORMAT).await
}

pub(super) async fn mute_member_speaking(
    format: u16,
) -> (PeerUrl, tokio::task::JoinHandle<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let accepted = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_buf(&mut Vec::with_capacity(256)).await.unwrap();
        let welcome = Answer { format, incarnation: 20, verdict: Ok(()) };
        stream.write_all(&welcome.encode()).await.unwrap();
        stream
    });
    (url, accepted)
}

#[tokio::test]
async fn a_connection_without_a_sign_of_life_is_given_up() {
    let one = Node::start(1).await;
    let (url, accepted) = mute_member().await;
    let started = Instant::now();
    one.peers.set_addresses(MemberId(2), vec![url]);
    let error = one.peers.call(MemberId(2), bytes("echo"), LONG).await.unwrap_err();
    assert_eq!(error, PeerError::Disconnected);
    let waited = started.elapsed();
    assert!(waited >= DEAD_AFTER && waited < 10 * DEAD_AFTER, "{waited:?}");
    drop(accepted.await.unwrap());
}

#[tokio::test]
async fn after_shutdown_everything_is_stopped() {
    let (one, two) = pair().await;
    one.echo(&two).await;
    timeout(LONG, one.peers.shutdown()).await.unwrap();
    assert_eq!(one.peers.call(two.id, bytes("echo"), LONG).await, Err(PeerError::Stopped));
    assert_eq!(one.peers.append_stream(two.id).await.unwrap_err(), PeerError::Stopped);
    Sockets.dial(&one.url.address).await.map(|_| ()).expect_err("the port is closed");
}
