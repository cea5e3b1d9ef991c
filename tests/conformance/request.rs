//! Requests as they stand in a script.

use std::str::FromStr;

use bytes::Bytes;
use orrery::proto::{
    etcdserverpb::{
        AlarmRequest, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest,
        LeaseTimeToLiveRequest, PutRequest, RangeRequest, TxnRequest, WatchCreateRequest,
    },
    v3electionpb::{CampaignRequest, LeaderKey},
    v3lockpb::LockRequest,
};

use super::{
    auth, txn,
    words::{self, Word},
};

/// Stands for the lease id that the server has chosen in this case.
pub(crate) const CHOSEN: i64 = i64::MIN + 77;

/// What a script does. Revisions count from the beginning of the case.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Request {
    Put(PutRequest),
    Range(RangeRequest),
    RangeStream(RangeRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    HashKv(i64),
    Alarm(AlarmRequest),
    Grant(LeaseGrantRequest),
    Revoke(i64),
    KeepAlive(i64),
    TimeToLive(LeaseTimeToLiveRequest),
    Leases,
    Watch {
        stream: String,
        create: WatchCreateRequest,
    },
    Cancel {
        stream: String,
        id: i64,
    },
    Progress {
        stream: String,
    },
    Events {
        stream: String,
        count: usize,
    },
    Next {
        stream: String,
    },
    Silence {
        stream: String,
    },
    Lock {
        request: LockRequest,
        aside: Option<String>,
    },
    Unlock(Bytes),
    Campaign {
        request: CampaignRequest,
        aside: Option<String>,
        keep: Option<String>,
    },
    Forge {
        leader: LeaderKey,
        keep: String,
    },
    Proclaim {
        leader: String,
        value: Bytes,
    },
    Leader(Bytes),
    Resign {
        leader: String,
    },
    Observe(Bytes),
    Finish(String),
    Pending(String),
    Sleep(u64),
    /// About users, roles and tokens: its words.
    Auth(Vec<String>),
}

/// The lines of a request, without the `>` before each.
pub(crate) fn parse(lines: &[&str]) -> Result<Request, String> {
    let (first, more) = lines.split_first().ok_or("nothing is asked")?;
    if first.trim() == "txn" {
        return Ok(Request::Txn(txn::parse(more)?));
    }
    if !more.is_empty() {
        return Err("only a transaction has more lines".to_owned());
    }
    let mut words = words::split(first)?;
    if words.first().is_some_and(|name| auth::NAMES.iter().any(|known| name.text == known)) {
        let text = words.into_iter().map(|word| String::from_utf8(word.text.to_vec()));
        return Ok(Request::Auth(text.collect::<Result<_, _>>().map_err(|it| it.to_string())?));
    }
    let name = words.remove(0).text;
    let mut arguments = Arguments::new(words);
    let request = read(&String::from_utf8_lossy(&name), &mut arguments)?;
    arguments.end()?;
    Ok(request)
}

