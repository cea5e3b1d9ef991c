//! Requests as lines of a script: the reverse of the parser.

use std::fmt::Display;

use bytes::Bytes;
use orrery::proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseTimeToLiveRequest,
    PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest, compare::TargetUnion,
    request_op::Request as Operation,
};

use super::{
    request::{ACTIONS, CHOSEN, KINDS, OPTIONS, ORDERS, Request, TARGETS},
    txn,
    words::word,
};

/// The request as it stands in a script, the `>` before each line included.
pub(crate) fn lines(request: &Request) -> Vec<String> {
    let first = Line::from(request).0;
    let mut lines = vec![format!("> {first}")];
    if let Request::Txn(txn) = request {
        nested(txn, 1, &mut lines);
    }
    lines
}

/// A line that grows word by word.
struct Line(String);

impl Line {
    fn new(name: &str) -> Line {
        Line(name.to_owned())
    }

    fn plain(mut self, text: impl Display) -> Line {
        self.0 += &format!(" {text}");
        self
    }

    /// Bytes that must not be taken for an option.
    fn bytes(self, bytes: &[u8]) -> Line {
        let word = word(bytes);
        if OPTIONS.contains(&word.as_str()) {
            return self.plain(format!("\"{word}\""));
        }
        self.plain(word)
    }

    fn unless_empty(self, bytes: &[u8]) -> Line {
        if bytes.is_empty() { self } else { self.bytes(bytes) }
    }

    fn flag(self, name: &str, holds: bool) -> Line {
        if holds { self.plain(name) } else { self }
    }

    fn number(self, name: &str, value: i64) -> Line {
        if value == 0 { self } else { self.plain(format!("{name}={value}")) }
    }

    fn lease(self, id: i64) -> Line {
        if id == 0 { self } else { self.plain(format!("lease={}", lease_id(id))) }
    }

    /// A value of an enum: by name if it has one.
    fn named(self, option: &str, value: i32, names: &[&str]) -> Line {
        if value == 0 {
            return self;
        }
        let name = usize::try_from(value).ok().and_then(|at| names.get(at));
        let value = name.map_or_else(|| value.to_string(), ToString::to_string);
        self.plain(format!("{option}={value}"))
    }

    fn name(self, option: &str, name: Option<&String>) -> Line {
        match name {
            None => self,
            Some(name) => self.plain(format!("{option}={name}")),
        }
    }

    fn stream(self, name: &str) -> Line {
        if name == "main" { self } else { self.plain(format!("stream={name}")) }
    }

    fn put(self, put: &PutRequest) -> Line {
        self.bytes(&put.key)
            .unless_empty(&put.value)
            .lease(put.lease)
            .flag("prev_kv", put.prev_kv)
            .flag("ignore_value", put.ignore_value)
            .flag("ignore_lease", put.ignore_lease)
    }

    fn range(self, range: &RangeRequest) -> Line {
        self.bytes(&range.key)
            .unless_empty(&range.range_end)
            .number("limit", range.limit)
            .number("revision", range.revision)
            .named("order", range.sort_order, &ORDERS)
            .named("target", range.sort_target, &TARGETS)
            .flag("serializable", range.serializable)
            .flag("keys_only", range.keys_only)
            .flag("count_only", range.count_only)
            .number("min_mod", range.min_mod_revision)
            .number("max_mod", range.max_mod_revision)
            .number("min_create", range.min_create_revision)
            .number("max_create", range.max_create_revision)
    }

    fn delete(self, delete: &DeleteRangeRequest) -> Line {
        self.bytes(&delete.key).unless_empty(&delete.range_end).flag("prev_kv", delete.prev_kv)
    }

    fn watch(self, watch: &WatchCreateRequest) -> Line {
        self.bytes(&watch.key)
            .unless_empty(&watch.range_end)
            .number("start", watch.start_revision)
            .flag("prev_kv", watch.prev_kv)
            .flag("progress_notify", watch.progress_notify)
            .flag("fragment", watch.fragment)
            .flag("no_put", watch.filters.contains(&0))
            .flag("no_delete", watch.filters.contains(&1))
            .number(
                "filter",
                watch.filters.iter().find(|it| !(0..2).contains(*it)).map_or(0, |it| (*it).into()),
            )
            .number("id", watch.watch_id)
    }
}

