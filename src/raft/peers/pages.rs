//! What the peer port says to HTTP: `/version` and `/members`, as etcd's does; and the client that
//! a joining member uses to learn the list of members.

use std::{io, time::Duration};

use bytes::BytesMut;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    Handler,
    dial::{bounded, connect},
};
use crate::{
    proto::etcdserverpb::Member,
    raft::network::{Network, PeerUrl, Stream, Tls},
    types::ClusterId,
};

/// A request's head. Ours has 100 bytes, curl's as many.
const REQUEST_BYTES_MAX: usize = 8 << 10;
/// A list of a thousand members with their URLs.
const RESPONSE_BYTES_MAX: usize = 1 << 20;
/// How long to wait for the list of members in all.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

const CLUSTER_HEADER: &str = "X-Etcd-Cluster-ID";

/// One member in JSON, with etcd's names.
#[derive(Serialize, Deserialize)]
struct Row {
    id: u64,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Vec<String>,
    #[serde(rename = "isLearner", default, skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    client_urls: Vec<String>,
}

impl From<Member> for Row {
    fn from(member: Member) -> Row {
        Row {
            id: member.id,
            peer_urls: member.peer_ur_ls,
            is_learner: member.is_learner,
            name: member.name,
            client_urls: member.client_ur_ls,
        }
    }
}

impl From<Row> for Member {
    fn from(row: Row) -> Member {
        Member {
            id: row.id,
            name: row.name,
            peer_ur_ls: row.peer_urls,
            client_ur_ls: row.client_urls,
            is_learner: row.is_learner,
        }
    }
}

/// Answers one request and closes the connection. `received` has been read from it already. The
/// caller bounds the time.
pub(super) async fn serve(
    mut stream: Stream,
    mut received: BytesMut,
    cluster: ClusterId,
    handler: &dyn Handler,
) -> io::Result<()> {
    while head_end(&received).is_none() {
        if received.len() > REQUEST_BYTES_MAX || stream.read_buf(&mut received).await? == 0 {
            return Err(io::Error::other("it is no HTTP request"));
        }
    }
    let (status, body) = answer(&received, handler);
    let kind = if status == "200 OK" { "application/json" } else { "text/plain; charset=utf-8" };
    let length = body.len();
    let response = format!(
        "HTTP/1.1 {status}\r\n{CLUSTER_HEADER}: {cluster}\r\nContent-Type: {kind}\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(response.as_bytes()).await?;
    stream.shutdown().await
}

/// Status line and body for a request's head.
fn answer(head: &[u8], handler: &dyn Handler) -> (&'static str, String) {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let body = match target.split(|byte| *byte == b'?').next().unwrap_or_default() {
        b"/version" => handler.version(),
        b"/members" => {
            let rows: Vec<Row> = handler.members().into_iter().map(Row::from).collect();
            serde_json::to_string(&rows).expect("rows of plain fields become JSON") + "\n"
        }
        _ => return ("404 Not Found", "404 page not found\n".to_owned()),
    };
    match method {
        b"GET" => ("200 OK", body),
        _ => ("405 Method Not Allowed", "Method Not Allowed\n".to_owned()),
    }
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("{url}: {error}")]
    Io { url: PeerUrl, error: io::Error },
    #[error("{url} does not answer as a member's peer URL does: {reason}")]
    Answer { url: PeerUrl, reason: String },
}

/// The cluster and its members as the member at `url` knows them. Takes a few seconds at most.
pub async fn fetch_members(
    network: &dyn Network,
    tls: Option<&Tls>,
    url: &PeerUrl,
) -> Result<(ClusterId, Vec<Member>), FetchError> {
    let response = bounded(FETCH_TIMEOUT, request(network, tls, url)).await;
    let response = response.map_err(|error| FetchError::Io { url: url.clone(), error })?;
    parse(&response).map_err(|reason| FetchError::Answer { url: url.clone(), reason })
}

