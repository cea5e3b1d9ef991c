//! Spans of the requests whose traces are recorded, and their way from task to task and from
//! member to member.
//!
//! Whether a trace is recorded is decided once, where its request comes in ([`request`]), before
//! any span is made. From there on a task has the span that it works for as its current one, and
//! what is handed to somebody else has a [`TraceContext`] beside it. Everything here does nothing,
//! after one look at a flag, in a process that sends no traces.

use std::{
    str::FromStr,
    sync::atomic::{AtomicBool, Ordering},
};

use http::HeaderMap;
use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId, Value,
    trace::{SpanContext, Status, TraceContextExt, TraceState},
};
use tracing::{Level, Span, span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::types::TraceContext;

/// Spans of this target are exported, and no line of the log is made of them.
pub(super) const TARGET: &str = "trace";

/// One for the process, as the subscriber is that it stands for.
static IS_ON: AtomicBool = AtomicBool::new(false);

pub(super) fn switch_on() {
    IS_ON.store(true, Ordering::Relaxed);
}

/// Does this process send traces?
#[inline]
pub fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// What a span stands for, in OpenTelemetry's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Internal,
    /// Asks somebody and waits for the answer.
    Client,
}

/// Begins the trace of a request, or goes on with its caller's; `None` when it is not recorded. The
/// caller decides; for who has no trace, a part of `rate` in a million is taken.
pub fn request(name: &str, headers: &HeaderMap, rate: u32) -> Option<Span> {
    let parent = caller(headers);
    let is_recorded = match &parent {
        Some(parent) => parent.is_sampled(),
        None => rate > 0 && rand::random_range(0..RATE_OF_ALL) < rate,
    };
    if !is_recorded {
        return None;
    }
    let span = span!(
        target: TARGET, parent: None, Level::INFO, "request", otel.name = name, otel.kind = "server"
    );
    if let Some(parent) = parent {
        set_parent(&span, parent);
    }
    Some(span)
}

/// The rate at which every trace is recorded.
pub const RATE_OF_ALL: u32 = 1_000_000;

fn caller(headers: &HeaderMap) -> Option<SpanContext> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let (trace, span, flags) = traceparent(text("traceparent")?)?;
    // What is wrong with the one says nothing about the other.
    let state = text("tracestate").and_then(|state| TraceState::from_str(state).ok());
    let (trace, span) = (TraceId::from_bytes(trace), SpanId::from_bytes(span));
    let flags = TraceFlags::new(flags) & TraceFlags::SAMPLED;
    let caller = SpanContext::new(trace, span, flags, true, state.unwrap_or_default());
    caller.is_valid().then_some(caller)
}

/// Trace, span and flags in a header as W3C's recommendation has it. Later versions may add fields.
fn traceparent(text: &str) -> Option<([u8; 16], [u8; 8], u8)> {
    let mut parts = text.split('-');
    let [version] = hex(parts.next()?)?;
    let (trace, span) = (hex(parts.next()?)?, hex(parts.next()?)?);
    let [flags] = hex(parts.next()?)?;
    match version {
        0 if parts.next().is_none() && flags <= FLAGS_OF_VERSION_0 => Some((trace, span, flags)),
        0 | u8::MAX => None,
        _ => Some((trace, span, flags)),
    }
}

/// Sampled, and random.
const FLAGS_OF_VERSION_0: u8 = 3;

/// So many bytes in lower case, and nothing else.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let mut bytes = [0; N];
    if pairs.len() != N {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

/// A part of what the current span stands for; a span that is none when there is no such.
pub fn part(name: &'static str) -> Span {
    if !is_on() || Span::current().is_none() {
        return Span::none();
    }
    span!(target: TARGET, Level::INFO, "part", otel.name = name, otel.kind = "internal")
}

/// The current span, if its trace is recorded.
pub fn current() -> Option<TraceContext> {
    if is_on() { context(&Span::current()) } else { None }
}

/// A span that follows from one in another task or another process.
pub fn follow(parent: TraceContext, name: &'static str, kind: Kind) -> Span {
    if !is_on() {
        return Span::none();
    }
    let kind = match kind {
        Kind::Internal if parent.is_remote => "server",
        Kind::Internal => "internal",
        Kind::Client => "client",
    };
    let span = span!(
        target: TARGET, parent: None, Level::INFO, "follow", otel.name = name, otel.kind = kind
    );
    set_parent(&span, to_open(parent));
    span
}

/// How others name the span; `None` for one that is none.
pub fn context(span: &Span) -> Option<TraceContext> {
    if span.is_none() {
        return None;
    }
    let context = span.context();
    let context = context.span().span_context().clone();
    context.is_valid().then(|| TraceContext {
        trace: context.trace_id().to_bytes(),
        span: context.span_id().to_bytes(),
        is_remote: context.is_remote(),
    })
}

/// Adds a fact to a span.
pub fn set(span: &Span, key: &'static str, value: impl Into<Value>) {
    if !span.is_none() {
        span.set_attribute(key, value);
    }
}

/// Notes that what a span stands for has failed.
pub fn set_failed(span: &Span, why: &str) {
    span.set_status(Status::error(why.to_owned()));
}

/// Ends a span with the last reference to it. A span ends where it was left last, and one that is
/// held beyond its task has been left too early.
pub fn end(span: Span) {
    span.in_scope(|| ());
}

fn to_open(context: TraceContext) -> SpanContext {
    SpanContext::new(
        TraceId::from_bytes(context.trace),
        SpanId::from_bytes(context.span),
        TraceFlags::SAMPLED,
        context.is_remote,
        TraceState::NONE,
    )
}

fn set_parent(span: &Span, parent: SpanContext) {
    // It fails for spans that have begun or that nobody records; this one is new, and for the other
    // it does not matter.
    let _ = span.set_parent(Context::new().with_remote_span_context(parent));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_is_who_traceparent_names() {
        #[track_caller]
        fn check(traceparent: &'static str, expected: Option<bool>) {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", http::HeaderValue::from_static(traceparent));
            assert_eq!(caller(&headers).map(|caller| caller.is_sampled()), expected);
        }
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Some(true));
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00", Some(false));
        check("00-00000000000000000000000000000000-b7ad6b7169203331-01", None);
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033-01", None);
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-02", Some(false));
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-04", None);
        check("00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", None);
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", None);
        check("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", Some(true));
        check("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None);
        check("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331", None);
        check("nonsense", None);
        check("", None);
    }

    #[test]
    fn nothing_is_begun_while_no_traces_are_sent() {
        assert!(part("a part").is_none());
        assert_eq!(current(), None);
        let parent = TraceContext::decode(&[7; TraceContext::BYTES]).unwrap();
        assert!(follow(parent, "what follows", Kind::Internal).is_none());
    }
}
