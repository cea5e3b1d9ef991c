//! What a pipe does to bytes. Time is paused, so it passes only where somebody waits, and what
//! takes a processor long takes no time.

use std::time::Duration;

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::{Instant, timeout},
};

use super::{fault, region};
use crate::cli::wan::{
    fault::{Effect, Faults, Link, Ways},
    pipe::{FLIGHT_BYTES_MAX, carry},
    timer::Timer,
};

/// The runtime's timers are late by less than two milliseconds each.
const LATE: Duration = Duration::from_millis(4);

const ONE_WAY: Duration = Duration::from_millis(42);

/// A kernel's buffer.
const SOCKET_BYTES: usize = 256 << 10;

fn link(faults: &Faults, from: &str, to: &str, one_way: Duration) -> Link {
    faults.link(region(from), region(to), one_way)
}

/// Two ends of a connection between the regions a and b.
fn connection(faults: &Faults, one_way: Duration) -> (DuplexStream, DuplexStream) {
    let (client, near) = duplex(SOCKET_BYTES);
    let (far, server) = duplex(SOCKET_BYTES);
    let (from_client, to_client) = tokio::io::split(near);
    let (from_server, to_server) = tokio::io::split(far);
    let (there, back) = (link(faults, "a", "b", one_way), link(faults, "b", "a", one_way));
    tokio::spawn(carry(from_client, to_server, Bytes::new(), there, Timer::Coarse));
    tokio::spawn(carry(from_server, to_client, Bytes::new(), back, Timer::Coarse));
    (client, server)
}

async fn receive(stream: &mut DuplexStream, expected: &str) {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
}

/// Nothing comes for an hour.
async fn stays_silent(stream: &mut DuplexStream) {
    let mut byte = [0];
    let hour = Duration::from_secs(3600);
    timeout(hour, stream.read(&mut byte)).await.expect_err("something came");
}

#[tokio::test(start_paused = true)]
async fn a_round_trip_takes_what_the_matrix_says() {
    let (mut client, mut server) = connection(&Faults::default(), ONE_WAY);
    for _ in 0..3 {
        let start = Instant::now();
        client.write_all(b"ping").await.unwrap();
        receive(&mut server, "ping").await;
        assert!((ONE_WAY..ONE_WAY + LATE).contains(&start.elapsed()), "{:?}", start.elapsed());
        server.write_all(b"pong").await.unwrap();
        receive(&mut client, "pong").await;
        let expected = ONE_WAY * 2;
        assert!((expected..expected + LATE).contains(&start.elapsed()), "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_keep_their_order_when_the_way_gets_shorter() {
    let faults = Faults::default();
    let (mut client, mut server) = connection(&faults, ONE_WAY);
    let slow = Effect::Slow { added_ms: 500 };
    faults.set(fault("a", "b", Ways::One, slow), None).unwrap();
    let start = Instant::now();
    client.write_all(b"first").await.unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    faults.clear(None);
    client.write_all(b"second").await.unwrap();
    receive(&mut server, "firstsecond").await;
    let expected = ONE_WAY + Duration::from_millis(500);
    assert!((expected..expected + LATE).contains(&start.elapsed()), "{:?}", start.elapsed());
    server.write_all(b"back").await.unwrap();
    let start = Instant::now();
    receive(&mut client, "back").await;
    assert!(start.elapsed() < ONE_WAY + LATE, "the other way is as short as ever");
}

/// A window of 64 KiB would take a hundred seconds.
#[tokio::test(start_paused = true)]
async fn much_is_on_its_way_at_a_time() {
    let one_way = Duration::from_millis(100);
    let (mut client, mut server) = connection(&Faults::default(), one_way);
    let total = 64 << 20;
    let start = Instant::now();
    let sending = tokio::spawn(async move {
        let piece = vec![7; 1 << 20];
        for _ in 0..total / piece.len() {
            client.write_all(&piece).await.unwrap();
        }
        client
    });
    let (mut received, mut piece) = (0, vec![0; 1 << 20]);
    while received < total {
        let count = server.read(&mut piece).await.unwrap();
        assert!(count > 0 && piece[..count].iter().all(|byte| *byte == 7));
        received += count;
    }
    let flights = total.div_ceil(FLIGHT_BYTES_MAX) as u32;
    assert!(start.elapsed() < one_way * (flights + 2), "{:?}", start.elapsed());
    sending.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_cut_holds_bytes_and_tells_nobody_and_then_they_arrive() {
    let faults = Faults::default();
    let (mut client, mut server) = connection(&faults, ONE_WAY);
    client.write_all(b"on its way").await.unwrap();
    tokio::time::sleep(ONE_WAY / 2).await;
    faults.set(fault("a", "b", Ways::Both, Effect::Cut), None).unwrap();
    stays_silent(&mut server).await;
    client.write_all(b", more").await.unwrap();
    server.write_all(b"and back").await.unwrap();
    stays_silent(&mut client).await;
    faults.clear(None);
    receive(&mut server, "on its way, more").await;
    receive(&mut client, "and back").await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_one_way_leaves_the_other_open() {
    let faults = Faults::default();
    let (mut client, mut server) = connection(&faults, ONE_WAY);
    let lease = Some(Duration::from_secs(7200));
    faults.set(fault("b", "a", Ways::One, Effect::Cut), lease).unwrap();
    client.write_all(b"do you hear me").await.unwrap();
    receive(&mut server, "do you hear me").await;
    server.write_all(b"yes").await.unwrap();
    stays_silent(&mut client).await;
    receive(&mut client, "yes").await; // the lease has run out
}

#[tokio::test(start_paused = true)]
async fn what_is_held_is_bounded() {
    let faults = Faults::default();
    let (mut client, server) = connection(&faults, ONE_WAY);
    faults.set(fault("a", "b", Ways::One, Effect::Cut), None).unwrap();
    let (mut sent, piece) = (0, vec![0; SOCKET_BYTES]);
    let minute = Duration::from_secs(60);
    while timeout(minute, client.write_all(&piece)).await.is_ok() {
        sent += piece.len();
    }
    assert!(sent >= FLIGHT_BYTES_MAX, "{sent}");
    assert!(sent <= FLIGHT_BYTES_MAX + 4 * SOCKET_BYTES, "{sent}");
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn the_end_comes_behind_the_last_byte_and_not_through_a_cut() {
    let faults = Faults::default();
    let (mut client, mut server) = connection(&faults, ONE_WAY);
    let start = Instant::now();
    client.write_all(b"last").await.unwrap();
    client.shutdown().await.unwrap();
    let mut text = String::new();
    server.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "last");
    assert!((ONE_WAY..ONE_WAY + LATE).contains(&start.elapsed()), "{:?}", start.elapsed());
    server.write_all(b"half open").await.unwrap();
    receive(&mut client, "half open").await;

    faults.set(fault("a", "b", Ways::Both, Effect::Cut), None).unwrap();
    drop(server); // as when its process is killed
    stays_silent(&mut client).await;
    faults.clear(None);
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}