/// The whole response. HTTP/1.0, so that its end is the end of the connection.
async fn request(network: &dyn Network, tls: Option<&Tls>, url: &PeerUrl) -> io::Result<Vec<u8>> {
    let mut stream = connect(network, tls, url).await?;
    let request = format!("GET /members HTTP/1.0\r\nHost: {}\r\n\r\n", url.address);
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut response = Vec::new();
    stream.take(RESPONSE_BYTES_MAX as u64 + 1).read_to_end(&mut response).await?;
    Ok(response)
}

fn parse(response: &[u8]) -> Result<(ClusterId, Vec<Member>), String> {
    if response.len() > RESPONSE_BYTES_MAX {
        return Err("the answer is too long".to_owned());
    }
    let body_at = head_end(response).ok_or("no HTTP")?;
    let head = str::from_utf8(&response[..body_at]).map_err(|_| "no HTTP")?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).ok_or("no HTTP")?;
    if status != "200" {
        return Err(format!("status {status}"));
    }
    let field = |name: &str| {
        let mut fields = lines.clone().filter_map(|line| line.split_once(':'));
        fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let cluster = field(CLUSTER_HEADER).ok_or("no cluster id")?;
    let cluster = u64::from_str_radix(cluster, 16).map_err(|_| "a bad cluster id")?;
    let body = &response[body_at..];
    if field("Content-Length").is_some_and(|length| length != body.len().to_string()) {
        return Err("the answer was cut off".to_owned());
    }
    let rows: Vec<Row> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    Ok((ClusterId(cluster), rows.into_iter().map(Member::from).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_members_is_written_as_etcd_writes_it() {
        let member = Member {
            id: 9372538179322589801,
            name: "m1".to_owned(),
            peer_ur_ls: vec!["http://10.10.0.9:2380".to_owned()],
            client_ur_ls: vec!["http://10.10.0.9:2379".to_owned()],
            is_learner: false,
        };
        let unstarted = Member {
            id: 1,
            name: String::new(),
            peer_ur_ls: vec!["http://10.10.0.8:2380".to_owned()],
            client_ur_ls: vec![],
            is_learner: true,
        };
        #[track_caller]
        fn check(member: Member, expected: &str) {
            let json = serde_json::to_string(&Row::from(member.clone())).unwrap();
            assert_eq!(json, expected);
            let row: Row = serde_json::from_str(expected).unwrap();
            assert_eq!(Member::from(row), member);
        }
        check(
            member,
            concat!(
                r#"{"id":9372538179322589801,"peerURLs":["http://10.10.0.9:2380"],"#,
                r#""name":"m1","clientURLs":["http://10.10.0.9:2379"]}"#
            ),
        );
        check(unstarted, r#"{"id":1,"peerURLs":["http://10.10.0.8:2380"],"isLearner":true}"#);
    }

    #[test]
    fn what_is_no_list_of_members_is_an_error() {
        #[track_caller]
        fn check(response: &str, reason: &str) {
            let error = parse(response.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
        check("", "no HTTP");
        check("220 smtp.example ESMTP\r\n", "no HTTP");
        check("HTTP/1.1 404 Not Found\r\n\r\n", "status 404");
        check("HTTP/1.1 200 OK\r\n\r\n[]", "no cluster id");
        check("HTTP/1.1 200 OK\r\nx-etcd-cluster-id: xyz\r\n\r\n[]", "bad cluster id");
        check("HTTP/1.1 200 OK\r\nx-etcd-cluster-id: 1\r\nContent-Length: 9\r\n\r\n[]", "cut off");
        check("HTTP/1.1 200 OK\r\nx-etcd-cluster-id: 1\r\n\r\n{}", "expected a sequence");
        let (cluster, members) =
            parse(b"HTTP/1.1 200 OK\r\nx-etcd-cluster-id: cdf818194e3a8c32\r\n\r\n[]").unwrap();
        assert_eq!((cluster, members.len()), (ClusterId(0xcdf818194e3a8c32), 0));
    }
}
