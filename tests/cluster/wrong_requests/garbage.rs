//! Connections that speak no protocol, or break the one they begin with.

use std::{net::SocketAddr, time::Duration};

use rand::{RngCore, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Silent connections held open at once; a server must not count on clients to speak.
const SILENT_CONNECTIONS: usize = 100;

/// How long to wait for the server to answer or to close before leaving.
const PATIENCE: Duration = Duration::from_millis(200);

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Name and bytes.
pub(crate) fn kinds() -> Vec<(&'static str, Vec<u8>)> {
    let mut noise = vec![0; 64 << 10];
    StdRng::seed_from_u64(3).fill_bytes(&mut noise);
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // The largest length that a frame header can give, and nothing after it.
    let largest_frame = [0xff, 0xff, 0xff, 1, 4, 0, 0, 0, 1];
    vec![
        ("noise", noise.clone()),
        ("zeros", vec![0; 64 << 10]),
        ("the largest lengths", vec![0xff; 64]),
        ("one byte", vec![0x16]),
        ("the beginning of a TLS handshake", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
        ("an HTTP/1.1 request", b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        (
            "an endless HTTP/1.1 header",
            [b"GET / HTTP/1.1\r\n".to_vec(), vec![b'a'; 1 << 20]].concat(),
        ),
        ("HTTP/2 that turns into noise", [HTTP2_PREFACE, &settings, &noise].concat()),
        ("an HTTP/2 frame that is too large", [HTTP2_PREFACE, &settings, &largest_frame].concat()),
    ]
}

/// Sends the bytes and leaves, whether or not they were all taken.
pub(crate) async fn send(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = timeout(PATIENCE, stream.write_all(bytes)).await;
    let _ = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
}

/// Connections that say one byte at most; they last as long as the answer lives.
pub(crate) async fn connect_and_stay(address: SocketAddr) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for at in 0..SILENT_CONNECTIONS {
        let mut stream = TcpStream::connect(address).await.unwrap();
        if at % 2 == 0 {
            stream.write_all(b"P").await.unwrap();
        }
        streams.push(stream);
    }
    streams
}
