//! Requests as a client sends them, through the gate and the decoder to the checks.
//!
//! An input is the method, the limits and the size of the chunks, then the body of the call.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::Body,
    extract::Request,
    http::{Version, header},
    middleware::from_fn_with_state,
    response::Response,
};
use bytes::Bytes;
use futures::{executor::block_on, stream};
use prost::Message;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming, codec::Codec};
use tonic_prost::ProstCodec;
use tower::{Layer, ServiceExt, service_fn};

use super::Settings;
use crate::{
    grpc::{
        Limits,
        gate::{self, Admission, Gate},
        method,
        require_leader::Leadership,
        validate,
    },
    memory,
    proto::{
        command::{Command, command::Operation},
        etcdserverpb::{
            self, AlarmRequest, DefragmentRequest, DowngradeRequest, HashKvRequest, HashRequest,
            LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseTimeToLiveRequest, MemberAddRequest,
            MemberListRequest, MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest,
            MoveLeaderRequest, RangeRequest, RequestOp, SnapshotRequest, StatusRequest, TxnRequest,
            WatchRequest, request_op,
        },
        region::{
            RegionsConfigureRequest, RegionsFailoverRequest, RegionsOfflineRequest,
            RegionsOnlineRequest, RegionsSetPrioritiesRequest, RegionsShowRequest,
        },
        v3electionpb::{CampaignRequest, LeaderRequest, ProclaimRequest, ResignRequest},
        v3lockpb::{LockRequest, UnlockRequest},
    },
    types::MemberId,
};

/// In the second byte of an input: what follows is one message, not a body.
pub(crate) const ONE_MESSAGE: u8 = 0x80;

/// What the gate and one decoded message may take whatever the input is.
const MEMORY_BYTES: usize = 256 << 10;
/// What a byte of a message may take: an empty string has two of them, and 24 in memory, which
/// double while their list grows.
const MEMORY_TIMES: usize = 64;
/// What an operation of a transaction may take in memory, in the same way.
const OPERATION_BYTES: usize = 1024;
/// What the gate lets through, as a multiple of `max-txn-ops`.
const TIMES_MAX_TXN_OPS: usize = 128;

type Outcome = Result<(), Status>;

pub fn run(input: &[u8]) {
    let mut settings = Settings(input);
    let method = &method::ALL[usize::from(settings.byte()) % method::ALL.len()];
    let (form, chunk_bytes) = (settings.byte(), usize::from(settings.byte()).max(1));
    // From 1 to 128 operations.
    let limits =
        Limits { max_request_bytes: 2048, max_txn_ops: 1 << (form % 8), ..Limits::DEFAULT };
    let body = match form & ONE_MESSAGE {
        0 => settings.0.to_vec(),
        _ => {
            let length = u32::try_from(settings.0.len()).expect("an input is short");
            [&[0], &length.to_be_bytes()[..], settings.0].concat()
        }
    };
    // tonic makes room for a message when it knows the length.
    let bytes_max = MEMORY_BYTES
        + limits.message_bytes_max()
        + MEMORY_TIMES * input.len()
        + OPERATION_BYTES * TIMES_MAX_TXN_OPS * limits.max_txn_ops.min(input.len());
    let path = format!("/{}/{}", method.service, method.name);
    memory::bounded(bytes_max, || call(&path, &body, chunk_bytes, limits));
}

fn call(path: &str, body: &[u8], chunk_bytes: usize, limits: Limits) {
    let (_leader, receiver) = watch::channel(Some(MemberId(1)));
    let gate = Gate {
        admission: Admission {
            leadership: Leadership::new(receiver, limits.election_timeout),
            is_learner: Arc::new(|| false),
        },
        limits,
        metrics: Default::default(),
        let_in: Arc::new(|_, _| Box::pin(std::future::ready(Ok(())))),
        stopping: CancellationToken::new(),
    };
    let chunks = body.chunks(chunk_bytes).map(|chunk| Ok::<_, Infallible>(chunk.to_vec()));
    let request = Request::builder()
        .method("POST")
        .version(Version::HTTP_2)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/grpc")
        .body(Body::from_stream(stream::iter(chunks.collect::<Vec<_>>())))
        .expect("the request is a proper one");
    let service = service_fn(move |request| async move {
        let outcome = serve(request, limits).await;
        Ok::<Response, Infallible>(match outcome {
            Ok(()) => Response::default(),
            Err(status) => status.into_http(),
        })
    });
    let gated = from_fn_with_state(Arc::new(gate), gate::pass).layer(service);
    let _ = block_on(gated.oneshot(request));
}

