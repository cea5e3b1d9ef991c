//! Who gets in at the peer port, and what happens to what is no member.

use bytes::{BufMut, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;
use crate::raft::{
    frame,
    message::Message,
    network::{Address, Connection},
    peers::{
        dial::HANDSHAKE_TIMEOUT,
        handshake::{self, FORMAT, Hello, MAGIC},
    },
};

async fn dial(node: &Node) -> TcpStream {
    let Address::Tcp { host, port } = &node.url.address else { panic!("not TCP") };
    TcpStream::connect((host.as_str(), *port)).await.unwrap()
}

fn hello(target: &Node) -> Hello {
    Hello {
        cluster: CLUSTER,
        member: MemberId(1),
        incarnation: 10,
        target: target.id,
        lane: Lane::Urgent,
        group: 0,
    }
}

/// All that comes until the other side closes the connection, which it must.
async fn rest(stream: &mut (impl Connection + ?Sized)) -> String {
    let mut received = Vec::new();
    let read = timeout(LONG, stream.read_to_end(&mut received)).await;
    let _ = read.expect("the connection gets closed"); // perhaps by a reset
    String::from_utf8_lossy(&received).into_owned()
}

#[tokio::test]
async fn a_hello_is_judged() {
    let two = Node::start(2).await;
    let check = async |hello: Hello, expected: Result<(), Refusal>| {
        let mut stream: crate::raft::network::Stream = Box::new(dial(&two).await);
        let answer = handshake::introduce(&mut stream, &hello).await.unwrap();
        assert_eq!(answer.verdict, expected);
        assert_eq!(answer.incarnation, 20);
        if answer.verdict.is_err() {
            assert_eq!(rest(&mut stream).await, "");
        }
    };
    let good = hello(&two);
    check(good, Ok(())).await;
    check(Hello { cluster: ClusterId(7), ..good }, Err(Refusal::WrongCluster)).await;
    check(Hello { target: MemberId(3), ..good }, Err(Refusal::WrongTarget)).await;
    check(Hello { group: 1, ..good }, Err(Refusal::WrongGroup)).await;
    check(Hello { member: MemberId(100), ..good }, Err(Refusal::UnknownMember)).await;
    check(Hello { incarnation: 11, ..good }, Err(Refusal::IncarnationDiffers)).await;
    two.gate.removed.lock().unwrap().insert(MemberId(1));
    check(good, Err(Refusal::RemovedMember)).await;
}

#[tokio::test]
async fn a_newer_format_is_told_so() {
    let two = Node::start(2).await;
    let mut newer = BytesMut::new();
    newer.put_slice(MAGIC);
    newer.put_u16_le(FORMAT + 1);
    newer.put_u16_le(3);
    newer.put_slice(b"???");
    newer.put_u32_le(crc32c::crc32c(&newer));
    let mut stream = dial(&two).await;
    stream.write_all(&newer).await.unwrap();
    assert!(rest(&mut stream).await.contains("newer format"));
}

#[tokio::test]
async fn a_wiped_member_can_not_come_back_under_its_id() {
    let two = Node::start(2).await;
    let wiped = Node::start_at(1, 11, "http://127.0.0.1:0", None).await;
    wiped.meet(&two);
    let call = wiped.peers.call(two.id, Bytes::new(), LONG).await;
    assert_eq!(call, Err(PeerError::Refused(Refusal::IncarnationDiffers)));
    assert!(wiped.gate.refusals.lock().unwrap().contains(&(two.id, Refusal::IncarnationDiffers)));

    two.meet(&wiped); // nor is it taken for the old one when it is dialled
    let call = two.peers.call(wiped.id, Bytes::new(), LONG).await;
    assert_eq!(call, Err(PeerError::Unrecognised(Refusal::IncarnationDiffers)));
    let stream = two.peers.append_stream(wiped.id).await;
    assert_eq!(stream.unwrap_err(), PeerError::Unrecognised(Refusal::IncarnationDiffers));
}

#[tokio::test]
async fn garbage_is_dropped_and_harms_nobody() {
    let (one, two) = pair().await;
    one.echo(&two).await;
    let mut half_hello = BytesMut::from(&MAGIC[..]);
    half_hello.put_bytes(0xff, 500);
    let garbage: [&[u8]; 6] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\0\0\0\0\0\0\0",
        &half_hello,
        b"quit\r\n",
        &[0xff; 100_000],
        &[b'A'; 100_000],
    ];
    for bytes in garbage {
        let mut stream = dial(&two).await;
        let _ = stream.write_all(bytes).await; // may be cut off in the middle
        assert_eq!(rest(&mut stream).await, "");
    }
    one.echo(&two).await;
}

