//! A key space that keeps a whole map for every revision: slow, obvious, and what the real one is
//! compared with.

use std::collections::BTreeMap;

use bytes::Bytes;
use imbl::OrdMap;
use orrery::{
    proto::{
        command::command::Operation,
        etcdserverpb::{
            Compare, DeleteRangeRequest, DeleteRangeResponse, LeaseGrantResponse, PutRequest,
            PutResponse, RangeRequest, RangeResponse, ResponseHeader, ResponseOp, TxnRequest,
            TxnResponse,
            compare::{CompareResult, CompareTarget, TargetUnion},
            range_request::{SortOrder, SortTarget},
            request_op::Request,
            response_op::Response,
        },
        mvccpb::KeyValue,
    },
    state_machine::{Compacted, Rejection, Reply},
    types::{KeyRange, LeaseId, Revision},
};

/// Clones share what is alike, so a map for every revision costs what changed in it.
pub type Map = OrdMap<Bytes, KeyValue>;

#[derive(Clone, Debug)]
pub struct KeySpace {
    /// The store at revision 1, 2, ...
    maps: Vec<Map>,
    pub floor: Option<i64>,
    /// Time to live and what a checkpoint left of it.
    pub leases: BTreeMap<i64, (i64, Option<i64>)>,
}

impl Default for KeySpace {
    fn default() -> KeySpace {
        KeySpace { maps: vec![Map::new()], floor: None, leases: BTreeMap::new() }
    }
}

impl KeySpace {
    pub fn new() -> KeySpace {
        KeySpace::default()
    }

    pub fn revision(&self) -> i64 {
        self.maps.len() as i64
    }

    pub fn at(&self, revision: i64) -> &Map {
        &self.maps[revision as usize - 1]
    }

    /// Keys attached to a lease.
    pub fn lease_keys(&self, id: i64) -> Vec<Bytes> {
        let newest = self.at(self.revision()).values();
        newest.filter(|kv| kv.lease == id).map(|kv| kv.key.clone()).collect()
    }

    /// Carries out a command of the key space or of leases.
    pub fn apply(&mut self, operation: &Operation) -> Result<Reply, Rejection> {
        match operation {
            Operation::Compact(request) => return self.compact(request.revision),
            Operation::LeaseGrant(request) => {
                if self.leases.contains_key(&request.id) {
                    return Err(Rejection::LeaseExists(LeaseId::from_wire(request.id).unwrap()));
                }
                let header = Work::new(self).header();
                self.leases.insert(request.id, (request.ttl, None));
                let (id, ttl, error) = (request.id, request.ttl, String::new());
                return Ok(Reply::LeaseGrant(LeaseGrantResponse { header, id, ttl, error }));
            }
            Operation::LeaseRevoke(request) => {
                if !self.leases.contains_key(&request.id) {
                    return Err(Rejection::LeaseNotFound(LeaseId::from_wire(request.id).unwrap()));
                }
                self.delete_keys_of(request.id);
                self.leases.remove(&request.id);
                return Ok(Reply::Done);
            }
            Operation::LeaseCheckpoint(request) => {
                for checkpoint in &request.checkpoints {
                    if let Some((ttl, remaining)) = self.leases.get_mut(&checkpoint.id) {
                        let left = checkpoint.remaining_ttl.min(*ttl);
                        *remaining = (left > 0).then_some(left);
                    }
                }
                return Ok(Reply::Done);
            }
            _ => {}
        }
        let (reply, after) = self.answer(operation)?;
        self.maps.extend(after);
        Ok(reply)
    }

    /// What a put, a deletion or a transaction would be answered now, and the store after it if
    /// that is another.
    pub fn answer(&self, operation: &Operation) -> Result<(Reply, Option<Map>), Rejection> {
        let mut work = Work::new(self);
        let reply = match operation {
            Operation::Put(request) => {
                work.check_put(request)?;
                Reply::Put(work.put(request))
            }
            Operation::DeleteRange(request) => Reply::DeleteRange(work.delete_range(request)),
            Operation::Txn(request) => {
                let path = work.path(request);
                work.check_txn(request, &mut path.iter())?;
                if work.changes_a_key_twice(request, &path) {
                    return Err(Rejection::Malformed("a key is changed twice"));
                }
                let mut response = work.txn(request, &mut path.iter());
                response.header = work.header();
                Reply::Txn(response)
            }
            other => panic!("not a command of the key space: {other:?}"),
        };
        let after = (work.changes > 0).then_some(work.map);
        Ok((reply, after))
    }

    /// A revision in which the keys of a lease are deleted, if it has any.
    pub fn delete_keys_of(&mut self, lease: i64) {
        let keys = self.lease_keys(lease);
        if keys.is_empty() {
            return;
        }
        let mut map = self.at(self.revision()).clone();
        for key in &keys {
            map.remove(key);
        }
        self.maps.push(map);
    }

    /// The next revision, whatever led to it.
    pub fn push(&mut self, map: Map) {
        self.maps.push(map);
    }

