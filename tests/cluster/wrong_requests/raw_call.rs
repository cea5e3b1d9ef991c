//! gRPC calls whose messages are any bytes.

use bytes::{Buf, BufMut, Bytes};
use orrery::proto::{
    etcdserverpb::{
        CompactionRequest, Compare, DeleteRangeRequest, HashKvRequest, HashRequest,
        LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest,
        RequestOp, TxnRequest, request_op,
    },
    v3electionpb::{LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest},
    v3lockpb::UnlockRequest,
};
use prost::Message;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};

pub(crate) const KV_PUT: &str = "/etcdserverpb.KV/Put";
pub(crate) const KV_RANGE: &str = "/etcdserverpb.KV/Range";
pub(crate) const KV_TXN: &str = "/etcdserverpb.KV/Txn";

/// A method and how to make a good message for it.
type Method = (&'static str, fn() -> Vec<u8>);

/// Unary methods that change no membership and need no credentials.
pub(crate) const UNARY_METHODS: [Method; 14] = [
    (KV_RANGE, || RangeRequest { revision: 1, limit: 3, ..range() }.encode_to_vec()),
    (KV_PUT, || put().encode_to_vec()),
    (KV_TXN, || txn().encode_to_vec()),
    ("/etcdserverpb.KV/DeleteRange", || {
        let request = DeleteRangeRequest { key: "fuzz/x".into(), ..DeleteRangeRequest::default() };
        request.encode_to_vec()
    }),
    ("/etcdserverpb.KV/Compact", || {
        CompactionRequest { revision: 2, physical: true }.encode_to_vec()
    }),
    ("/etcdserverpb.Lease/LeaseGrant", || LeaseGrantRequest { ttl: 60, id: 0 }.encode_to_vec()),
    ("/etcdserverpb.Lease/LeaseRevoke", || LeaseRevokeRequest { id: 99 }.encode_to_vec()),
    ("/etcdserverpb.Lease/LeaseTimeToLive", || {
        LeaseTimeToLiveRequest { id: 99, keys: true }.encode_to_vec()
    }),
    ("/etcdserverpb.Maintenance/HashKV", || HashKvRequest { revision: 1 }.encode_to_vec()),
    ("/etcdserverpb.Maintenance/Hash", || HashRequest {}.encode_to_vec()),
    ("/v3lockpb.Lock/Unlock", || UnlockRequest { key: "fuzz/lock".into() }.encode_to_vec()),
    ("/v3electionpb.Election/Proclaim", || {
        ProclaimRequest { leader: Some(leader()), value: "value".into() }.encode_to_vec()
    }),
    ("/v3electionpb.Election/Leader", || LeaderRequest { name: "fuzz".into() }.encode_to_vec()),
    ("/v3electionpb.Election/Resign", || ResignRequest { leader: Some(leader()) }.encode_to_vec()),
];

fn leader() -> LeaderKey {
    LeaderKey { name: "fuzz".into(), key: "fuzz/1".into(), rev: 1, lease: 1 }
}

fn range() -> RangeRequest {
    RangeRequest { key: "fuzz/a".into(), range_end: "fuzz/z".into(), ..RangeRequest::default() }
}

fn put() -> PutRequest {
    PutRequest { key: "fuzz/key".into(), value: "value".into(), ..PutRequest::default() }
}

fn txn() -> TxnRequest {
    let operation = |request| RequestOp { request: Some(request) };
    TxnRequest {
        compare: vec![Compare { key: "fuzz/key".into(), ..Compare::default() }],
        success: vec![operation(request_op::Request::RequestPut(put()))],
        failure: vec![operation(request_op::Request::RequestRange(range()))],
    }
}

/// Sends one message to a unary method.
pub(crate) async fn call(channel: &Channel, method: &str, message: Bytes) -> Result<Bytes, Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path: PathAndQuery = method.parse().unwrap();
    Ok(grpc.unary(Request::new(message), path, AnyBytes).await?.into_inner())
}

/// Passes messages on as they are.
struct AnyBytes;

impl Codec for AnyBytes {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = AnyBytes;
    type Decoder = AnyBytes;

    fn encoder(&mut self) -> AnyBytes {
        AnyBytes
    }

    fn decoder(&mut self) -> AnyBytes {
        AnyBytes
    }
}

impl Encoder for AnyBytes {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for AnyBytes {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
