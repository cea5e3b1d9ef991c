//! Answers as they stand in a script.

use orrery::proto::{
    etcdserverpb::{
        AlarmMember, AlarmResponse, AlarmType, DeleteRangeResponse, HashKvResponse,
        LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseTimeToLiveResponse,
        PutResponse, RangeResponse, ResponseHeader, TxnResponse, WatchResponse,
        response_op::Response as Inner,
    },
    mvccpb::{Event, KeyValue, event::EventType},
    v3electionpb::{CampaignResponse, LeaderKey, LeaderResponse},
    v3lockpb::LockResponse,
};
use tonic::Status;

use super::words::word;

/// Seconds that may have passed since a lease was granted or renewed: members are stopped and
/// started meanwhile. No script tells leases apart by so little.
const LIVED_MAX: i64 = 5;

/// How numbers of the server are printed in a case.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Frame {
    /// What is added to a revision of the case to get one of the server.
    pub base: i64,
    /// The lease that the server chose, if it did.
    pub chosen: Option<i64>,
}

pub(crate) type Lines = Vec<String>;

impl Frame {
    pub(crate) fn revision(self, revision: i64) -> i64 {
        if revision > 0 { revision - self.base } else { revision }
    }

    fn lease(self, id: i64) -> String {
        if self.chosen == Some(id) { "chosen".to_owned() } else { id.to_string() }
    }

    fn header(self, header: Option<&ResponseHeader>, lines: &mut Lines) {
        match header {
            None => lines.push("no header".to_owned()),
            Some(header) if header.revision == 0 => (),
            Some(header) => lines.push(format!("rev {}", self.revision(header.revision))),
        }
    }

    fn kv(self, kv: &KeyValue) -> String {
        let numbers = format!(
            "create {} mod {} version {}",
            self.revision(kv.create_revision),
            self.revision(kv.mod_revision),
            kv.version
        );
        let lease = match kv.lease {
            0 => String::new(),
            id => format!(" lease {}", self.lease(id)),
        };
        format!("{} = {}  {numbers}{lease}", word(&kv.key), word(&kv.value))
    }

    fn previous(self, kvs: &[KeyValue], lines: &mut Lines) {
        lines.extend(kvs.iter().map(|kv| format!("prev {}", self.kv(kv))));
    }

    pub(crate) fn put(self, put: &PutResponse) -> Lines {
        let mut lines = Lines::new();
        self.previous(put.prev_kv.as_slice(), &mut lines);
        self.header(put.header.as_ref(), &mut lines);
        lines
    }

    pub(crate) fn range(self, range: &RangeResponse) -> Lines {
        let mut lines: Lines = range.kvs.iter().map(|kv| self.kv(kv)).collect();
        if range.more {
            lines.push("more".to_owned());
        }
        lines.push(format!("count {}", range.count));
        self.header(range.header.as_ref(), &mut lines);
        lines
    }

    pub(crate) fn delete(self, delete: &DeleteRangeResponse) -> Lines {
        let mut lines = vec![format!("deleted {}", delete.deleted)];
        self.previous(&delete.prev_kvs, &mut lines);
        self.header(delete.header.as_ref(), &mut lines);
        lines
    }

    pub(crate) fn txn(self, txn: &TxnResponse) -> Lines {
        let branch = if txn.succeeded { "succeeded" } else { "failed" };
        let mut lines = vec![branch.to_owned()];
        for response in &txn.responses {
            let (name, header, inner) = match &response.response {
                Some(Inner::ResponsePut(put)) => ("put", &put.header, self.put(put)),
                Some(Inner::ResponseRange(range)) => ("range", &range.header, self.range(range)),
                Some(Inner::ResponseDeleteRange(delete)) => {
                    ("delete", &delete.header, self.delete(delete))
                }
                Some(Inner::ResponseTxn(txn)) => ("txn", &txn.header, self.txn(txn)),
                None => ("nothing", &None, Lines::new()),
            };
            if let Some(header) = header
                && (header.cluster_id, header.member_id, header.raft_term) != (0, 0, 0)
            {
                lines.push(format!("  an inner header of more than a revision: {header:?}"));
            }
            lines.push(format!("  {name}"));
            lines.extend(inner.iter().map(|line| format!("    {line}")));
        }
        self.header(txn.header.as_ref(), &mut lines);
        lines
    }

    pub(crate) fn only_header(self, header: Option<&ResponseHeader>) -> Lines {
        let mut lines = Lines::new();
        self.header(header, &mut lines);
        lines
    }

    pub(crate) fn hash_kv(self, hash: &HashKvResponse) -> Lines {
        let compacted = self.revision(hash.compact_revision);
        let hashed = self.revision(hash.hash_revision);
        let mut lines = vec![format!("hash {} at {hashed} compact {compacted}", hash.hash)];
        self.header(hash.header.as_ref(), &mut lines);
        lines
    }

