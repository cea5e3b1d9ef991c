//! What is told of each unary call at debug level, and of the slow ones always, in etcd's words.

use std::{
    fmt::Write,
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::extract::ConnectInfo;
use prost::Message;
use tonic::{Extensions, Request, Response, Status, async_trait};
use tracing::{debug, warn};

use crate::{
    grpc::{
        Limits,
        kv::{Kv, is_read_only},
    },
    proto::etcdserverpb::{
        CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
        PutResponse, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse, kv_server,
        request_op, response_op,
    },
    telemetry,
};

pub(crate) const KV: &str = "etcdserverpb.KV";

/// A call under way.
pub(crate) struct Call {
    start: Instant,
    remote: Option<SocketAddr>,
    service: &'static str,
    method: &'static str,
}

/// What there is to say of a call; -1 stands for what is not counted.
struct Stats {
    request_count: i64,
    request_size: i64,
    response_count: i64,
    response_size: i64,
    content: String,
}

const UNCOUNTED: Stats = Stats {
    request_count: -1,
    request_size: -1,
    response_count: -1,
    response_size: -1,
    content: String::new(),
};

impl Call {
    pub(crate) fn start(
        (service, method): (&'static str, &'static str),
        remote: Option<SocketAddr>,
    ) -> Call {
        Call { start: Instant::now(), remote, service, method }
    }

    fn of<T>(method: &'static str, request: &Request<T>) -> Call {
        Call::start((KV, method), remote(request.extensions()))
    }

    /// Ends a call of which nothing is counted.
    pub(crate) fn end(self, slow: Duration) {
        self.tell(slow, || UNCOUNTED);
    }

    fn tell(&self, slow: Duration, stats: impl FnOnce() -> Stats) {
        let took = self.start.elapsed();
        let (is_told, is_slow) = (tracing::enabled!(tracing::Level::DEBUG), took > slow);
        if !is_told && !is_slow {
            return;
        }
        let stats = stats();
        let path = format!("/{}/{}", self.service, self.method);
        let start_time = telemetry::time_before(took);
        let remote = match self.remote {
            Some(remote) => remote.to_string(),
            None => "No remote client info.".to_owned(),
        };
        macro_rules! line {
            ($level:ident) => {
                $level!(
                    "start time" = start_time,
                    "time spent" = ?took,
                    remote,
                    "response type" = path,
                    "request count" = stats.request_count,
                    "request size" = stats.request_size,
                    "response count" = stats.response_count,
                    "response size" = stats.response_size,
                    "request content" = stats.content,
                    "request stats"
                )
            };
        }
        // Which level it is depends on what is logged at all, as in etcd.
        if is_told {
            line!(debug);
        } else {
            line!(warn);
        }
    }

    /// A read that this member has answered by itself.
    fn tell_slow_read(
        &self,
        slow: Duration,
        prefix: &str,
        request: impl FnOnce() -> String,
        response: impl FnOnce() -> Result<String, String>,
    ) {
        let took = self.start.elapsed();
        if took <= slow {
            return;
        }
        let (response, error) = match response() {
            Ok(response) => (response, None),
            Err(error) => (String::new(), Some(error)),
        };
        warn!(
            ?took,
            expected_duration = ?slow,
            prefix,
            request = request(),
            response,
            error,
            "apply request took too long"
        );
    }
}

/// Who asks, where the listener knows it.
pub(crate) fn remote(extensions: &Extensions) -> Option<SocketAddr> {
    extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(remote)| *remote)
}

/// The KV service, with a line about each call that deserves one.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) kv: Kv,
    pub(crate) limits: Limits,
}

#[async_trait]
impl kv_server::Kv for Told {
    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let call = Call::of("Range", &request);
        let asked = request.get_ref().clone();
        let answer = self.kv.range(request).await;
        call.tell_slow_read(
            self.limits.slow_apply,
            "read-only range ",
            || range_text(&asked),
            || told(&answer, range_answer),
        );
        call.tell(self.limits.slow_unary, || Stats {
            request_count: 0,
            request_size: size(&asked),
            response_count: answer.as_ref().map_or(0, |it| it.get_ref().count),
            response_size: answer_size(&answer),
            content: range_text(&asked),
        });
        answer
    }

    type RangeStreamStream = <Kv as kv_server::Kv>::RangeStreamStream;

    async fn range_stream(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        self.kv.range_stream(request).await
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let call = Call::of("Put", &request);
        let asked = request.get_ref().clone();
        let answer = self.kv.put(request).await;
        call.tell(self.limits.slow_unary, || Stats {
            request_count: 1,
            request_size: size(&asked),
            response_count: 0,
            response_size: answer_size(&answer),
            content: put_text(&asked),
        });
        answer
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let call = Call::of("DeleteRange", &request);
        let asked = request.get_ref().clone();
        let answer = self.kv.delete_range(request).await;
        call.tell(self.limits.slow_unary, || Stats {
            request_count: 0,
            request_size: size(&asked),
            response_count: answer.as_ref().map_or(0, |it| it.get_ref().deleted),
            response_size: answer_size(&answer),
            content: delete_text(&asked),
        });
        answer
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let call = Call::of("Txn", &request);
        let asked = request.get_ref().clone();
        let answer = self.kv.txn(request).await;
        if is_read_only(&asked) {
            call.tell_slow_read(
                self.limits.slow_apply,
                "read-only txn ",
                || txn_text(&asked),
                || told(&answer, txn_answer),
            );
        }
        call.tell(self.limits.slow_unary, || {
            let branch = answer.as_ref().ok().map(|answer| match answer.get_ref().succeeded {
                true => &asked.success,
                false => &asked.failure,
            });
            Stats {
                request_count: branch.map_or(0, |branch| branch.len() as i64),
                request_size: branch.into_iter().flatten().map(size).sum(),
                response_count: 0,
                response_size: answer_size(&answer),
                content: txn_text(&asked),
            }
        });
        answer
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        let call = Call::of("Compact", &request);
        let answer = self.kv.compact(request).await;
        call.end(self.limits.slow_unary);
        answer
    }
}