/// What the services of the server do with a request until they ask the node.
async fn serve(request: Request, limits: Limits) -> Outcome {
    let path = request.uri().path().to_owned();
    let call = Call { body: request.into_body(), limits };
    match path.as_str() {
        "/etcdserverpb.KV/Range" => call.unary(|it: &RangeRequest, _| validate::range(it)).await,
        "/etcdserverpb.KV/RangeStream" => {
            call.unary(|it: &RangeRequest, _| validate::range_stream(it)).await
        }
        "/etcdserverpb.KV/Put" => call.logged(validate::put, Operation::Put).await,
        "/etcdserverpb.KV/DeleteRange" => {
            call.logged(validate::delete_range, Operation::DeleteRange).await
        }
        "/etcdserverpb.KV/Txn" => {
            let check = |txn: &TxnRequest, limits: &Limits| {
                assert!(operations(txn) <= TIMES_MAX_TXN_OPS * limits.max_txn_ops, "uncounted");
                validate::txn(txn, limits)
            };
            call.logged(check, Operation::Txn).await
        }
        "/etcdserverpb.KV/Compact" => call.logged(validate::compact, Operation::Compact).await,
        "/etcdserverpb.Watch/Watch" => call.stream::<WatchRequest>().await,
        "/etcdserverpb.Lease/LeaseGrant" => {
            call.logged(|it, _| validate::lease_grant(it), Operation::LeaseGrant).await
        }
        "/etcdserverpb.Lease/LeaseRevoke" => {
            call.logged(|it, _| validate::lease_revoke(it), Operation::LeaseRevoke).await
        }
        "/etcdserverpb.Lease/LeaseKeepAlive" => call.stream::<LeaseKeepAliveRequest>().await,
        "/etcdserverpb.Lease/LeaseTimeToLive" => call.plain::<LeaseTimeToLiveRequest>().await,
        "/etcdserverpb.Lease/LeaseLeases" => call.plain::<LeaseLeasesRequest>().await,
        "/etcdserverpb.Cluster/MemberAdd" => {
            call.unary(|it: &MemberAddRequest, _| validate::member_urls(&it.peer_ur_ls)).await
        }
        "/etcdserverpb.Cluster/MemberUpdate" => {
            call.unary(|it: &MemberUpdateRequest, _| validate::member_urls(&it.peer_ur_ls)).await
        }
        "/etcdserverpb.Cluster/MemberRemove" => call.plain::<MemberRemoveRequest>().await,
        "/etcdserverpb.Cluster/MemberList" => call.plain::<MemberListRequest>().await,
        "/etcdserverpb.Cluster/MemberPromote" => call.plain::<MemberPromoteRequest>().await,
        "/etcdserverpb.Maintenance/Alarm" => call.plain::<AlarmRequest>().await,
        "/etcdserverpb.Maintenance/Status" => call.plain::<StatusRequest>().await,
        "/etcdserverpb.Maintenance/Defragment" => call.plain::<DefragmentRequest>().await,
        "/etcdserverpb.Maintenance/Hash" => call.plain::<HashRequest>().await,
        "/etcdserverpb.Maintenance/HashKV" => call.plain::<HashKvRequest>().await,
        "/etcdserverpb.Maintenance/Snapshot" => call.plain::<SnapshotRequest>().await,
        "/etcdserverpb.Maintenance/MoveLeader" => call.plain::<MoveLeaderRequest>().await,
        "/etcdserverpb.Maintenance/Downgrade" => call.plain::<DowngradeRequest>().await,
        "/v3lockpb.Lock/Lock" => call.plain::<LockRequest>().await,
        "/v3lockpb.Lock/Unlock" => call.plain::<UnlockRequest>().await,
        "/v3electionpb.Election/Campaign" => call.plain::<CampaignRequest>().await,
        "/v3electionpb.Election/Proclaim" => call.plain::<ProclaimRequest>().await,
        "/v3electionpb.Election/Resign" => call.plain::<ResignRequest>().await,
        "/v3electionpb.Election/Leader" | "/v3electionpb.Election/Observe" => {
            call.plain::<LeaderRequest>().await
        }
        // A library's; it has a message of one string.
        path if path.starts_with("/grpc.health.v1.Health/") => call.plain::<StatusRequest>().await,
        path => {
            match (path.strip_prefix("/etcdserverpb.Auth/"), path.strip_prefix("/orrery.Regions/"))
            {
                (Some(method), _) => serve_auth(method, call).await,
                (_, Some(method)) => serve_regions(method, call).await,
                (None, None) => panic!("the server decodes requests to {path}, and no target does"),
            }
        }
    }
}

/// Where the leader is to be. What is asked for is checked by the node alone.
async fn serve_regions(method: &str, call: Call) -> Outcome {
    match method {
        "Show" => call.plain::<RegionsShowRequest>().await,
        "SetPriorities" => call.plain::<RegionsSetPrioritiesRequest>().await,
        "Failover" => call.plain::<RegionsFailoverRequest>().await,
        "Offline" => call.plain::<RegionsOfflineRequest>().await,
        "Online" => call.plain::<RegionsOnlineRequest>().await,
        "Configure" => call.plain::<RegionsConfigureRequest>().await,
        method => panic!("the server decodes requests to Regions/{method}, and no target does"),
    }
}

