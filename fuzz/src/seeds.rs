//! First inputs: valid ones of every kind, made by the code that writes such bytes.

use std::{env, fs, path::PathBuf};

use bytes::{Bytes, BytesMut};
use futures::{executor::LocalPool, task::LocalSpawnExt};
use prost::Message as _;

use crate::{
    grpc::method,
    log::{Entry, EntryKind, FaultyFiles, Files, Log},
    proto::{
        etcdserverpb::{
            Compare, DeleteRangeRequest, LeaseGrantRequest, MemberAddRequest, PutRequest,
            RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, WatchRequest,
            compare::TargetUnion, request_op, watch_request::RequestUnion,
        },
        peer,
    },
    raft::{
        frame,
        message::{
            AppendReply, AppendRequest, Failed, Message, Reply, Request, SnapshotEnd, SnapshotPart,
            SnapshotReply, SnapshotStart, TransferReply, TransferRequest, VoteReply, VoteRequest,
        },
        peers::handshake::{Answer, Hello, Lane, Refusal},
    },
    targets::{
        frame::side,
        log_damage::{damage, write},
        log_files::options,
        request::ONE_MESSAGE,
    },
    types::{ClusterId, LogId, MemberId, TraceContext, Vote},
};

/// Names the folder that a target writes its first inputs to before it starts.
const FOLDER: &str = "ORRERY_FUZZ_SEEDS";

/// Writes the inputs if that was asked for.
pub fn provide(inputs: fn() -> Vec<Vec<u8>>) {
    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    fs::create_dir_all(&folder).expect("the folder can be made");
    for (number, input) in inputs().iter().enumerate() {
        let file = folder.join(format!("seed-{number:03}"));
        fs::write(file, input).expect("the folder can be written to");
    }
}

/// Calls of all methods, most of them with a request that has no fields, which each of them has.
pub fn request() -> Vec<Vec<u8>> {
    let mut inputs: Vec<Vec<u8>> = (0..method::ALL.len())
        .flat_map(|method| {
            let one = vec![method as u8, ONE_MESSAGE | 7, 255];
            let two = [method as u8, 7, 3, 0, 0, 0, 0, 2, 8, 1, 0, 0, 0, 0, 2, 16, 1].to_vec();
            [one, two]
        })
        .collect();
    let (key, range_end) = (Bytes::from("a"), Bytes::from("b"));
    let range = RangeRequest {
        key: key.clone(),
        range_end: range_end.clone(),
        limit: 1,
        sort_order: 1,
        ..Default::default()
    };
    let put = PutRequest { key: key.clone(), value: "v".into(), lease: 7, ..Default::default() };
    let delete = DeleteRangeRequest { key: range_end, range_end: "\0".into(), prev_kv: true };
    let compare = Compare {
        key: key.clone(),
        target_union: Some(TargetUnion::ModRevision(-1)),
        ..Default::default()
    };
    let operation = |request| RequestOp { request: Some(request) };
    let mut txn = TxnRequest {
        compare: vec![compare],
        success: vec![operation(request_op::Request::RequestRange(range.clone()))],
        failure: vec![
            operation(request_op::Request::RequestPut(put.clone())),
            operation(request_op::Request::RequestDeleteRange(delete.clone())),
        ],
    };
    inputs.push(call("Txn", &txn));
    for _ in 0..60 {
        let inner = operation(request_op::Request::RequestTxn(txn));
        txn = TxnRequest { success: vec![inner], ..Default::default() };
        if txn.encoded_len() < 1000 {
            inputs.push(call("Txn", &txn));
        }
    }
    // As many operations as one for each list allows, and one more.
    for count in [128, 129] {
        let full = TxnRequest { success: vec![RequestOp::default(); count], ..Default::default() };
        let mut input = call("Txn", &full);
        input[1] = ONE_MESSAGE;
        inputs.push(input);
    }
    let create = WatchCreateRequest { key, filters: vec![0, 1], ..Default::default() };
    let watch = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let member = MemberAddRequest {
        peer_ur_ls: vec!["https://host:1".into(), "unix://s".into()],
        is_learner: true,
    };
    inputs.extend([
        call("Range", &range),
        call("RangeStream", &range),
        call("Put", &put),
        call("DeleteRange", &delete),
        call("Watch", &watch),
        call("LeaseGrant", &LeaseGrantRequest { ttl: 60, id: -5 }),
        call("MemberAdd", &member),
    ]);
    inputs
}