    fn compact(&mut self, revision: i64) -> Result<Reply, Rejection> {
        let number = |raw: i64| Revision::from_wire(raw).unwrap_or(Revision::BEFORE_ALL);
        if revision <= self.floor.unwrap_or(-1) {
            return Err(Rejection::Compacted(number(self.floor.unwrap_or(1))));
        }
        if revision > self.revision() {
            return Err(Rejection::FutureRevision(number(self.revision())));
        }
        let (from, to) = (self.floor.map(number), number(revision));
        self.floor = Some(revision);
        Ok(Reply::Compact(Compacted { from, to }))
    }

    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Rejection> {
        Work::new(self).range(request)
    }
}

/// A transaction on its way.
struct Work<'a> {
    before: &'a KeySpace,
    map: Map,
    changes: usize,
}

impl Work<'_> {
    fn new(before: &KeySpace) -> Work<'_> {
        Work { before, map: before.at(before.revision()).clone(), changes: 0 }
    }

    fn revision(&self) -> i64 {
        self.before.revision() + (self.changes > 0) as i64
    }

    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader { revision: self.revision(), ..Default::default() })
    }

    fn check_put(&self, request: &PutRequest) -> Result<(), Rejection> {
        if request.lease != 0 && !self.before.leases.contains_key(&request.lease) {
            return Err(Rejection::LeaseNotFound(LeaseId::from_wire(request.lease).unwrap()));
        }
        let ignores = request.ignore_value || request.ignore_lease;
        match ignores && !self.map.contains_key(&request.key) {
            true => Err(Rejection::KeyNotFound),
            false => Ok(()),
        }
    }

    fn put(&mut self, request: &PutRequest) -> PutResponse {
        let previous = self.map.get(&request.key).cloned();
        let main = self.before.revision() + 1;
        let mut kv = KeyValue {
            key: request.key.clone(),
            create_revision: previous.as_ref().map_or(main, |kv| kv.create_revision),
            mod_revision: main,
            version: previous.as_ref().map_or(1, |kv| kv.version + 1),
            value: request.value.clone(),
            lease: request.lease,
        };
        if let Some(previous) = &previous {
            if request.ignore_value {
                kv.value = previous.value.clone();
            }
            if request.ignore_lease {
                kv.lease = previous.lease;
            }
        }
        self.map.insert(request.key.clone(), kv);
        self.changes += 1;
        PutResponse { header: self.header(), prev_kv: previous.filter(|_| request.prev_kv) }
    }

    fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let range = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
        let doomed: Vec<KeyValue> =
            self.map.values().filter(|kv| range.contains(&kv.key)).cloned().collect();
        for kv in &doomed {
            self.map.remove(&kv.key);
        }
        self.changes += doomed.len();
        let deleted = doomed.len() as i64;
        let prev_kvs = if request.prev_kv { doomed } else { Vec::new() };
        DeleteRangeResponse { header: self.header(), deleted, prev_kvs }
    }

    /// Which branch each transaction takes, in the order in which they are met.
    fn path(&self, request: &TxnRequest) -> Vec<bool> {
        let succeeded = request.compare.iter().all(|compare| holds(&self.map, compare));
        let mut path = vec![succeeded];
        for operation in if succeeded { &request.success } else { &request.failure } {
            if let Some(Request::RequestTxn(txn)) = &operation.request {
                path.extend(self.path(txn));
            }
        }
        path
    }

    fn check_txn(
        &self,
        request: &TxnRequest,
        path: &mut std::slice::Iter<'_, bool>,
    ) -> Result<(), Rejection> {
        for operation in branch(request, path).1 {
            match operation {
                // In a transaction a negative revision is an old one; -1 is older than any floor.
                Request::RequestRange(range)
                    if range.revision < 0 && range.revision < self.before.floor.unwrap_or(-1) =>
                {
                    let floor = self.before.floor.unwrap_or(1);
                    let floor = Revision::from_wire(floor).unwrap_or(Revision::BEFORE_ALL);
                    return Err(Rejection::Compacted(floor));
                }
                Request::RequestRange(range) => self.range(&range).map(|_| ())?,
                Request::RequestPut(put) => self.check_put(&put)?,
                Request::RequestDeleteRange(_) => {}
                Request::RequestTxn(txn) => self.check_txn(&txn, path)?,
            }
        }
        Ok(())
    }

    /// Whether a key that is put is put or deleted once more.
    fn changes_a_key_twice(&self, request: &TxnRequest, path: &[bool]) -> bool {
        let (mut puts, mut changes) = (Vec::new(), Vec::new());
        collect_changes(request, &mut path.iter(), &mut puts, &mut changes);
        puts.iter().any(|key| changes.iter().filter(|range| range.contains(key)).count() > 1)
    }

    fn txn(&mut self, request: &TxnRequest, path: &mut std::slice::Iter<'_, bool>) -> TxnResponse {
        let (succeeded, operations) = branch(request, path);
        let mut responses = Vec::new();
        for operation in operations {
            let response = match operation {
                Request::RequestRange(range) => {
                    Response::ResponseRange(self.range(&range).unwrap())
                }
                Request::RequestPut(put) => Response::ResponsePut(self.put(&put)),
                Request::RequestDeleteRange(delete) => {
                    Response::ResponseDeleteRange(self.delete_range(&delete))
                }
                Request::RequestTxn(txn) => Response::ResponseTxn(self.txn(&txn, path)),
            };
            responses.push(ResponseOp { response: Some(response) });
        }
        TxnResponse { header: Some(ResponseHeader::default()), succeeded, responses }
    }

    fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Rejection> {
        let number = |raw: i64| Revision::from_wire(raw).unwrap();
        if request.revision > self.revision() {
            return Err(Rejection::FutureRevision(number(self.revision())));
        }
        if request.revision > 0
            && let Some(floor) = self.before.floor
            && request.revision < floor
        {
            return Err(Rejection::Compacted(number(floor)));
        }
        let map = match request.revision {
            at if at > 0 && at <= self.before.revision() => self.before.at(at),
            _ => &self.map,
        };
        let range = KeyRange::from_wire(request.key.clone(), request.range_end.clone());
        let mut kvs: Vec<KeyValue> =
            map.values().filter(|kv| range.contains(&kv.key)).cloned().collect();
        let count = kvs.len() as i64;
        if request.keys_only && request.sort_target() != SortTarget::Value {
            kvs.iter_mut().for_each(|kv| kv.lease = 0);
        }
        let filtered = request.min_mod_revision != 0 || request.max_mod_revision != 0;
        if request.sort_order() == SortOrder::None && !filtered && request.limit > 0 {
            kvs.truncate(request.limit as usize + 1);
        }
        kvs.retain(|kv| {
            (request.min_mod_revision == 0 || kv.mod_revision >= request.min_mod_revision)
                && (request.max_mod_revision == 0 || kv.mod_revision <= request.max_mod_revision)
        });
        // What is alike stays in the order of the keys, whichever way is asked for.
        let descend = request.sort_order() == SortOrder::Descend;
        if descend {
            kvs.reverse();
        }
        match request.sort_target() {
            SortTarget::Key => kvs.sort_by_key(|kv| kv.key.clone()),
            SortTarget::Version => kvs.sort_by_key(|kv| kv.version),
            SortTarget::Create => kvs.sort_by_key(|kv| kv.create_revision),
            SortTarget::Mod => kvs.sort_by_key(|kv| kv.mod_revision),
            SortTarget::Value => kvs.sort_by_key(|kv| kv.value.clone()),
        }
        if descend {
            kvs.reverse();
        }
        if request.count_only {
            kvs.clear();
        }
        let more = request.limit > 0 && kvs.len() as i64 > request.limit;
        if more {
            kvs.truncate(request.limit as usize);
        }
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        Ok(RangeResponse { header: self.header(), kvs, more, count })
    }
}

