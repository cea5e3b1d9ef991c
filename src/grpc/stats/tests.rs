//! The words for requests, in which no value shows.

use super::*;
use crate::proto::etcdserverpb::{Compare, RequestOp, request_op::Request as Asked};

#[test]
fn requests_are_told_without_their_values() {
    let put =
        PutRequest { key: "k\"1".into(), value: "secret".into(), lease: 7, ..Default::default() };
    assert_eq!(put_text(&put), r#"key:"k\"1" value_size:6 lease:7 "#);
    let range = RangeRequest {
        key: "a".into(),
        range_end: "b".into(),
        limit: 3,
        serializable: true,
        ..Default::default()
    };
    assert_eq!(range_text(&range), r#"key:"a" range_end:"b" limit:3 serializable:true "#);
    let txn = TxnRequest {
        compare: vec![Compare { key: "c".into(), ..Default::default() }],
        success: vec![RequestOp { request: Some(Asked::RequestPut(put)) }],
        failure: vec![RequestOp { request: Some(Asked::RequestRange(range)) }],
    };
    let text = txn_text(&txn);
    assert_eq!(
        text,
        "compare:<key:\"c\" > success:<request_put:<key:\"k\\\"1\" value_size:6 lease:7 >> \
         failure:<request_range:<key:\"a\" range_end:\"b\" limit:3 serializable:true >>"
    );
    assert!(!text.contains("secret"));
}
