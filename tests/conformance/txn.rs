//! Transactions as they stand in a script: a line for each compare and operation, what is nested
//! indented by two more.

use bytes::Bytes;
use orrery::proto::etcdserverpb::{
    Compare, RequestOp, TxnRequest, compare::TargetUnion, request_op::Request as Operation,
};

use super::{
    request::{self, Arguments, lease_id},
    words::{self, Word},
};

pub(crate) const TARGETS: [&str; 5] = ["version", "create", "mod", "value", "lease"];
pub(crate) const RESULTS: [&str; 4] = ["=", ">", "<", "!="];

/// The lines below `txn`.
pub(crate) fn parse(lines: &[&str]) -> Result<TxnRequest, String> {
    let mut lines = Lines { lines, at: 0 };
    let txn = lines.txn(1)?;
    match lines.lines.get(lines.at) {
        None => Ok(txn),
        Some(line) => Err(format!("{line:?} is indented wrongly")),
    }
}

struct Lines<'a> {
    lines: &'a [&'a str],
    at: usize,
}

impl Lines<'_> {
    /// What is indented at least by `depth`, with what is nested in it.
    fn txn(&mut self, depth: usize) -> Result<TxnRequest, String> {
        let mut txn = TxnRequest::default();
        while let Some(line) = self.lines.get(self.at) {
            let text = line.trim_start();
            if line.len() - text.len() != 1 + 2 * depth {
                break;
            }
            self.at += 1;
            let (name, rest) = text.split_once(' ').ok_or_else(|| format!("{text:?} is short"))?;
            match name {
                "if" => txn.compare.push(compare(rest)?),
                "then" => txn.success.push(self.operation(rest, depth)?),
                "else" => txn.failure.push(self.operation(rest, depth)?),
                other => return Err(format!("{other:?} is no part of a transaction")),
            }
        }
        Ok(txn)
    }

    fn operation(&mut self, text: &str, depth: usize) -> Result<RequestOp, String> {
        let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
        let mut arguments = Arguments::new(words::split(rest)?);
        let request = match name {
            "put" => Some(Operation::RequestPut(request::put(&mut arguments)?)),
            "range" => Some(Operation::RequestRange(request::range(&mut arguments)?)),
            "delete" => Some(Operation::RequestDeleteRange(request::delete(&mut arguments)?)),
            "txn" => Some(Operation::RequestTxn(self.txn(depth + 1)?)),
            "empty" => None,
            other => return Err(format!("{other:?} is no operation")),
        };
        arguments.end()?;
        Ok(RequestOp { request })
    }
}

fn compare(text: &str) -> Result<Compare, String> {
    let mut words = words::split(text)?;
    if words.len() == 1 && words[0] == (Word { text: "empty".into(), quoted: false }) {
        return Ok(Compare::default());
    }
    let field = words.last().and_then(|word| match word.option() {
        Some(("in", Some(field))) => Some(Bytes::copy_from_slice(field.as_bytes())),
        _ => None,
    });
    if field.is_some() {
        words.pop();
    }
    let is_result = |word: &Word| !word.quoted && index(&RESULTS, &word.text).is_some();
    let value = if words.last().is_some_and(is_result) { None } else { words.pop() };
    let [target, key, end @ .., result] = words.as_slice() else {
        return Err("a compare is: if TARGET KEY [END] RESULT [VALUE] [in=TARGET]".to_owned());
    };
    let field = field.unwrap_or_else(|| target.text.clone());
    let target_union = value.map(|value| operand(&field, &value.text)).transpose()?;
    let target = match index(&TARGETS, &target.text) {
        Some(known) => known,
        None => lease_id(&String::from_utf8_lossy(&target.text))? as i32,
    };
    let end = match end {
        [] => Bytes::new(),
        [end] => end.text.clone(),
        _ => return Err("a compare has one key and one end at most".to_owned()),
    };
    Ok(Compare {
        result: match index(&RESULTS, &result.text) {
            Some(known) => known,
            None => lease_id(&String::from_utf8_lossy(&result.text))? as i32,
        },
        target,
        key: key.text.clone(),
        range_end: end,
        target_union,
    })
}

/// What is compared with, in the field of a target, which need not be the one that is compared.
fn operand(field: &[u8], value: &Bytes) -> Result<TargetUnion, String> {
    let number = || lease_id(&String::from_utf8_lossy(value));
    Ok(match index(&TARGETS, field).ok_or("there is no field for that operand")? {
        0 => TargetUnion::Version(number()?),
        1 => TargetUnion::CreateRevision(number()?),
        2 => TargetUnion::ModRevision(number()?),
        3 => TargetUnion::Value(value.clone()),
        _ => TargetUnion::Lease(number()?),
    })
}

fn index(names: &[&str], text: &[u8]) -> Option<i32> {
    let at = names.iter().position(|name| name.as_bytes() == text)?;
    Some(i32::try_from(at).expect("enums are short"))
}

#[test]
fn what_is_nested_is_indented() {
    let lines = [
        "   if version a = 0",
        "   if value b c != 1",
        "   then put a 1 lease=7",
        "   then txn",
        "     if mod a > 2",
        "     then delete a z",
        "     else empty",
        "   else range a limit=1",
    ];
    let txn = parse(&lines).unwrap();
    assert_eq!((txn.compare.len(), txn.success.len(), txn.failure.len()), (2, 2, 1));
    assert_eq!(txn.compare[1].range_end, "c");
    assert_eq!((txn.compare[1].result, txn.compare[1].target), (3, 3));
    let Some(Operation::RequestTxn(inner)) = &txn.success[1].request else { panic!() };
    assert_eq!((inner.compare.len(), inner.success.len(), inner.failure.len()), (1, 1, 1));
    assert_eq!(inner.failure[0].request, None);
    for wrong in ["   then", "   if a = 1", "     if mod a = 1", "   perhaps put a"] {
        assert!(parse(&[wrong]).is_err(), "{wrong}");
    }
}
