//! Which way a transaction goes, and transactions that only read.

use std::cmp::Ordering;

use super::{
    Error, Head,
    index::{Live, Version},
    range::range,
};
use crate::{
    proto::etcdserverpb::{
        Compare, RangeRequest, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
        compare::{CompareResult, CompareTarget, TargetUnion},
        request_op::Request,
        response_op::Response,
    },
    storage::{self, Rows},
    types::{KeyRange, LeaseId, Revision},
};

/// Which branch is taken, here and in the transactions nested in that branch. All comparisons see
/// the key space as it was before the transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    pub succeeded: bool,
    /// One for each transaction of the branch, in order.
    pub nested: Vec<Path>,
}

impl Path {
    pub fn choose(
        rows: &dyn Rows,
        head: Head,
        request: &TxnRequest,
    ) -> Result<Path, storage::Error> {
        let mut succeeded = true;
        for compare in &request.compare {
            if !holds(rows, head, compare)? {
                succeeded = false;
                break;
            }
        }
        let mut path = Path { succeeded, nested: Vec::new() };
        for operation in path.branch(request) {
            if let Some(Request::RequestTxn(nested)) = &operation.request {
                path.nested.push(Path::choose(rows, head, nested)?);
            }
        }
        Ok(path)
    }

    /// The operations that are carried out.
    pub fn branch<'a>(&self, request: &'a TxnRequest) -> &'a [RequestOp] {
        if self.succeeded { &request.success } else { &request.failure }
    }
}

/// Whether a transaction can be answered without going through the log. As in etcd a nested one
/// cannot, whatever it holds.
pub fn is_read_only(request: &TxnRequest) -> bool {
    let is_range =
        |operation: &RequestOp| matches!(operation.request, Some(Request::RequestRange(_)));
    request.success.iter().chain(&request.failure).all(is_range)
}

/// Refuses a range of a transaction before anything is done.
pub fn check_range(head: Head, request: &RangeRequest) -> Result<(), Error> {
    // Outside of transactions negative revisions stand for the newest; here etcd takes them for
    // old.
    let floor = head.floor.map_or(-1, Revision::get);
    if request.revision < 0 && request.revision < floor {
        return Err(Error::Compacted(head.floor.unwrap_or(Revision::EMPTY_STORE)));
    }
    head.readable(request.revision).map(|_| ())
}

/// A transaction without writes. Writes in it are answered by nothing.
pub(super) fn read(
    rows: &dyn Rows,
    head: Head,
    request: &TxnRequest,
) -> Result<TxnResponse, Error> {
    let path = Path::choose(rows, head, request)?;
    check(head, request, &path)?;
    let mut response = answer(rows, head, request, &path)?;
    response.header = Some(ResponseHeader { revision: head.revision.get(), ..Default::default() });
    Ok(response)
}

fn check(head: Head, request: &TxnRequest, path: &Path) -> Result<(), Error> {
    let mut nested = path.nested.iter();
    for operation in path.branch(request) {
        match &operation.request {
            Some(Request::RequestRange(range)) => check_range(head, range)?,
            Some(Request::RequestTxn(txn)) => {
                let path = nested.next().expect("the path has one entry for each transaction");
                check(head, txn, path)?;
            }
            Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) | None => {}
        }
    }
    Ok(())
}

fn answer(
    rows: &dyn Rows,
    head: Head,
    request: &TxnRequest,
    path: &Path,
) -> Result<TxnResponse, Error> {
    let mut nested = path.nested.iter();
    let mut responses = Vec::new();
    for operation in path.branch(request) {
        let response = match &operation.request {
            Some(Request::RequestRange(request)) => {
                Some(Response::ResponseRange(range(rows, head, request)?))
            }
            Some(Request::RequestTxn(txn)) => {
                let path = nested.next().expect("the path has one entry for each transaction");
                Some(Response::ResponseTxn(answer(rows, head, txn, path)?))
            }
            Some(Request::RequestPut(_) | Request::RequestDeleteRange(_)) | None => None,
        };
        responses.push(ResponseOp { response });
    }
    let header = Some(ResponseHeader::default());
    Ok(TxnResponse { header, succeeded: path.succeeded, responses })
}

/// Whether a comparison holds for every key of its range. A range without keys is compared as one
/// key that does not exist: its numbers are 0, and no statement about its value holds.
fn holds(rows: &dyn Rows, head: Head, compare: &Compare) -> Result<bool, storage::Error> {
    let range = KeyRange::from_wire(compare.key.clone(), compare.range_end.clone());
    let mut live = Live::over(rows, &range, head.revision)?;
    let Some(mut version) = live.step()? else {
        let by_value = matches!(CompareTarget::try_from(compare.target), Ok(CompareTarget::Value));
        return Ok(!by_value && accepts(compare, order(rows, compare, None)?));
    };
    loop {
        if !accepts(compare, order(rows, compare, Some(version))?) {
            return Ok(false);
        }
        match live.step()? {
            Some(next) => version = next,
            None => return Ok(true),
        }
    }
}

/// How what is stored stands to what the comparison names. An operand that is missing or of another
/// kind counts as 0, an unknown target as equal: as in etcd.
fn order(
    rows: &dyn Rows,
    compare: &Compare,
    version: Option<Version>,
) -> Result<Ordering, storage::Error> {
    let union = &compare.target_union;
    let number = |of: &dyn Fn(&Version) -> i64| version.as_ref().map_or(0, of);
    let (stored, named) = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => (
            number(&|version| version.version),
            match union {
                Some(TargetUnion::Version(number)) => *number,
                _ => 0,
            },
        ),
        Ok(CompareTarget::Create) => (
            number(&|version| version.create_revision.get()),
            match union {
                Some(TargetUnion::CreateRevision(number)) => *number,
                _ => 0,
            },
        ),
        Ok(CompareTarget::Mod) => (
            number(&|version| version.at.main.get()),
            match union {
                Some(TargetUnion::ModRevision(number)) => *number,
                _ => 0,
            },
        ),
        Ok(CompareTarget::Lease) => (
            number(&|version| version.lease.map_or(0, LeaseId::get)),
            match union {
                Some(TargetUnion::Lease(number)) => *number,
                _ => 0,
            },
        ),
        Ok(CompareTarget::Value) => {
            let stored = match version {
                Some(version) => version.read(rows)?.value,
                None => Default::default(),
            };
            return Ok(match union {
                Some(TargetUnion::Value(value)) => stored.cmp(value),
                _ => stored.as_ref().cmp(&[]),
            });
        }
        Err(_) => return Ok(Ordering::Equal),
    };
    Ok(stored.cmp(&named))
}

fn accepts(compare: &Compare, order: Ordering) -> bool {
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => true,
    }
}