#[tokio::test]
async fn garbage_after_the_handshake_ends_that_connection_alone() {
    let (one, two) = (Node::start(3).await, Node::start(2).await);
    one.meet(&two);
    one.echo(&two).await;
    let frame = |group, message: &Message| {
        let mut out = BytesMut::new();
        frame::encode(&mut out, group, message.kind(), 1, |out| message.encode(out));
        out
    };
    let mut flipped = frame(0, &Message::Request(Request::Call(Bytes::from_static(b"echo"))));
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    let mut unknown = BytesMut::new();
    frame::encode(&mut unknown, 0, 99, 1, |_| ());
    let reply = Message::Reply(Reply::Call(Bytes::new()));
    let bad: [&[u8]; 5] =
        [&[0xff; 64], &flipped, &unknown, &frame(7, &Message::Ping), &frame(0, &reply)];
    for bytes in bad {
        for lane in [Lane::Urgent, Lane::Replication, Lane::Snapshot] {
            let mut stream: crate::raft::network::Stream = Box::new(dial(&two).await);
            let hello = Hello { lane, ..hello(&two) };
            handshake::introduce(&mut stream, &hello).await.unwrap().verdict.unwrap();
            stream.write_all(bytes).await.unwrap();
            assert_eq!(rest(&mut stream).await, "");
        }
    }
    one.echo(&two).await;
}

#[tokio::test]
async fn silent_connections_do_not_keep_members_out() {
    let (one, two) = (Node::start(1).await, Node::start(2).await);
    let mut silent = Vec::new();
    for _ in 0..150 {
        silent.push(dial(&two).await);
    }
    one.meet(&two);
    one.echo(&two).await;
    let closed = timeout(HANDSHAKE_TIMEOUT / 2, rest(&mut silent[0])).await;
    assert_eq!(closed.as_deref(), Ok(""), "the oldest made room before its time was over");
}

#[tokio::test]
async fn a_member_that_dials_anew_takes_the_place_of_its_older_connection() {
    let two = Node::start(2).await;
    let mut older: crate::raft::network::Stream = Box::new(dial(&two).await);
    handshake::introduce(&mut older, &hello(&two)).await.unwrap().verdict.unwrap();
    let mut newer: crate::raft::network::Stream = Box::new(dial(&two).await);
    handshake::introduce(&mut newer, &hello(&two)).await.unwrap().verdict.unwrap();
    assert_eq!(rest(&mut older).await, "");
    assert_eq!(two.peers.shared.incoming.count(), 1);
}

#[tokio::test]
async fn the_port_speaks_http_too() {
    let two = Node::start(2).await;
    let check = async |request: &str, status: &str, body: &str| {
        let mut stream = dial(&two).await;
        let (first, second) = request.split_at(request.len() / 2);
        stream.write_all(first.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
        stream.write_all(second.as_bytes()).await.unwrap();
        let response = rest(&mut stream).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{response}");
        assert!(response.contains("\r\nX-Etcd-Cluster-ID: c\r\n"), "{response}");
        let length = format!("\r\nContent-Length: {}\r\n", body.len());
        assert!(response.contains(&length), "{response}");
        assert!(response.ends_with(&format!("\r\n\r\n{body}")), "{response}");
    };
    let version = r#"{"etcdserver":"3.7.0"}"#;
    check("GET /version HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK", version).await;
    check("GET /version?x=y HTTP/1.0\r\n\r\n", "200 OK", version).await;
    let members = "[{\"id\":1,\"peerURLs\":[],\"name\":\"one\"}]\n";
    check("GET /members HTTP/1.1\r\n\r\n", "200 OK", members).await;
    let not_allowed = ("405 Method Not Allowed", "Method Not Allowed\n");
    check("POST /members HTTP/1.1\r\n\r\n", not_allowed.0, not_allowed.1).await;
    check("GET /raft HTTP/1.1\r\n\r\n", "404 Not Found", "404 page not found\n").await;
    check("GET\r\n\r\n", "404 Not Found", "404 page not found\n").await;
}

#[tokio::test]
async fn the_list_of_members_can_be_fetched() {
    let two = Node::start(2).await;
    let (cluster, members) = fetch_members(&Sockets, None, &two.url).await.unwrap();
    assert_eq!((cluster, members), (CLUSTER, two.handler.members()));
    two.peers.shutdown().await;
    let error = fetch_members(&Sockets, None, &two.url).await.unwrap_err();
    assert!(error.to_string().contains(&two.url.to_string()), "{error}");
}
