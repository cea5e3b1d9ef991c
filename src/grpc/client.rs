//! A client within this server: what locks and elections ask of the other services, in the name of
//! whoever asked for them.

use std::sync::Arc;

use bytes::Bytes;
use tonic::{Extensions, Request, Status, metadata::MetadataMap};

use crate::{
    grpc::{kv::Kv, lease::Lease},
    node::{WatchHub, WatchSession},
    proto::etcdserverpb::{
        DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest, RangeRequest, RangeResponse,
        ResponseHeader, TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest,
        kv_server::Kv as _, lease_server::Lease as _, watch_request::RequestUnion,
    },
};

/// Only clients that take fragments are sent less than whole responses.
const RESPONSE_BYTES_MAX: usize = usize::MAX;

/// What a client within this server can ask. Clones share it.
#[derive(Clone)]
pub(crate) struct Services(Arc<Shared>);

struct Shared {
    kv: Kv,
    lease: Lease,
    hub: WatchHub,
}

impl Services {
    pub(crate) fn new(kv: Kv, lease: Lease, hub: WatchHub) -> Services {
        Services(Arc::new(Shared { kv, lease, hub }))
    }

    /// A client with the rights of whoever sent the request.
    pub(crate) fn client<T>(&self, request: &Request<T>) -> Client {
        Client {
            services: self.clone(),
            metadata: request.metadata().clone(),
            extensions: request.extensions().clone(),
        }
    }
}

/// Asks in somebody's name. Its requests are checked and counted, and their headers filled in, as
/// if they came from outside.
#[derive(Clone)]
pub(crate) struct Client {
    services: Services,
    metadata: MetadataMap,
    extensions: Extensions,
}

impl Client {
    pub(crate) async fn range(&self, range: RangeRequest) -> Result<RangeResponse, Status> {
        Ok(self.services.0.kv.range(self.request(range)).await?.into_inner())
    }

    pub(crate) async fn txn(&self, txn: TxnRequest) -> Result<TxnResponse, Status> {
        Ok(self.services.0.kv.txn(self.request(txn)).await?.into_inner())
    }

    pub(crate) async fn delete(&self, key: Bytes) -> Result<DeleteRangeResponse, Status> {
        let delete = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
        Ok(self.services.0.kv.delete_range(self.request(delete)).await?.into_inner())
    }

    /// The id of a new lease.
    pub(crate) async fn grant(&self, ttl_secs: i64) -> Result<i64, Status> {
        let grant = LeaseGrantRequest { ttl: ttl_secs, id: 0 };
        Ok(self.services.0.lease.lease_grant(self.request(grant)).await?.into_inner().id)
    }

    pub(crate) fn watch(&self, create: WatchCreateRequest) -> WatchSession {
        watch(&self.services.0.hub, create)
    }

    /// Fills in all of a header but its revision.
    pub(crate) fn fill(&self, header: &mut Option<ResponseHeader>) {
        self.services.0.kv.header.fill(header);
    }

    fn request<T>(&self, message: T) -> Request<T> {
        Request::from_parts(self.metadata.clone(), self.extensions.clone(), message)
    }
}

/// Watches with one watcher on a stream of its own.
pub(crate) fn watch(hub: &WatchHub, create: WatchCreateRequest) -> WatchSession {
    let mut session = hub.open(RESPONSE_BYTES_MAX);
    session.request(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) });
    session
}
