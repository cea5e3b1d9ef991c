//! A data directory that an earlier build has written opens in this one, with all that it holds;
//! one of a later format is refused, on disk and between members.
//!
//! `tests/fixtures/data/README.md` says how a new one is made.

#[path = "cluster/members.rs"]
#[expect(dead_code, reason = "the fault tests use the rest")]
mod members;

use std::{
    fmt::Write as _,
    fs,
    io::{Read, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use etcd_client::{
    AlarmAction, AlarmOptions, AlarmType, Client, Error, GetOptions, LeaseGrantOptions,
    LeaseTimeToLiveOptions, Permission, PermissionType, PutOptions, UserAddOptions, WatchOptions,
};
use members::{Cluster, Setup};

/// The format that this build writes. A change of it comes with a fixture of the old one.
const FORMAT: u32 = 1;

/// Names in the fixture; the password is nobody's.
const USER: (&str, &str) = ("root", "fixture");

/// Some thirty years: it does not run out while the fixture is of use.
const LONG: i64 = 1_000_000_000;

/// The revision up to which the fixture is compacted.
const FLOOR: i64 = 12;

fn fixture(extension: &str) -> PathBuf {
    let name = format!("tests/fixtures/data/format-{FORMAT}.{extension}");
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn tar(arguments: &[&str], dir: &Path, archive: &Path) {
    let mut command = Command::new("tar");
    command.args(arguments).arg("-f").arg(archive).arg("-C").arg(dir);
    if arguments.contains(&"--create") {
        command.arg(".");
    }
    assert!(command.status().unwrap().success(), "tar {arguments:?}");
}

/// A member that may be started with data that another run left.
fn one_member() -> Setup {
    let mut setup = Setup::new(1);
    setup.flags.push("--initial-cluster-token=fixture".to_owned());
    setup
}

/// One member whose data directory is the fixture's.
fn unpacked() -> Setup {
    let setup = one_member();
    fs::create_dir(&setup.data_dirs[0]).unwrap();
    tar(&["--extract", "--gzip"], &setup.data_dirs[0], &fixture("tar.gz"));
    setup
}

async fn as_root(cluster: &Cluster) -> Client {
    let options = cluster.client_options().with_user(USER.0, USER.1);
    Client::connect(cluster.endpoints(), Some(options)).await.unwrap()
}

/// Everything that can be asked of the member, but for what starts and clocks decide.
async fn told(client: &mut Client) -> Result<String, Error> {
    let mut out = String::new();
    let everything = || GetOptions::new().with_all_keys();
    let now = client.get("", Some(everything())).await?;
    let revision = now.header().unwrap().revision();
    for at in FLOOR..=revision {
        let hash = client.hash_kv(at).await?;
        let compacted = hash.compact_version();
        writeln!(out, "revision {at}: hash {} compacted {compacted}", hash.hash()).unwrap();
        for kv in client.get("", Some(everything().with_revision(at))).await?.kvs() {
            let (key, value) = (kv.key_str()?, kv.value_str()?);
            let (created, changed) = (kv.create_revision(), kv.mod_revision());
            let (version, lease) = (kv.version(), kv.lease());
            writeln!(out, "  {key} = {value}  {created} {changed} {version} {lease}").unwrap();
        }
    }
    for lease in client.leases().await?.leases() {
        let keys = LeaseTimeToLiveOptions::new().with_keys();
        let lease = client.lease_time_to_live(lease.id(), Some(keys)).await?;
        let keys: Vec<_> = lease.keys().iter().map(|key| String::from_utf8_lossy(key)).collect();
        writeln!(out, "lease {}: {} {keys:?}", lease.id(), lease.granted_ttl()).unwrap();
    }
    for user in client.user_list().await?.users() {
        let roles = client.user_get(user).await?;
        writeln!(out, "user {user}: {:?}", roles.roles()).unwrap();
    }
    for role in client.role_list().await?.roles() {
        writeln!(out, "role {role}").unwrap();
        for held in client.role_get(role).await?.permissions() {
            let (kind, key, end) = (held.get_type(), held.key_str()?, held.range_end_str()?);
            let kind = PermissionType::try_from(kind).unwrap();
            writeln!(out, "  {kind:?} {key:?} {end:?}").unwrap();
        }
    }
    for alarm in client.alarm(AlarmAction::Get, AlarmType::None, None).await?.alarms() {
        writeln!(out, "alarm {:?} of {:x}", alarm.alarm(), alarm.member_id()).unwrap();
    }
    let list = client.member_list().await?;
    for member in list.members() {
        let (name, id, cluster) = (member.name(), member.id(), list.header().unwrap().cluster_id());
        writeln!(out, "member {name} {id:x} of {cluster:x}").unwrap();
    }
    Ok(out)
}

/// Raises the member's alarm or takes it away.
async fn no_space(client: &mut Client, action: AlarmAction) {
    let mut of_member = AlarmOptions::new();
    of_member.with_member(client.status().await.unwrap().header().unwrap().member_id());
    client.alarm(action, AlarmType::Nospace, Some(of_member)).await.unwrap();
}

/// What the fixture holds: of everything some, and some of it gone again.
async fn fill(cluster: &mut Cluster) {
    let mut client = cluster.client(0).await;
    for number in 0..3 {
        for key in ["a", "b", "c", "d"] {
            client.put(key, format!("{key}{number}"), None).await.unwrap();
        }
    }
    client.delete("b", None).await.unwrap();
    client.compact(FLOOR, None).await.unwrap();
    let leased = || LeaseGrantOptions::new();
    client.lease_grant(LONG, Some(leased().with_id(7))).await.unwrap();
    client.lease_grant(LONG, Some(leased().with_id(8))).await.unwrap();
    client.put("leased", "7", Some(PutOptions::new().with_lease(7))).await.unwrap();
    // On disk in the store from here on; what follows is in the log alone.
    cluster.stop(0).await;
    cluster.restart(&[0]).await.unwrap();

    let mut client = cluster.client(0).await;
    client.put("b", "again", None).await.unwrap();
    client.delete("c", None).await.unwrap();
    client.lease_revoke(8).await.unwrap();
    no_space(&mut client, AlarmAction::Activate).await;
    client.role_add("reader").await.unwrap();
    let read = Permission::new(PermissionType::Read, "a").with_range_end("c");
    client.role_grant_permission("reader", read).await.unwrap();
    client.user_add("reader", "", Some(UserAddOptions::new().with_no_pwd())).await.unwrap();
    client.user_grant_role("reader", "reader").await.unwrap();
    client.user_add(USER.0, USER.1, None).await.unwrap();
    client.role_add("root").await.unwrap();
    client.user_grant_role(USER.0, "root").await.unwrap();
    client.auth_enable().await.unwrap();
}

#[tokio::test]
#[ignore = "writes tests/fixtures/data"]
async fn make() {
    let mut cluster = one_member().start().await;
    fill(&mut cluster).await;
    let mut root = as_root(&cluster).await;
    let holds = told(&mut root).await.unwrap();
    // As after a crash: the log has what the store has not.
    cluster.kill(&[0]);
    let sparse =
        ["--create", "--gzip", "--sparse", "--hole-detection=raw", "--owner=0", "--group=0"];
    let mut arguments = sparse.to_vec();
    // Space that is held for a full disk, a lock, and what RocksDB told of itself.
    arguments.extend(["--exclude=./reserve", "--exclude=./lock", "--exclude=LOG*"]);
    tar(&arguments, cluster.data_dir(0), &fixture("tar.gz"));
    fs::write(fixture("txt"), holds).unwrap();
}

#[tokio::test]
async fn a_directory_of_an_earlier_build_opens_with_all_that_it_holds() {
    let mut cluster = unpacked().start().await;
    let expected = fs::read_to_string(fixture("txt")).unwrap();
    assert_eq!(told(&mut as_root(&cluster).await).await.unwrap(), expected);

    // Its alarm holds, its history can be watched, and it goes on.
    let mut root = as_root(&cluster).await;
    let full = root.put("new", "", None).await.unwrap_err().to_string();
    assert!(full.contains("etcdserver: mvcc: database space exceeded"), "{full}");
    let from = WatchOptions::new().with_all_keys().with_start_revision(FLOOR);
    let mut watch = root.watch("", Some(from)).await.unwrap();
    let mut revisions = Vec::new();
    while revisions.last().is_none_or(|last| *last < 17) {
        let heard = watch.message().await.unwrap().unwrap();
        revisions.extend(heard.events().iter().map(|event| event.kv().unwrap().mod_revision()));
    }
    assert_eq!(revisions, [12, 13, 14, 15, 16, 17]);
    no_space(&mut root, AlarmAction::Deactivate).await;
    root.put("new", "1", None).await.unwrap();
    cluster.stop(0).await;
    cluster.restart(&[0]).await.unwrap();
    let found = as_root(&cluster).await.get("new", None).await.unwrap();
    assert_eq!(found.kvs()[0].value(), b"1");
}

/// The first segment of the log.
fn segment(data_dir: &Path) -> PathBuf {
    let files = fs::read_dir(data_dir.join("log")).unwrap();
    let mut segments: Vec<PathBuf> = files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    segments.sort();
    segments.remove(0)
}

/// Where a segment's header has the format, behind its magic bytes.
const FORMAT_AT: std::ops::Range<usize> = 8..12;

#[test]
fn each_part_of_a_directory_names_its_format() {
    let setup = unpacked();
    let dir = &setup.data_dirs[0];
    let identity = fs::read_to_string(dir.join("orrery.json")).unwrap();
    assert!(identity.contains(&format!("\"format\": {FORMAT},")), "{identity}");
    let header = fs::read(segment(dir)).unwrap();
    assert_eq!(header[FORMAT_AT], FORMAT.to_le_bytes());
}

#[tokio::test]
async fn a_directory_of_a_later_format_is_refused() {
    let setup = unpacked();
    let dir = setup.data_dirs[0].clone();
    let mut cluster = setup.prepare();
    let identity = dir.join("orrery.json");
    let before = fs::read_to_string(&identity).unwrap();
    fs::write(&identity, before.replacen("\"format\": 1", "\"format\": 2", 1)).unwrap();
    cluster.restart(&[0]).await.unwrap_err();
    let log = cluster.log(0);
    let words = "has format 2, and this release reads formats up to 1; start a newer release";
    assert!(log.contains(words), "{log}");

    fs::write(&identity, before).unwrap();
    let segment = segment(&dir);
    let mut bytes = fs::read(&segment).unwrap();
    bytes[FORMAT_AT].copy_from_slice(&2_u32.to_le_bytes());
    fs::write(&segment, bytes).unwrap();
    cluster.restart(&[0]).await.unwrap_err();
    let later = cluster.log(0)[log.len()..].to_owned();
    assert!(later.contains("format 2"), "{later}");
}

/// Only what every format has in common is good in this hello: magic, format, length, checksum.
#[tokio::test]
async fn a_member_with_a_later_format_of_connections_is_told_so() {
    let cluster = Setup::new(1).start().await;
    let mut peer = TcpStream::connect(cluster.peer_address(0)).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut hello = b"\0orrery\n".to_vec();
    hello.extend(3_u16.to_le_bytes());
    hello.extend(6_u16.to_le_bytes());
    hello.extend(*b"future");
    hello.extend(crc32c::crc32c(&hello).to_le_bytes());
    peer.write_all(&hello).unwrap();
    let mut answer = Vec::new();
    // It may as well be a reset: the member has nothing more to say.
    let _ = peer.read_to_end(&mut answer);
    assert_eq!(answer.get(..10), Some(&b"\0orrery\n\x02\0"[..]), "{answer:?}");
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("its connections have a newer format"), "{text}");
}
