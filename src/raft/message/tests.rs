//! Every message survives the wire, and nothing else is taken for one.

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::log::EntryKind;

fn vote() -> impl Strategy<Value = Vote> {
    (any::<u64>(), any::<u64>(), any::<bool>()).prop_map(|(term, node, committed)| Vote {
        term,
        node,
        committed,
    })
}

fn log_id() -> impl Strategy<Value = LogId> {
    (any::<u64>(), any::<u64>(), any::<u64>()).prop_map(|(term, node, index)| LogId {
        term,
        node,
        index,
    })
}

fn payload() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn entry() -> impl Strategy<Value = Entry> {
    let kind =
        prop_oneof![Just(EntryKind::Blank), Just(EntryKind::Command), Just(EntryKind::Membership)];
    (log_id(), kind, payload()).prop_map(|(id, kind, payload)| Entry { id, kind, payload })
}

fn trace() -> impl Strategy<Value = (u32, TraceContext)> {
    (any::<u32>(), any::<[u8; 24]>()).prop_filter_map("ids are not zero", |(position, ids)| {
        Some((position, TraceContext::decode(&ids)?))
    })
}

fn request() -> impl Strategy<Value = Request> {
    let last = || option::of(log_id());
    prop_oneof![
        (vote(), last(), vec(entry(), 0..5), last(), vec(trace(), 0..3)).prop_map(
            |(vote, prev, entries, commit, traces)| {
                Request::Append(AppendRequest { vote, prev, entries, commit, traces })
            }
        ),
        (vote(), last(), any::<bool>(), any::<bool>()).prop_map(
            |(vote, last, pre_vote, leadership_transfer)| {
                Request::Vote(VoteRequest { vote, last, pre_vote, leadership_transfer })
            }
        ),
        (vote(), any::<u64>(), last()).prop_map(|(from, to, last)| {
            Request::Transfer(TransferRequest { from, to: MemberId(to), last })
        }),
        vote().prop_map(|vote| Request::Vacancy(VacancyRequest { vote })),
        vote().prop_map(|vote| Request::Confirm(ConfirmRequest { vote })),
        payload().prop_map(Request::Call),
    ]
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        option::of(log_id()).prop_map(|id| Reply::Append(AppendReply::Accepted(id))),
        log_id().prop_map(|id| Reply::Append(AppendReply::Conflict(id))),
        vote().prop_map(|vote| Reply::Append(AppendReply::HigherVote(vote))),
        (vote(), any::<bool>(), option::of(log_id()))
            .prop_map(|(vote, granted, last)| Reply::Vote(VoteReply { vote, granted, last })),
        Just(Reply::Transfer(TransferReply::Accepted)),
        any::<String>().prop_map(|reason| Reply::Transfer(TransferReply::Refused(reason))),
        (any::<bool>(), option::of(log_id()))
            .prop_map(|(vacant, last)| Reply::Vacancy(VacancyReply { vacant, last })),
        any::<bool>().prop_map(|held| Reply::Confirm(ConfirmReply { held })),
        payload().prop_map(Reply::Call),
        vote().prop_map(|vote| Reply::Snapshot(SnapshotReply { vote })),
        any::<String>().prop_map(|reason| Reply::Failed(Failed(reason))),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        Just(Message::Ping),
        Just(Message::Pong),
        request().prop_map(Message::Request),
        reply().prop_map(Message::Reply),
        (vote(), option::of(log_id()), payload()).prop_map(|(vote, last, meta)| {
            Message::Snapshot(SnapshotPart::Start(SnapshotStart { vote, last, meta }))
        }),
        payload().prop_map(|chunk| Message::Snapshot(SnapshotPart::Chunk(chunk))),
        (any::<u64>(), any::<u32>()).prop_map(|(bytes, crc)| {
            Message::Snapshot(SnapshotPart::End(SnapshotEnd { bytes, crc }))
        }),
    ]
}

fn encoded(message: &Message) -> Bytes {
    let mut out = BytesMut::new();
    message.encode(&mut out);
    out.freeze()
}

proptest! {
    #[test]
    fn messages_come_out_as_they_went_in(message in message()) {
        let payload = encoded(&message);
        prop_assert!(payload.len() <= message.bytes());
        prop_assert_eq!(Message::decode(message.kind(), payload), Ok(message));
    }

    #[test]
    fn what_decodes_encodes_to_the_same_bytes(kind in 0..20u8, bytes in vec(0..4u8, 0..150)) {
        if let Ok(message) = Message::decode(kind, bytes.clone().into()) {
            prop_assert_eq!(message.kind(), kind);
            prop_assert_eq!(encoded(&message), bytes);
        }
    }

    #[test]
    fn a_damaged_message_is_an_error_or_another_message(
        message in message(),
        cut in any::<prop::sample::Index>(),
        flip in any::<prop::sample::Index>(),
    ) {
        let mut bytes = encoded(&message).to_vec();
        if !bytes.is_empty() {
            let bit = flip.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes.truncate(cut.index(bytes.len()) + 1);
        }
        let _ = Message::decode(message.kind(), bytes.into()); // must not panic
    }
}

#[test]
fn an_entry_shares_the_received_frame() {
    let entry = Entry {
        id: LogId { term: 1, node: 2, index: 3 },
        kind: EntryKind::Command,
        payload: Bytes::from(vec![7; 100]),
    };
    let vote = Vote { term: 1, node: 2, committed: true };
    let entries = vec![entry];
    let append = AppendRequest { vote, prev: None, entries, commit: None, traces: vec![] };
    let message = Message::Request(Request::Append(append));
    let payload = encoded(&message);
    let received = payload.as_ptr_range();
    let Ok(Message::Request(Request::Append(append))) =
        Message::decode(message.kind(), payload.clone())
    else {
        panic!("an append decodes to an append");
    };
    assert!(received.contains(&append.entries[0].payload.as_ptr()));
}

#[track_caller]
fn check(kind: u8, payload: &'static [u8], expected: Error) {
    assert_eq!(Message::decode(kind, Bytes::from_static(payload)), Err(expected));
}

#[test]
fn what_is_wrong_is_said() {
    check(0, b"", Error::Kind(0));
    check(200, b"", Error::Kind(200));
    check(kind::PING, b"x", Error::Long);
    check(kind::SNAPSHOT_END, b"1234567890123", Error::Long);
    check(kind::SNAPSHOT_END, b"12345678901", Error::Short);
    check(kind::FAILED, b"\xff", Error::Value);
    check(kind::TRANSFER_REPLY, b"\x02", Error::Value);
    check(kind::VOTE_REPLY, &[2; 30], Error::Value);
    check(kind::APPEND_TRACED, &[0; 4], Error::Value);
    check(kind::APPEND_TRACED, &[1; 31], Error::Short);
    const IDS_OF_ZERO: &[u8] =
        b"\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    check(kind::APPEND_TRACED, IDS_OF_ZERO, Error::Value);
}
