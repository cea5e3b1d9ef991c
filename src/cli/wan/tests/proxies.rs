//! Proxies and relays on loopback. Times are held to lower bounds alone, which no load breaks.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::cli::wan::{
    World,
    control::{self, Answer, Request},
    fault::{Effect, Fault, Part, Ways},
    matrix::Matrix,
    topology::{Region, Relay, Seat, Topology},
};

const ROUND_TRIP: Duration = Duration::from_millis(40);

/// Long enough for anything that is going to happen.
const LONG: Duration = Duration::from_secs(30);

/// Region a, and region b with a member that echoes.
struct Network {
    world: Arc<World>,
    echo: u16,
    _folder: TempDir,
}

async fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

impl Network {
    async fn start() -> Network {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let echo = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        let folder = TempDir::new().unwrap();
        let seat = |name: &str, region: &str| Seat {
            name: name.to_owned(),
            region: region.to_owned(),
            zone: "1".to_owned(),
            host: "127.0.0.1".to_owned(),
        };
        let region = async |name: &str| Region { name: name.to_owned(), proxy: free().await };
        let matrix = r#"{"names":["a","b"],"milliseconds":[[1,40],[40,1]]}"#;
        let topology = Topology {
            cluster: "x".to_owned(),
            control: folder.path().join("wan.sock"),
            regions: vec![region("a").await, region("b").await],
            members: vec![seat("one", "a"), seat("two", "b")],
            relays: vec![Relay {
                region: "a".to_owned(),
                member: "two".to_owned(),
                listen: free().await,
                port: echo,
            }],
            matrix: Matrix::parse(matrix).unwrap(),
        };
        topology.check().unwrap();
        let world = World::new(topology);
        let control = world.listen().await.unwrap();
        tokio::spawn(control::serve(control, world.clone()));
        Network { world, echo, _folder: folder }
    }

    /// A connection to a's proxy, and the head of what it answers when asked for this.
    async fn connect(&self, target: &str, user: Option<&str>) -> (TcpStream, String) {
        let mut stream = self.ask(target, user).await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(LONG, stream.read_u8()).await.expect("an answer").unwrap());
        }
        (stream, String::from_utf8(head).unwrap())
    }

    async fn ask(&self, target: &str, user: Option<&str>) -> TcpStream {
        let mut stream = TcpStream::connect(self.world.topology.regions[0].proxy).await.unwrap();
        let user = user.map(|code| format!("Proxy-Authorization: Basic {code}\r\n"));
        let request = format!("CONNECT {target} HTTP/1.1\r\n{}\r\n", user.unwrap_or_default());
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    fn two(&self) -> String {
        format!("two.b.x.test:{}", self.echo)
    }

    async fn order(&self, request: Request) -> Answer {
        control::ask(&self.world.topology.control, &request).await.unwrap()
    }

    async fn cut(&self, from: Part, to: Part, ways: Ways) {
        let fault = Fault { from, to, ways, effect: Effect::Cut };
        let answer = self.order(Request::Set { fault, lease_ms: None }).await;
        assert!(matches!(answer, Answer::Done { .. }), "{answer:?}");
    }
}

fn member(name: &str) -> Part {
    Part::Member(name.to_owned())
}

/// Base64 of `one:`.
const ONE: Option<&str> = Some("b25lOg==");

async fn echoes(stream: &mut TcpStream) {
    let mut word = [0; 4];
    stream.write_all(b"ping").await.unwrap();
    timeout(LONG, stream.read_exact(&mut word)).await.expect("an echo").unwrap();
    assert_eq!(&word, b"ping");
}

#[tokio::test]
async fn a_member_is_reached_by_its_name_and_each_step_takes_a_round_trip() {
    let network = Network::start().await;
    let start = Instant::now();
    let (mut stream, head) = network.connect(&network.two().to_uppercase(), ONE).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(start.elapsed() >= ROUND_TRIP);
    let start = Instant::now();
    echoes(&mut stream).await;
    assert!(start.elapsed() >= ROUND_TRIP);
}

#[tokio::test]
async fn a_relay_leads_to_the_member_that_is_far() {
    let network = Network::start().await;
    let start = Instant::now();
    let mut stream = TcpStream::connect(network.world.topology.relays[0].listen).await.unwrap();
    echoes(&mut stream).await;
    assert!(start.elapsed() >= ROUND_TRIP * 2, "one to connect, one for the echo");
}

#[tokio::test]
async fn who_cannot_be_reached_is_told_with_its_reason() {
    let network = Network::start().await;
    let gone = format!("two.b.x.test:{}", free().await.port());
    let start = Instant::now();
    let (_, head) = network.connect(&gone, ONE).await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert!(head.contains("; error=connection_refused\r\n"), "{head}");
    assert!(start.elapsed() >= ROUND_TRIP, "a refusal comes from there");
    for name in ["three.b.x.test:1", "two.a.x.test:1", "two.b.y.test:1", "127.0.0.1:1"] {
        let (_, head) = network.connect(name, None).await;
        assert!(head.contains("; error=dns_error\r\n"), "{name}: {head}");
    }
    let two = Some("dHdvOg==");
    let (_, head) = network.connect(&network.two(), two).await;
    assert!(head.starts_with("HTTP/1.1 407 "), "two is in another region: {head}");
}

#[tokio::test]
async fn a_member_that_is_cut_off_hangs_and_goes_on_when_it_is_healed() {
    let network = Network::start().await;
    let (mut old, _) = network.connect(&network.two(), ONE).await;
    let (mut client, _) = network.connect(&network.two(), None).await;
    network.cut(member("one"), Part::Elsewhere, Ways::Both).await;
    old.write_all(b"ping").await.unwrap();
    let mut new = network.ask(&network.two(), ONE).await;
    echoes(&mut client).await; // a client in that region is not the member
    let mut byte = [0];
    for stream in [&mut old, &mut new] {
        let waiting = timeout(ROUND_TRIP * 3, stream.peek(&mut byte)).await;
        assert!(waiting.is_err(), "neither bytes nor an end: {waiting:?}");
    }
    let Answer::Done { faults } = network.order(Request::Clear { id: None }).await else {
        panic!()
    };
    assert_eq!(faults.len(), 1);
    let mut word = [0; 4];
    timeout(LONG, old.read_exact(&mut word)).await.unwrap().unwrap();
    let mut status = [0; 13];
    timeout(LONG, new.read_exact(&mut status)).await.unwrap().unwrap();
    assert_eq!(&status, b"HTTP/1.1 200 ");
}

#[tokio::test]
async fn orders_for_what_is_not_there_are_refused() {
    let network = Network::start().await;
    let region = |name: &str| Part::Region(name.to_owned());
    for (part, words) in [
        (region("c"), "no region \"c\""),
        (member("three"), "no member \"three\""),
        (Part::Zone("b/2".to_owned()), "no zone \"b/2\""),
    ] {
        let (to, ways, effect) = (Part::Elsewhere, Ways::Both, Effect::Cut);
        let fault = Fault { from: part, to, ways, effect };
        match network.order(Request::Set { fault, lease_ms: Some(1) }).await {
            Answer::Refused { error } => assert!(error.starts_with(words), "{error}"),
            Answer::Done { faults } => panic!("{faults:?}"),
        }
    }
    assert_eq!(network.order(Request::Show {}).await, Answer::Done { faults: Vec::new() });
}
