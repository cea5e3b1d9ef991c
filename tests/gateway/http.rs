//! As much of an HTTP/1.1 client as the samples need.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{
        AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt,
        BufReader,
    },
    net::TcpStream,
    time::timeout,
};

/// Longer than any answer takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Request<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: &'a str,
    /// Hangs up when the body has that many lines.
    pub(crate) lines: usize,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(its, _)| its.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }
}

pub(crate) async fn ask(address: SocketAddr, request: &Request<'_>) -> Answer {
    exchange(TcpStream::connect(address).await.unwrap(), address, request).await
}

/// Asks over a connection that is there.
pub(crate) async fn exchange(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    address: SocketAddr,
    request: &Request<'_>,
) -> Answer {
    let answer = timeout(PATIENCE, talk(socket, address, request)).await;
    answer.unwrap_or_else(|_| panic!("{} {} is not answered", request.method, request.path))
}

async fn talk(
    socket: impl AsyncRead + AsyncWrite + Unpin,
    address: SocketAddr,
    request: &Request<'_>,
) -> Answer {
    let mut socket = BufReader::new(socket);
    let Request { method, path, body, .. } = request;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in &request.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
    socket.write_all(head.as_bytes()).await.unwrap();

    let status = line(&mut socket).await;
    let status = status.split(' ').nth(1).unwrap_or_else(|| panic!("{status:?} has a status"));
    let status = status.parse().unwrap();
    let mut headers = Vec::new();
    loop {
        let header = line(&mut socket).await;
        let Some((name, value)) = header.split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut answer = Answer { status, headers, body: String::new() };
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.body = chunks(&mut socket, request.lines).await;
    } else if *method != "HEAD" {
        socket.read_to_string(&mut answer.body).await.unwrap();
    }
    answer
}

async fn chunks(socket: &mut (impl AsyncBufRead + Unpin), lines: usize) -> String {
    let mut body = Vec::new();
    while body.iter().filter(|byte| **byte == b'\n').count() < lines {
        let size = line(socket).await;
        let size = usize::from_str_radix(&size, 16).unwrap_or_else(|_| panic!("{size:?}"));
        if size == 0 {
            break;
        }
        let from = body.len();
        body.resize(from + size, 0);
        socket.read_exact(&mut body[from..]).await.unwrap();
        line(socket).await;
    }
    String::from_utf8(body).unwrap()
}

async fn line(socket: &mut (impl AsyncBufRead + Unpin)) -> String {
    let mut line = String::new();
    socket.read_line(&mut line).await.unwrap();
    line.trim_end().to_owned()
}