fn branch(request: &TxnRequest, path: &mut std::slice::Iter<'_, bool>) -> (bool, Vec<Request>) {
    let succeeded = *path.next().unwrap();
    let operations = if succeeded { &request.success } else { &request.failure };
    (succeeded, operations.iter().map(|operation| operation.request.clone().unwrap()).collect())
}

fn collect_changes(
    request: &TxnRequest,
    path: &mut std::slice::Iter<'_, bool>,
    puts: &mut Vec<Bytes>,
    changes: &mut Vec<KeyRange>,
) {
    for operation in branch(request, path).1 {
        match operation {
            Request::RequestRange(_) => {}
            Request::RequestPut(put) => {
                puts.push(put.key.clone());
                changes.push(KeyRange::One(put.key));
            }
            Request::RequestDeleteRange(delete) => {
                changes.push(KeyRange::from_wire(delete.key, delete.range_end));
            }
            Request::RequestTxn(txn) => collect_changes(&txn, path, puts, changes),
        }
    }
}

fn holds(map: &Map, compare: &Compare) -> bool {
    let range = KeyRange::from_wire(compare.key.clone(), compare.range_end.clone());
    let mut found: Vec<KeyValue> =
        map.values().filter(|kv| range.contains(&kv.key)).cloned().collect();
    if found.is_empty() {
        if compare.target() == CompareTarget::Value {
            return false;
        }
        found.push(KeyValue::default());
    }
    found.iter().all(|kv| {
        let order = match &compare.target_union {
            Some(TargetUnion::Version(number)) => kv.version.cmp(number),
            Some(TargetUnion::CreateRevision(number)) => kv.create_revision.cmp(number),
            Some(TargetUnion::ModRevision(number)) => kv.mod_revision.cmp(number),
            Some(TargetUnion::Lease(number)) => kv.lease.cmp(number),
            Some(TargetUnion::Value(value)) => kv.value.cmp(value),
            None => panic!("the model knows comparisons with an operand only"),
        };
        match compare.result() {
            CompareResult::Equal => order.is_eq(),
            CompareResult::NotEqual => order.is_ne(),
            CompareResult::Greater => order.is_gt(),
            CompareResult::Less => order.is_lt(),
        }
    })
}