fn call(name: &str, message: &impl prost::Message) -> Vec<u8> {
    let method = method::ALL.iter().position(|method| method.name == name);
    let settings = [method.expect("it is served") as u8, ONE_MESSAGE | 7, 255];
    [&settings[..], &message.encode_to_vec()].concat()
}

/// Both sides' handshakes, every kind of message, and all of them one after the other.
pub fn frame() -> Vec<Vec<u8>> {
    let id = LogId { term: 4, node: 2, index: 9 };
    let vote = Vote { term: 4, node: 2, committed: true };
    let entry = |kind, payload: &'static str| Entry { id, kind, payload: payload.into() };
    let entries = vec![
        entry(EntryKind::Blank, ""),
        entry(EntryKind::Command, "c"),
        entry(EntryKind::Membership, "m"),
    ];
    let trace = peer::Trace { position: 1, context: vec![7; 24].into() };
    let propose = peer::Propose { commands: vec!["one".into(), "two".into()], traces: vec![trace] };
    let ask = peer::Request { request: Some(peer::request::Request::Propose(propose)) };
    let answer = peer::ProposeReply { refused: vec![1], unknown: vec![2, 3], overloaded: true };
    let answer = peer::Reply { reply: Some(peer::reply::Reply::Propose(answer)) };
    let (prev, commit) = (Some(id), None);
    let traces = vec![(1, TraceContext::decode(&[7; 24]).expect("ids that are not zero"))];
    let append = AppendRequest { vote, prev, entries, commit, traces };
    let messages = [
        Message::Ping,
        Message::Pong,
        Message::Request(Request::Append(AppendRequest { traces: vec![], ..append.clone() })),
        Message::Request(Request::Append(append)),
        Message::Request(Request::Vote(VoteRequest {
            vote,
            last: Some(id),
            pre_vote: true,
            leadership_transfer: false,
        })),
        Message::Request(Request::Transfer(TransferRequest {
            from: vote,
            to: MemberId(3),
            last: None,
        })),
        Message::Request(Request::Call(ask.encode_to_vec().into())),
        Message::Reply(Reply::Append(AppendReply::Accepted(Some(id)))),
        Message::Reply(Reply::Append(AppendReply::Conflict(id))),
        Message::Reply(Reply::Append(AppendReply::HigherVote(vote))),
        Message::Reply(Reply::Vote(VoteReply { vote, granted: true, last: None })),
        Message::Reply(Reply::Transfer(TransferReply::Accepted)),
        Message::Reply(Reply::Transfer(TransferReply::Refused("because".into()))),
        Message::Reply(Reply::Call(answer.encode_to_vec().into())),
        Message::Reply(Reply::Snapshot(SnapshotReply { vote })),
        Message::Reply(Reply::Failed(Failed("é".into()))),
        Message::Snapshot(SnapshotPart::Start(SnapshotStart {
            vote,
            last: Some(id),
            meta: "meta".into(),
        })),
        Message::Snapshot(SnapshotPart::Chunk("chunk".into())),
        Message::Snapshot(SnapshotPart::End(SnapshotEnd { bytes: 5, crc: 6 })),
    ];
    let (mut inputs, mut together) = (Vec::new(), BytesMut::new());
    for message in &messages {
        let start = together.len();
        frame::encode(&mut together, 0, message.kind(), 77, |out| message.encode(out));
        inputs.push([&[side::ESTABLISHED, 0, 255], &together[start..]].concat());
    }
    let (cluster, member, target) = (ClusterId(1), MemberId(2), MemberId(3));
    let hello =
        Hello { cluster, member, incarnation: 4, target, lane: Lane::Replication, group: 0 };
    inputs.push([&[side::DIALLED, 0, 16], &hello.encode()[..], &together].concat());
    for verdict in [Ok(()), Err(Refusal::UnknownMember), Err(Refusal::Other("why".into()))] {
        let answer = Answer { format: 2, incarnation: 4, verdict }.encode();
        inputs.push([&[side::DIALLING, 1, 7], &answer[..], &together].concat());
    }
    inputs.push([&[side::DIALLED, 0, 4], &b"GET /members HTTP/1.1\r\n\r\n"[..]].concat());
    inputs
}