/// Users and roles. What they ask for is checked by the node alone.
async fn serve_auth(method: &str, call: Call) -> Outcome {
    match method {
        "AuthEnable" => call.plain::<etcdserverpb::AuthEnableRequest>().await,
        "AuthDisable" => call.plain::<etcdserverpb::AuthDisableRequest>().await,
        "AuthStatus" => call.plain::<etcdserverpb::AuthStatusRequest>().await,
        "Authenticate" => call.plain::<etcdserverpb::AuthenticateRequest>().await,
        "UserAdd" => call.plain::<etcdserverpb::AuthUserAddRequest>().await,
        "UserGet" => call.plain::<etcdserverpb::AuthUserGetRequest>().await,
        "UserList" => call.plain::<etcdserverpb::AuthUserListRequest>().await,
        "UserDelete" => call.plain::<etcdserverpb::AuthUserDeleteRequest>().await,
        "UserChangePassword" => call.plain::<etcdserverpb::AuthUserChangePasswordRequest>().await,
        "UserGrantRole" => call.plain::<etcdserverpb::AuthUserGrantRoleRequest>().await,
        "UserRevokeRole" => call.plain::<etcdserverpb::AuthUserRevokeRoleRequest>().await,
        "RoleAdd" => call.plain::<etcdserverpb::AuthRoleAddRequest>().await,
        "RoleGet" => call.plain::<etcdserverpb::AuthRoleGetRequest>().await,
        "RoleList" => call.plain::<etcdserverpb::AuthRoleListRequest>().await,
        "RoleDelete" => call.plain::<etcdserverpb::AuthRoleDeleteRequest>().await,
        "RoleGrantPermission" => call.plain::<etcdserverpb::AuthRoleGrantPermissionRequest>().await,
        "RoleRevokePermission" => {
            call.plain::<etcdserverpb::AuthRoleRevokePermissionRequest>().await
        }
        method => panic!("the server decodes requests to Auth/{method}, and no target does"),
    }
}

/// Comparisons and operations of a transaction and of those within it.
fn operations(txn: &TxnRequest) -> usize {
    let of_operation = |operation: &RequestOp| match &operation.request {
        Some(request_op::Request::RequestTxn(txn)) => 1 + operations(txn),
        _ => 1,
    };
    let operations = txn.success.iter().chain(&txn.failure);
    txn.compare.len() + operations.map(of_operation).sum::<usize>()
}

struct Call {
    body: Body,
    limits: Limits,
}

impl Call {
    /// Reads a request as tonic does for a method that takes one, then checks it.
    async fn unary<M, R>(self, check: impl FnOnce(&M, &Limits) -> R) -> Outcome
    where
        M: Message + Default + PartialEq + 'static,
    {
        let limits = self.limits;
        let mut stream = self.messages::<M>();
        let Some(message) = stream.message().await? else { return Ok(()) };
        // Reads the rest of the stream as well.
        stream.trailers().await?;
        survives(&message);
        // Any answer will do.
        let _ = check(&message, &limits);
        Ok(())
    }

    async fn plain<M: Message + Default + PartialEq + 'static>(self) -> Outcome {
        self.unary(|_: &M, _| ()).await
    }

    /// As `unary`; what passes the check must come back out of the log.
    async fn logged<M, E>(
        self,
        check: impl FnOnce(&M, &Limits) -> Result<(), E>,
        operation: impl FnOnce(M) -> Operation,
    ) -> Outcome
    where
        M: Message + Default + PartialEq + Clone + 'static,
    {
        self.unary(|message: &M, limits| {
            if check(message, limits).is_ok() {
                let operation = Some(operation(message.clone()));
                survives(&Command { proposal: 1, operation, ..Command::default() });
            }
        })
        .await
    }

    /// Reads all requests of a stream, one after the other.
    async fn stream<M: Message + Default + PartialEq + 'static>(self) -> Outcome {
        let mut stream = self.messages::<M>();
        while let Some(message) = stream.message().await? {
            survives(&message);
        }
        Ok(())
    }

    fn messages<M: Message + Default + 'static>(self) -> Streaming<M> {
        let decoder = ProstCodec::<M, M>::default().decoder();
        Streaming::new_request(decoder, self.body, None, Some(self.limits.message_bytes_max()))
    }
}

/// What was decoded must be the same after a way over the wire.
pub(super) fn survives<M: Message + Default + PartialEq>(message: &M) {
    let encoded = Bytes::from(message.encode_to_vec());
    assert_eq!(encoded.len(), message.encoded_len());
    let decoded = M::decode(encoded.clone()).expect("what was encoded here decodes");
    assert!(decoded == *message, "it has become something else");
    assert_eq!(decoded.encode_to_vec(), encoded);
}