/// A request or operation by its name.
fn read(name: &str, arguments: &mut Arguments) -> Result<Request, String> {
    let stream = |arguments: &mut Arguments| {
        arguments.text("stream").map(|name| name.unwrap_or_else(|| "main".to_owned()))
    };
    Ok(match name {
        "put" => Request::Put(put(arguments)?),
        "range" => Request::Range(range(arguments)?),
        "range_stream" => Request::RangeStream(range(arguments)?),
        "delete" => Request::Delete(delete(arguments)?),
        "compact" => Request::Compact(CompactionRequest {
            revision: arguments.number()?,
            physical: arguments.flag("physical"),
        }),
        "hash_kv" => Request::HashKv(arguments.number()?),
        "alarm" => Request::Alarm(alarm(arguments)?),
        "grant" => Request::Grant(LeaseGrantRequest {
            ttl: arguments.number()?,
            id: arguments.option("id")?.unwrap_or(0),
        }),
        "revoke" => Request::Revoke(arguments.lease()?),
        "keep_alive" => Request::KeepAlive(arguments.lease()?),
        "time_to_live" => Request::TimeToLive(LeaseTimeToLiveRequest {
            id: arguments.lease()?,
            keys: arguments.flag("keys"),
        }),
        "leases" => Request::Leases,
        "watch" => Request::Watch { create: watch(arguments)?, stream: stream(arguments)? },
        "cancel" => Request::Cancel { id: arguments.number()?, stream: stream(arguments)? },
        "progress" => Request::Progress { stream: stream(arguments)? },
        "events" => Request::Events { count: arguments.number()?, stream: stream(arguments)? },
        "next" => Request::Next { stream: stream(arguments)? },
        "silence" => Request::Silence { stream: stream(arguments)? },
        "lock" => Request::Lock {
            request: LockRequest { name: arguments.bytes()?, lease: arguments.lease_option()? },
            aside: arguments.text("as")?,
        },
        "unlock" => Request::Unlock(arguments.bytes()?),
        "campaign" => Request::Campaign {
            request: CampaignRequest {
                name: arguments.bytes()?,
                value: arguments.optional_bytes(),
                lease: arguments.lease_option()?,
            },
            aside: arguments.text("as")?,
            keep: arguments.text("as_leader")?,
        },
        "forge" => Request::Forge {
            leader: LeaderKey {
                name: arguments.bytes()?,
                key: arguments.bytes()?,
                rev: arguments.number()?,
                lease: arguments.lease_option()?,
            },
            keep: arguments.text("as_leader")?.ok_or("a leader key is forged as somebody")?,
        },
        "proclaim" => {
            Request::Proclaim { leader: arguments.name()?, value: arguments.optional_bytes() }
        }
        "leader" => Request::Leader(arguments.bytes()?),
        "resign" => Request::Resign { leader: arguments.name()? },
        "observe" => Request::Observe(arguments.bytes()?),
        "finish" => Request::Finish(arguments.name()?),
        "pending" => Request::Pending(arguments.name()?),
        "sleep" => Request::Sleep(arguments.number()?),
        other => return Err(format!("there is no request {other:?}")),
    })
}

fn alarm(arguments: &mut Arguments) -> Result<AlarmRequest, String> {
    Ok(AlarmRequest {
        action: arguments.named("action", &ACTIONS)?,
        member_id: arguments.option("member")?.unwrap_or(0),
        alarm: arguments.named("kind", &KINDS)?,
    })
}

pub(crate) fn put(arguments: &mut Arguments) -> Result<PutRequest, String> {
    Ok(PutRequest {
        key: arguments.bytes()?,
        value: arguments.optional_bytes(),
        lease: arguments.lease_option()?,
        prev_kv: arguments.flag("prev_kv"),
        ignore_value: arguments.flag("ignore_value"),
        ignore_lease: arguments.flag("ignore_lease"),
    })
}

pub(crate) fn range(arguments: &mut Arguments) -> Result<RangeRequest, String> {
    Ok(RangeRequest {
        key: arguments.bytes()?,
        range_end: arguments.optional_bytes(),
        limit: arguments.option("limit")?.unwrap_or(0),
        revision: arguments.option("revision")?.unwrap_or(0),
        sort_order: arguments.named("order", &ORDERS)?,
        sort_target: arguments.named("target", &TARGETS)?,
        serializable: arguments.flag("serializable"),
        keys_only: arguments.flag("keys_only"),
        count_only: arguments.flag("count_only"),
        min_mod_revision: arguments.option("min_mod")?.unwrap_or(0),
        max_mod_revision: arguments.option("max_mod")?.unwrap_or(0),
        min_create_revision: arguments.option("min_create")?.unwrap_or(0),
        max_create_revision: arguments.option("max_create")?.unwrap_or(0),
    })
}

pub(crate) const ACTIONS: [&str; 3] = ["get", "activate", "deactivate"];
pub(crate) const KINDS: [&str; 3] = ["none", "nospace", "corrupt"];
pub(crate) const ORDERS: [&str; 3] = ["none", "ascend", "descend"];
pub(crate) const TARGETS: [&str; 5] = ["key", "version", "create", "mod", "value"];

pub(crate) fn delete(arguments: &mut Arguments) -> Result<DeleteRangeRequest, String> {
    Ok(DeleteRangeRequest {
        key: arguments.bytes()?,
        range_end: arguments.optional_bytes(),
        prev_kv: arguments.flag("prev_kv"),
    })
}