impl From<&Request> for Line {
    fn from(request: &Request) -> Line {
        match request {
            Request::Put(put) => Line::new("put").put(put),
            Request::Range(range) => Line::new("range").range(range),
            Request::RangeStream(range) => Line::new("range_stream").range(range),
            Request::Delete(delete) => Line::new("delete").delete(delete),
            Request::Txn(_) => Line::new("txn"),
            Request::Compact(CompactionRequest { revision, physical }) => {
                Line::new("compact").plain(revision).flag("physical", *physical)
            }
            Request::HashKv(revision) => Line::new("hash_kv").plain(revision),
            Request::Alarm(alarm) => Line::new("alarm")
                .named("action", alarm.action, &ACTIONS)
                .number("member", alarm.member_id.cast_signed())
                .named("kind", alarm.alarm, &KINDS),
            Request::Grant(LeaseGrantRequest { ttl, id }) => {
                Line::new("grant").plain(ttl).number("id", *id)
            }
            Request::Revoke(id) => Line::new("revoke").plain(lease_id(*id)),
            Request::KeepAlive(id) => Line::new("keep_alive").plain(lease_id(*id)),
            Request::TimeToLive(LeaseTimeToLiveRequest { id, keys }) => {
                Line::new("time_to_live").plain(lease_id(*id)).flag("keys", *keys)
            }
            Request::Leases => Line::new("leases"),
            Request::Watch { stream, create } => Line::new("watch").watch(create).stream(stream),
            Request::Cancel { stream, id } => Line::new("cancel").plain(id).stream(stream),
            Request::Progress { stream } => Line::new("progress").stream(stream),
            Request::Events { stream, count } => Line::new("events").plain(count).stream(stream),
            Request::Next { stream } => Line::new("next").stream(stream),
            Request::Silence { stream } => Line::new("silence").stream(stream),
            Request::Lock { request, aside } => Line::new("lock")
                .bytes(&request.name)
                .lease(request.lease)
                .name("as", aside.as_ref()),
            Request::Unlock(key) => Line::new("unlock").bytes(key),
            Request::Campaign { request, aside, keep } => Line::new("campaign")
                .bytes(&request.name)
                .unless_empty(&request.value)
                .lease(request.lease)
                .name("as", aside.as_ref())
                .name("as_leader", keep.as_ref()),
            Request::Proclaim { leader, value } => {
                Line::new("proclaim").plain(leader).unless_empty(value)
            }
            Request::Forge { leader, keep } => Line::new("forge")
                .bytes(&leader.name)
                .bytes(&leader.key)
                .plain(leader.rev)
                .lease(leader.lease)
                .name("as_leader", Some(keep)),
            Request::Leader(name) => Line::new("leader").bytes(name),
            Request::Resign { leader } => Line::new("resign").plain(leader),
            Request::Observe(name) => Line::new("observe").bytes(name),
            Request::Finish(name) => Line::new("finish").plain(name),
            Request::Pending(name) => Line::new("pending").plain(name),
            Request::Sleep(ms) => Line::new("sleep").plain(ms),
            Request::Auth(words) => {
                words[1..].iter().fold(Line::new(&words[0]), |line, it| line.bytes(it.as_bytes()))
            }
        }
    }
}

fn lease_id(id: i64) -> String {
    if id == CHOSEN { "chosen".to_owned() } else { id.to_string() }
}

/// The parts of a transaction, indented by their depth.
fn nested(txn: &TxnRequest, depth: usize, lines: &mut Vec<String>) {
    let indent = " ".repeat(1 + 2 * depth);
    lines.extend(txn.compare.iter().map(|it| format!(">{indent}if {}", compare(it))));
    for (branch, operations) in [("then", &txn.success), ("else", &txn.failure)] {
        for operation in operations {
            lines.push(format!(">{indent}{branch} {}", self::operation(operation).0));
            if let Some(Operation::RequestTxn(txn)) = &operation.request {
                nested(txn, depth + 1, lines);
            }
        }
    }
}

fn operation(operation: &RequestOp) -> Line {
    match &operation.request {
        Some(Operation::RequestPut(put)) => Line::new("put").put(put),
        Some(Operation::RequestRange(range)) => Line::new("range").range(range),
        Some(Operation::RequestDeleteRange(delete)) => Line::new("delete").delete(delete),
        Some(Operation::RequestTxn(_)) => Line::new("txn"),
        None => Line::new("empty"),
    }
}

fn compare(compare: &Compare) -> String {
    if *compare == Compare::default() {
        return "empty".to_owned();
    }
    let name = |names: &[&str], number: i32| {
        let known = usize::try_from(number).ok().and_then(|at| names.get(at));
        known.map_or_else(|| number.to_string(), ToString::to_string)
    };
    let (target, result) =
        (name(&txn::TARGETS, compare.target), name(&txn::RESULTS, compare.result));
    let operand = compare.target_union.as_ref().map(|operand| match operand {
        TargetUnion::Version(version) => ("version", version.to_string()),
        TargetUnion::CreateRevision(at) => ("create", at.to_string()),
        TargetUnion::ModRevision(at) => ("mod", at.to_string()),
        TargetUnion::Value(value) => ("value", word(value)),
        TargetUnion::Lease(id) => ("lease", lease_id(*id)),
    });
    let operand = match operand {
        None => String::new(),
        Some((field, value)) if field == target => format!(" {value}"),
        Some((field, value)) => format!(" {value} in={field}"),
    };
    let end: &Bytes = &compare.range_end;
    let end = if end.is_empty() { String::new() } else { format!(" {}", word(end)) };
    format!("{target} {}{end} {result}{operand}", word(&compare.key))
}

#[test]
fn what_is_printed_reads_back() {
    let of_scripts: Vec<Request> = super::run::scripts()
        .iter()
        .flat_map(|script| script.cases())
        .flat_map(|(_, exchanges)| exchanges.into_iter().map(|exchange| exchange.request.clone()))
        .collect();
    let random = (0..300).flat_map(|seed| super::program::Program::new(seed).requests);
    for request in of_scripts.into_iter().chain(random) {
        let lines = lines(&request);
        let lines: Vec<&str> = lines.iter().map(|line| &line[1..]).collect();
        assert_eq!(super::request::parse(&lines).as_ref(), Ok(&request), "{}", lines.join("\n"));
    }
}
