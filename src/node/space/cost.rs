//! What a request costs of the quota, in bytes: etcd's formula.

use crate::{
    proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest, request_op::Request},
    state_machine::txn_takes_space,
};

/// What a key costs besides its bytes.
const KEY: u64 = 256;

/// What a lease costs.
pub const LEASE: u64 = 64;

pub fn put(request: &PutRequest) -> u64 {
    KEY + request.key.len() as u64 + request.value.len() as u64
}

/// The dearer branch; nothing for what is let through without space.
pub fn txn(request: &TxnRequest) -> u64 {
    if txn_takes_space(request) { both(request) } else { 0 }
}

fn both(request: &TxnRequest) -> u64 {
    branch(&request.success).max(branch(&request.failure))
}

fn branch(operations: &[RequestOp]) -> u64 {
    let cost = |operation: &RequestOp| match &operation.request {
        Some(Request::RequestPut(request)) => put(request),
        Some(Request::RequestTxn(request)) => both(request),
        Some(Request::RequestRange(_) | Request::RequestDeleteRange(_)) | None => 0,
    };
    operations.iter().map(cost).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::etcdserverpb::RangeRequest;

    fn put_of(key: &'static str, value: &'static str) -> Request {
        let (key, value) = (key.into(), value.into());
        Request::RequestPut(PutRequest { key, value, ..PutRequest::default() })
    }

    fn txn_of(success: Vec<Request>, failure: Vec<Request>) -> TxnRequest {
        let operations = |requests: Vec<Request>| {
            requests.into_iter().map(|request| RequestOp { request: Some(request) }).collect()
        };
        TxnRequest {
            compare: Vec::new(),
            success: operations(success),
            failure: operations(failure),
        }
    }

    #[test]
    fn a_transaction_costs_what_its_dearer_branch_puts() {
        let check = |success, failure, cost| assert_eq!(txn(&txn_of(success, failure)), cost);
        let range = || Request::RequestRange(RangeRequest::default());
        check(vec![], vec![range()], 0);
        check(vec![put_of("a", "12")], vec![], 259);
        check(vec![put_of("a", "12"), range()], vec![put_of("a", "1"), put_of("b", "")], 515);
        let nested = Request::RequestTxn(txn_of(vec![], vec![put_of("abc", "")]));
        check(vec![nested, put_of("a", "")], vec![put_of("a", "")], 259 + 257);
    }
}