/// Logs of one and of two segments, with records of every kind.
pub fn log_files() -> Vec<Vec<u8>> {
    [(3, 40), (6, 700), (12, 0)].iter().map(|(count, bytes)| written(*count, *bytes)).collect()
}

/// The first two files of a log with so many entries of so many bytes.
fn written(count: u64, payload_bytes: usize) -> Vec<u8> {
    let files = FaultyFiles::new(7);
    let (log, writer) = Log::open(std::sync::Arc::new(files.clone()), options()).expect("empty");
    let mut pool = LocalPool::new();
    pool.spawner().spawn_local(writer.run()).expect("the pool is there");
    let id = |index| LogId { term: 1, node: 1, index };
    for index in 1..=count {
        let payload = Bytes::from(vec![index as u8; payload_bytes]);
        log.append(
            vec![Entry { id: id(index), kind: EntryKind::Command, payload }],
            Box::new(|_| ()),
        );
        if index == 2 {
            log.save_committed(Some(id(1)));
            let vote = Vote { term: 2, node: 3, committed: false };
            let saved = log.clone();
            pool.spawner()
                .spawn_local(async move { drop(saved.save_vote(vote).await) })
                .expect("so");
        }
        pool.run_until_stalled();
    }
    log.truncate_after(Some(id(count - 1)));
    log.purge(id(1));
    pool.run_until_stalled();
    let mut names = files.list(&options().dir).expect("the files are in memory");
    names.retain(|name| name.ends_with(".log"));
    names.sort();
    let contents: Vec<Vec<u8>> = names
        .iter()
        .take(2)
        .map(|name| {
            let mut content = files.content(&options().dir.join(name)).expect("it was listed");
            let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            content.truncate(used.next_multiple_of(8));
            content
        })
        .collect();
    let words = u16::try_from(contents[0].len() / 8).expect("a segment is small").to_le_bytes();
    [&[0, words[0], words[1]], contents.concat().as_slice()].concat()
}

/// A log of several segments with each kind of damage, and without.
pub fn log_damage() -> Vec<Vec<u8>> {
    let mut script = Vec::new();
    for count in 0..6 {
        script.extend([write::APPEND, count, 200, count, write::FLUSH]);
    }
    script.extend([write::COPY, write::VOTE, 1, write::TRUNCATE, 2, write::APPEND, 0x42, 60, 2]);
    script.extend([write::COMMIT, 1, write::REOPEN, write::APPEND, 7, 0, 7, write::PURGE, 4]);
    script.extend([write::APPEND, 3, 9, 0, write::END]);
    let mut inputs = vec![script.clone()];
    for kind in damage::FLIP..=damage::LOSE_POWER {
        for (which, at) in [(0, [0, 2]), (1, [10, 3]), (2, [100, 4])] {
            let step = [kind, which, at[0], at[1], 1, 200, 2, 0, 1];
            inputs.push([&script[..], &step].concat());
            inputs.push([&script[..], &step, &step].concat());
        }
    }
    inputs
}
