//! SRV records as a name server on loopback has them.

use std::{net::Ipv4Addr, sync::Arc};

use hickory_resolver::{
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
    proto::{
        op::{Message, MessageType, OpCode, ResponseCode},
        rr::{
            Name, Record,
            rdata::{A, SRV},
        },
    },
};
use tokio::net::UdpSocket;

use super::*;

/// A record of a zone: `_etcd-server._tcp.example.com -> a.example.com:2380`, or
/// `a.example.com = 10.0.0.1`.
fn record(line: &str) -> Record {
    let name = |text: &str| Name::from_ascii(format!("{text}.")).unwrap();
    if let Some((of, to)) = line.split_once(" -> ") {
        let (target, port) = to.split_once(':').unwrap();
        let data = SRV::new(0, 0, port.parse().unwrap(), name(target));
        return Record::from_rdata(name(of), 60, RData::SRV(data));
    }
    let (of, address) = line.split_once(" = ").unwrap();
    Record::from_rdata(name(of), 60, RData::A(A(address.parse::<Ipv4Addr>().unwrap())))
}

/// Answers from a zone until the test ends; a name that it does not have does not exist.
async fn serve(socket: UdpSocket, zone: Arc<Vec<Record>>) {
    let mut datagram = [0; 4096];
    loop {
        let (length, from) = socket.recv_from(&mut datagram).await.unwrap();
        let request = Message::from_vec(&datagram[..length]).unwrap();
        let query = request.queries[0].clone();
        let mut answer = Message::new(request.metadata.id, MessageType::Response, OpCode::Query);
        let named = zone.iter().filter(|record| record.name == *query.name());
        if named.clone().next().is_none() {
            answer.metadata.response_code = ResponseCode::NXDomain;
        }
        let matching = named.filter(|record| record.record_type() == query.query_type());
        answer.answers.extend(matching.cloned());
        answer.queries.push(query);
        socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
    }
}

async fn resolver(zone: &[&str]) -> TokioResolver {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = socket.local_addr().unwrap();
    let zone = zone.iter().map(|line| record(line)).collect();
    tokio::spawn(serve(socket, Arc::new(zone)));
    let mut connection = ConnectionConfig::udp();
    connection.port = address.port();
    let server = NameServerConfig::new(address.ip(), true, vec![connection]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build().unwrap()
}

const HOSTS: [&str; 3] =
    ["a.example.com = 10.0.0.1", "b.example.com = 10.0.0.2", "c.example.com = 10.0.0.3"];

/// What member `m`, reached at `advertise`, finds in the zone.
#[track_caller]
fn check(
    records: &[&str],
    service_name: &str,
    advertise: &str,
    expected: Result<&[&str], &str>,
) -> impl Future<Output = ()> {
    let zone: Vec<&str> = records.iter().chain(&HOSTS).copied().collect();
    let domain = Domain { name: "example.com".to_owned(), service_name: service_name.to_owned() };
    let advertise = Url::parse_advertised(advertise).unwrap();
    let zone = zone.into_iter().map(str::to_owned).collect::<Vec<_>>();
    async move {
        let zone: Vec<&str> = zone.iter().map(String::as_str).collect();
        let found = members(&resolver(&zone).await, &domain, "m", &[advertise]).await;
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(error), Err(words)) => {
                let error = error.to_string();
                assert!(error.contains(words), "{error}");
            }
            (found, expected) => panic!("{found:?}, not {expected:?}"),
        }
    }
}

#[tokio::test]
async fn the_member_at_our_address_is_ours_and_the_others_are_numbered() {
    let records = [
        "_etcd-server._tcp.example.com -> c.example.com:2380",
        "_etcd-server._tcp.example.com -> a.example.com:2380",
        "_etcd-server._tcp.example.com -> b.example.com:2380",
    ];
    let found = [
        "0=http://a.example.com:2380",
        "m=http://b.example.com:2380",
        "1=http://c.example.com:2380",
    ];
    check(&records, "", "http://10.0.0.2:2380", Ok(&found)).await;
    check(&records, "", "http://b.example.com:2380", Ok(&found)).await;
    // Another port is another member.
    let found = [
        "0=http://a.example.com:2380",
        "1=http://b.example.com:2380",
        "2=http://c.example.com:2380",
    ];
    check(&records, "", "http://10.0.0.2:2381", Ok(&found)).await;
}

#[tokio::test]
async fn the_service_says_whether_members_are_reached_with_tls() {
    let records = [
        "_etcd-server-ssl._tcp.example.com -> a.example.com:2380",
        "_etcd-server._tcp.example.com -> b.example.com:2380",
    ];
    let found = ["m=https://a.example.com:2380", "0=http://b.example.com:2380"];
    check(&records, "", "https://10.0.0.1:2380", Ok(&found)).await;
    // Ours is no member if it is reached in the other way.
    let found = ["0=http://b.example.com:2380"];
    check(&records, "", "http://10.0.0.1:2380", Ok(&found)).await;
}

#[tokio::test]
async fn a_service_name_stands_behind_the_service() {
    let records = [
        "_etcd-server-two._tcp.example.com -> a.example.com:2380",
        "_etcd-server._tcp.example.com -> b.example.com:2380",
    ];
    let found = ["m=http://a.example.com:2380"];
    check(&records, "two", "http://10.0.0.1:2380", Ok(&found)).await;
}

#[tokio::test]
async fn a_domain_without_members_is_an_error_and_a_host_without_an_address_is_left_out() {
    let words = "error setting up initial cluster: error querying DNS SRV records for \
                 _etcd-server-ssl";
    check(&[], "", "http://10.0.0.1:2380", Err(words)).await;
    let lost = "_etcd-server._tcp.example.com -> lost.example.com:2380";
    check(&[lost], "", "http://10.0.0.1:2380", Err("_etcd-server: ")).await;
    let records = [lost, "_etcd-server._tcp.example.com -> a.example.com:2380"];
    let found = ["m=http://a.example.com:2380"];
    check(&records, "", "http://10.0.0.1:2380", Ok(&found)).await;
    check(&records, "", "http://nowhere.invalid:2380", Err("cannot resolve nowhere.invalid")).await;
}