    /// etcd lists alarms in no order.
    pub(crate) fn alarm(self, alarms: &AlarmResponse) -> Lines {
        let line = |AlarmMember { member_id, alarm }: &AlarmMember| {
            let kind = AlarmType::try_from(*alarm).map(|kind| kind.as_str_name().to_lowercase());
            format!("alarm {} member {member_id}", kind.unwrap_or_else(|_| alarm.to_string()))
        };
        let mut lines: Lines = alarms.alarms.iter().map(line).collect();
        lines.sort();
        self.header(alarms.header.as_ref(), &mut lines);
        lines
    }

    pub(crate) fn grant(self, grant: &LeaseGrantResponse) -> Lines {
        let mut lines = vec![format!("id {} ttl {}", self.lease(grant.id), grant.ttl)];
        if !grant.error.is_empty() {
            lines.push(format!("error {:?}", grant.error));
        }
        self.header(grant.header.as_ref(), &mut lines);
        lines
    }

    pub(crate) fn keep_alive(self, kept: &LeaseKeepAliveResponse) -> Lines {
        let mut lines = vec![format!("id {} ttl {}", self.lease(kept.id), kept.ttl)];
        self.header(kept.header.as_ref(), &mut lines);
        lines
    }

    pub(crate) fn time_to_live(self, answer: &LeaseTimeToLiveResponse) -> Lines {
        let near = answer.ttl > 0 && answer.granted_ttl - answer.ttl <= LIVED_MAX;
        let ttl = if near { answer.granted_ttl } else { answer.ttl };
        let id = self.lease(answer.id);
        let mut lines = vec![format!("id {id} ttl {ttl} granted {}", answer.granted_ttl)];
        lines.extend(answer.keys.iter().map(|key| format!("key {}", word(key))));
        self.header(answer.header.as_ref(), &mut lines);
        lines
    }

    pub(crate) fn leases(self, leases: &LeaseLeasesResponse) -> Lines {
        let mut lines: Lines =
            leases.leases.iter().map(|lease| format!("id {}", self.lease(lease.id))).collect();
        self.header(leases.header.as_ref(), &mut lines);
        lines
    }

    /// A response of a watch that is not made of events.
    pub(crate) fn control(self, response: &WatchResponse) -> Lines {
        let id = response.watch_id;
        let mut lines = Lines::new();
        match (response.created, response.canceled) {
            (false, false) => lines.push(format!("progress id {id}")),
            (true, false) => lines.push(format!("created id {id}")),
            (created, true) => {
                let created = if created { "created and " } else { "" };
                let mut line = format!("{created}canceled id {id}");
                if response.compact_revision != 0 {
                    line += &format!(" compact {}", self.revision(response.compact_revision));
                }
                if !response.cancel_reason.is_empty() {
                    line += &format!(": {}", response.cancel_reason);
                }
                lines.push(line);
            }
        }
        self.header(response.header.as_ref(), &mut lines);
        lines
    }

    pub(crate) fn event(self, watch_id: Option<i64>, event: &Event) -> Lines {
        let kv = event.kv.clone().unwrap_or_default();
        let id = watch_id.map(|id| format!("id {id}: ")).unwrap_or_default();
        let mut lines = vec![match event.r#type == EventType::Put as i32 {
            true => format!("{id}put {}", self.kv(&kv)),
            false => {
                let empty = KeyValue {
                    key: kv.key.clone(),
                    mod_revision: kv.mod_revision,
                    ..KeyValue::default()
                };
                let rest = if kv == empty { String::new() } else { format!(" {kv:?}") };
                let at = self.revision(kv.mod_revision);
                format!("{id}delete {}  mod {at}{rest}", word(&kv.key))
            }
        }];
        self.previous(event.prev_kv.as_slice(), &mut lines);
        lines
    }

    pub(crate) fn lock(self, lock: &LockResponse) -> Lines {
        let mut lines = vec![format!("key {}", self.owned_key(&lock.key))];
        self.header(lock.header.as_ref(), &mut lines);
        lines
    }

    /// Ends with the lease in hexadecimal digits, which is no news.
    fn owned_key(self, key: &[u8]) -> String {
        let hex = self.chosen.map(|id| format!("{id:x}")).unwrap_or_default();
        match std::str::from_utf8(key).ok().and_then(|key| key.strip_suffix(&hex)) {
            Some(name) if !hex.is_empty() => word(format!("{name}chosen").as_bytes()),
            _ => word(key),
        }
    }

    pub(crate) fn campaign(self, won: &CampaignResponse) -> Lines {
        let mut lines = Lines::new();
        if let Some(LeaderKey { name, key, rev, lease }) = &won.leader {
            let (rev, lease) = (self.revision(*rev), self.lease(*lease));
            let key = self.owned_key(key);
            lines.push(format!("leader {key} of {} rev {rev} lease {lease}", word(name)));
        }
        self.header(won.header.as_ref(), &mut lines);
        lines
    }

    pub(crate) fn leader(self, leader: &LeaderResponse) -> Lines {
        let mut lines: Lines = leader.kv.iter().map(|kv| self.kv(kv)).collect();
        self.header(leader.header.as_ref(), &mut lines);
        lines
    }
}

pub(crate) fn error(status: &Status) -> Lines {
    vec![format!("error {:?}: {}", status.code(), status.message())]
}