fn watch(arguments: &mut Arguments) -> Result<WatchCreateRequest, String> {
    let mut filters = Vec::new();
    for (name, filter) in [("no_put", 0), ("no_delete", 1)] {
        filters.extend(arguments.flag(name).then_some(filter));
    }
    filters.extend(arguments.option::<i32>("filter")?);
    Ok(WatchCreateRequest {
        key: arguments.bytes()?,
        range_end: arguments.optional_bytes(),
        start_revision: arguments.option("start")?.unwrap_or(0),
        prev_kv: arguments.flag("prev_kv"),
        progress_notify: arguments.flag("progress_notify"),
        fragment: arguments.flag("fragment"),
        filters,
        watch_id: arguments.option("id")?.unwrap_or(0),
    })
}

/// What follows the name of a request: values, then options.
pub(crate) struct Arguments {
    values: std::vec::IntoIter<Bytes>,
    options: Vec<(String, Option<String>)>,
}

/// Words that are options where they stand bare.
pub(crate) const OPTIONS: [&str; 30] = [
    "action",
    "as",
    "as_leader",
    "count_only",
    "filter",
    "fragment",
    "id",
    "ignore_lease",
    "ignore_value",
    "keys",
    "keys_only",
    "kind",
    "lease",
    "limit",
    "max_create",
    "max_mod",
    "member",
    "min_create",
    "min_mod",
    "no_delete",
    "no_put",
    "order",
    "physical",
    "prev_kv",
    "progress_notify",
    "revision",
    "serializable",
    "start",
    "stream",
    "target",
];

impl Arguments {
    pub(crate) fn new(words: Vec<Word>) -> Arguments {
        let is_option =
            |word: &Word| word.option().is_some_and(|(name, _)| OPTIONS.contains(&name));
        let first = words.iter().position(is_option).unwrap_or(words.len());
        let options = words[first..].iter().map(|word| {
            let text = String::from_utf8_lossy(&word.text);
            let split = text.split_once('=');
            split.map_or((text.clone().into_owned(), None), |(name, value)| {
                (name.to_owned(), Some(value.to_owned()))
            })
        });
        let options = options.collect();
        let values: Vec<Bytes> = words.into_iter().take(first).map(|word| word.text).collect();
        Arguments { values: values.into_iter(), options }
    }

    pub(crate) fn end(mut self) -> Result<(), String> {
        if let Some(value) = self.values.next() {
            return Err(format!("{} is one value too many", words::word(&value)));
        }
        self.options.first().map_or(Ok(()), |(name, _)| Err(format!("{name} has no place here")))
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, String> {
        self.values.next().ok_or_else(|| "a value is missing".to_owned())
    }

    pub(crate) fn optional_bytes(&mut self) -> Bytes {
        self.values.next().unwrap_or_default()
    }

    pub(crate) fn name(&mut self) -> Result<String, String> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|error| error.to_string())
    }

    pub(crate) fn number<T: FromStr>(&mut self) -> Result<T, String> {
        let name = self.name()?;
        name.parse().map_err(|_| format!("{name:?} is no number that fits"))
    }

    fn lease(&mut self) -> Result<i64, String> {
        lease_id(&self.name()?)
    }

    fn lease_option(&mut self) -> Result<i64, String> {
        self.text("lease")?.map_or(Ok(0), |id| lease_id(&id))
    }

    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let at = self.options.iter().position(|(known, value)| known == name && value.is_none());
        at.map(|at| self.options.remove(at)).is_some()
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        let at = self.options.iter().position(|(known, value)| known == name && value.is_some());
        Ok(at.and_then(|at| self.options.remove(at).1))
    }

    fn option<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, String> {
        let parse = |text: String| text.parse().map_err(|_| format!("{name}={text} is no number"));
        self.text(name)?.map(parse).transpose()
    }

    /// A value of an enum, by name or number; its first where nothing is said.
    fn named(&mut self, option: &str, names: &[&str]) -> Result<i32, String> {
        let Some(text) = self.text(option)? else { return Ok(0) };
        match names.iter().position(|name| *name == text) {
            Some(at) => Ok(i32::try_from(at).expect("enums are short")),
            None => text.parse().map_err(|_| format!("{option}={text} is none of {names:?}")),
        }
    }
}

pub(crate) fn lease_id(text: &str) -> Result<i64, String> {
    match text {
        "chosen" => Ok(CHOSEN),
        number => number.parse().map_err(|_| format!("{number:?} is no lease")),
    }
}
