//! Transactions that write. Which way one goes, and everything that could refuse it, is settled
//! before its first change; its ranges do see the changes before them.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Failure, Rejection, keys};
use crate::{
    mvcc::{
        self, Edit, Head,
        txn::{Path, check_range},
    },
    proto::etcdserverpb::{
        RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse, request_op::Request,
        response_op::Response,
    },
    storage::Rows,
    types::KeyRange,
};

/// The way that a transaction goes, if nothing on it is refused.
pub(super) fn check(rows: &dyn Rows, head: Head, request: &TxnRequest) -> Result<Path, Failure> {
    let path = Path::choose(rows, head, request)?;
    check_path(rows, head, request, &path)?;
    let mut writes = Writes::default();
    writes.collect(request, &path)?;
    writes.check_deletes()?;
    Ok(path)
}

/// The keys that a transaction changes. In one revision a key changes once: nothing may be put
/// twice, nor put and deleted.
#[derive(Default)]
struct Writes {
    puts: BTreeSet<Bytes>,
    deletes: Vec<KeyRange>,
}

impl Writes {
    fn collect(&mut self, request: &TxnRequest, path: &Path) -> Result<(), Rejection> {
        let mut nested = path.nested.iter();
        for operation in path.branch(request) {
            match &operation.request {
                Some(Request::RequestPut(put)) => {
                    if !self.puts.insert(put.key.clone()) {
                        return Err(Rejection::Malformed("a key is put twice"));
                    }
                }
                Some(Request::RequestDeleteRange(request)) => {
                    let (key, range_end) = (request.key.clone(), request.range_end.clone());
                    self.deletes.push(KeyRange::from_wire(key, range_end));
                }
                Some(Request::RequestTxn(txn)) => {
                    let path = nested.next().expect("the path has one entry for each transaction");
                    self.collect(txn, path)?;
                }
                Some(Request::RequestRange(_)) | None => {}
            }
        }
        Ok(())
    }

    fn check_deletes(&self) -> Result<(), Rejection> {
        let hits_a_put = |range: &KeyRange| {
            let first = self.puts.range(range.start().clone()..).next();
            first.is_some_and(|key| range.contains(key))
        };
        if self.deletes.iter().any(hits_a_put) {
            return Err(Rejection::Malformed("a key is put and deleted"));
        }
        Ok(())
    }
}

fn check_path(
    rows: &dyn Rows,
    head: Head,
    request: &TxnRequest,
    path: &Path,
) -> Result<(), Failure> {
    let mut nested = path.nested.iter();
    for operation in path.branch(request) {
        match &operation.request {
            Some(Request::RequestRange(range)) => check_range(head, range)?,
            Some(Request::RequestPut(put)) => keys::check_put(rows, head, put)?,
            Some(Request::RequestDeleteRange(_)) => {}
            Some(Request::RequestTxn(txn)) => {
                let path = nested.next().expect("the path has one entry for each transaction");
                check_path(rows, head, txn, path)?;
            }
            None => return Err(Rejection::Malformed("an operation without a request").into()),
        }
    }
    Ok(())
}

pub(super) fn carry_out(
    edit: &mut Edit<'_, '_>,
    request: TxnRequest,
    path: Path,
) -> Result<TxnResponse, Failure> {
    let mut response = run(edit, request, path)?;
    response.header = keys::header(edit.head());
    Ok(response)
}

/// As in etcd, the response of a nested transaction has an empty header.
fn run(edit: &mut Edit<'_, '_>, request: TxnRequest, path: Path) -> Result<TxnResponse, Failure> {
    let branch = if path.succeeded { request.success } else { request.failure };
    let mut nested = path.nested.into_iter();
    let mut responses = Vec::with_capacity(branch.len());
    for RequestOp { request } in branch {
        let response = match request {
            Some(Request::RequestRange(range)) => {
                Some(Response::ResponseRange(mvcc::range(edit.rows(), edit.head(), &range)?))
            }
            Some(Request::RequestPut(put)) => Some(Response::ResponsePut(keys::put(edit, put)?)),
            Some(Request::RequestDeleteRange(range)) => {
                Some(Response::ResponseDeleteRange(keys::delete_range(edit, range)?))
            }
            Some(Request::RequestTxn(txn)) => {
                let path = nested.next().expect("the path has one entry for each transaction");
                Some(Response::ResponseTxn(run(edit, txn, path)?))
            }
            None => None,
        };
        responses.push(ResponseOp { response });
    }
    let header = Some(ResponseHeader::default());
    Ok(TxnResponse { header, succeeded: path.succeeded, responses })
}