fn size(message: &impl Message) -> i64 {
    message.encoded_len() as i64
}

fn answer_size<T: Message>(answer: &Result<Response<T>, Status>) -> i64 {
    answer.as_ref().map_or(0, |answer| size(answer.get_ref()))
}

fn told<T>(
    answer: &Result<Response<T>, Status>,
    text: impl Fn(&T) -> String,
) -> Result<String, String> {
    match answer {
        Ok(answer) => Ok(text(answer.get_ref())),
        Err(status) => Err(status.message().to_owned()),
    }
}

fn range_answer(answer: &RangeResponse) -> String {
    format!("range_response_count:{} size:{}", answer.kvs.len(), answer.encoded_len())
}

fn txn_answer(answer: &TxnResponse) -> String {
    let counts: Vec<String> = answer
        .responses
        .iter()
        .filter_map(|response| match response.response.as_ref()? {
            response_op::Response::ResponseRange(range) => {
                Some(format!("range_response_count:{}", range.kvs.len()))
            }
            response_op::Response::ResponsePut(_)
            | response_op::Response::ResponseDeleteRange(_)
            | response_op::Response::ResponseTxn(_) => None,
        })
        .collect();
    format!("responses:<{}> size:{}", counts.join(" "), answer.encoded_len())
}

/// Fields that are not empty, as protobuf's text has them.
#[derive(Default)]
struct Text(String);

impl Text {
    fn bytes(mut self, name: &str, bytes: &[u8]) -> Text {
        if !bytes.is_empty() {
            let _ = write!(self.0, "{name}:\"{}\" ", bytes.escape_ascii());
        }
        self
    }

    fn number(mut self, name: &str, number: i64) -> Text {
        if number != 0 {
            let _ = write!(self.0, "{name}:{number} ");
        }
        self
    }

    fn flag(mut self, name: &str, flag: bool) -> Text {
        if flag {
            let _ = write!(self.0, "{name}:true ");
        }
        self
    }
}

fn range_text(range: &RangeRequest) -> String {
    let text = Text::default()
        .bytes("key", &range.key)
        .bytes("range_end", &range.range_end)
        .number("limit", range.limit)
        .number("revision", range.revision)
        .number("sort_order", range.sort_order.into())
        .number("sort_target", range.sort_target.into())
        .flag("serializable", range.serializable)
        .flag("keys_only", range.keys_only)
        .flag("count_only", range.count_only)
        .number("min_mod_revision", range.min_mod_revision)
        .number("max_mod_revision", range.max_mod_revision)
        .number("min_create_revision", range.min_create_revision)
        .number("max_create_revision", range.max_create_revision);
    text.0
}

/// Values are nobody's business.
fn put_text(put: &PutRequest) -> String {
    let text = Text::default()
        .bytes("key", &put.key)
        .number("value_size", put.value.len() as i64)
        .number("lease", put.lease)
        .flag("prev_kv", put.prev_kv)
        .flag("ignore_value", put.ignore_value)
        .flag("ignore_lease", put.ignore_lease);
    text.0
}

fn delete_text(delete: &DeleteRangeRequest) -> String {
    let text = Text::default()
        .bytes("key", &delete.key)
        .bytes("range_end", &delete.range_end)
        .flag("prev_kv", delete.prev_kv);
    text.0
}

fn txn_text(txn: &TxnRequest) -> String {
    let mut compares = String::new();
    for compare in &txn.compare {
        let (result, target) = (compare.result.into(), compare.target.into());
        let text = Text::default()
            .number("result", result)
            .number("target", target)
            .bytes("key", &compare.key)
            .bytes("range_end", &compare.range_end);
        let _ = write!(compares, "compare:<{}> ", text.0);
    }
    let branch = |operations: &[RequestOp]| {
        operations.iter().map(operation_text).collect::<Vec<_>>().join(" ")
    };
    format!("{compares}success:<{}> failure:<{}>", branch(&txn.success), branch(&txn.failure))
}

fn operation_text(operation: &RequestOp) -> String {
    match &operation.request {
        Some(request_op::Request::RequestRange(range)) => {
            format!("request_range:<{}>", range_text(range))
        }
        Some(request_op::Request::RequestPut(put)) => format!("request_put:<{}>", put_text(put)),
        Some(request_op::Request::RequestDeleteRange(delete)) => {
            format!("request_delete_range:<{}>", delete_text(delete))
        }
        // How deep they go is bounded where messages are read.
        Some(request_op::Request::RequestTxn(txn)) => format!("request_txn:<{}>", txn_text(txn)),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests;
