//! The newest entries whose traces are recorded: a trace does not stand in the log, so each member
//! remembers it beside the log, from the entry's arrival until newer ones take its place.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tracing::Span;

use crate::{
    telemetry::traces::{self, Kind},
    types::{LogId, TraceContext},
};

/// Entries remembered, about a hundred bytes each. More than a second's worth, unless all of a busy
/// member's traces are recorded; what is forgotten is missing from its trace.
const ENTRIES_MAX: usize = 4096;

/// Work on one of several entries.
pub(crate) struct Following {
    pub(crate) position: u32,
    pub(crate) id: LogId,
    /// What others go on from: the span, or where this member records none, that which it would
    /// have followed from.
    pub(crate) context: TraceContext,
    pub(crate) span: Span,
}

/// Clones share what is remembered.
#[derive(Clone, Default)]
pub(crate) struct Traced(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Index of the newest entry that has ever been remembered: who asks for later ones need not
    /// look.
    newest: AtomicU64,
    entries: Mutex<BTreeMap<u64, (LogId, TraceContext)>>,
}

impl Traced {
    /// The span of writing an entry to the log, which is what follows in the trace follows from.
    pub(crate) fn append(&self, id: LogId, trace: TraceContext) -> Span {
        let span = traces::follow(trace, "append", Kind::Internal);
        describe(&span, id);
        let context = traces::context(&span).unwrap_or(trace);
        let mut entries = self.entries();
        entries.insert(id.index, (id, context));
        if entries.len() > ENTRIES_MAX {
            entries.pop_first();
        }
        self.0.newest.fetch_max(id.index, Ordering::Release);
        span
    }

    /// Spans of applying those of the entries that are remembered.
    pub(crate) fn apply(&self, ids: impl Iterator<Item = LogId>) -> Vec<Span> {
        self.follow(ids, "apply", Kind::Internal).into_iter().map(|follow| follow.span).collect()
    }

    /// Spans of sending those of the entries that are remembered, with their positions.
    pub(crate) fn replicate(&self, ids: impl Iterator<Item = LogId>) -> Vec<Following> {
        self.follow(ids, "replicate", Kind::Client)
    }

    /// `ids` follow each other. Allocates nothing when none is remembered.
    fn follow(
        &self,
        ids: impl Iterator<Item = LogId>,
        name: &'static str,
        kind: Kind,
    ) -> Vec<Following> {
        let newest = self.0.newest.load(Ordering::Acquire);
        let mut ids = (0..).zip(ids).peekable();
        if ids.peek().is_none_or(|(_, first)| first.index > newest) {
            return Vec::new();
        }
        let entries = self.entries();
        let remembered = ids.filter_map(|(at, id)| {
            let (found, context) = entries.get(&id.index)?;
            (*found == id).then_some((at, id, *context))
        });
        let remembered: Vec<_> = remembered.collect();
        drop(entries);
        let follow = |(position, id, context)| {
            let span = traces::follow(context, name, kind);
            describe(&span, id);
            let context = traces::context(&span).unwrap_or(context);
            Following { position, id, context, span }
        };
        remembered.into_iter().map(follow).collect()
    }

    /// What a panic elsewhere leaves behind is a whole map.
    fn entries(&self) -> MutexGuard<'_, BTreeMap<u64, (LogId, TraceContext)>> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn describe(span: &Span, id: LogId) {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    traces::set(span, "raft.term", number(id.term));
    traces::set(span, "raft.index", number(id.index));
}

/// Spans of requests that have been sent on one stream and not been answered.
#[derive(Default)]
pub(crate) struct Unanswered {
    /// Index of the last entry of each, in order. Bounded by the stream's window.
    spans: Mutex<Vec<(u64, Span)>>,
    /// How many: mostly none, and then nobody need look.
    count: AtomicU64,
}

impl Unanswered {
    pub(crate) fn sent(&self, index: u64, span: Span) {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).push((index, span));
        self.count.fetch_add(1, Ordering::Release);
    }

    /// Ends the spans of entries up to this one.
    pub(crate) fn answered(&self, index: u64) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        let done = spans.partition_point(|(last, _)| *last <= index);
        spans.drain(..done);
        self.count.fetch_sub(done as u64, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(term: u64, index: u64) -> LogId {
        LogId { term, node: 1, index }
    }

    fn trace() -> TraceContext {
        TraceContext::decode(&[7; TraceContext::BYTES]).unwrap()
    }

    fn remembered(traced: &Traced, ids: &[LogId]) -> Vec<u32> {
        let found = traced.replicate(ids.iter().copied());
        found.into_iter().map(|found| found.position).collect()
    }

    #[test]
    fn entries_are_found_by_their_log_ids() {
        let traced = Traced::default();
        assert_eq!(remembered(&traced, &[id(1, 0), id(1, 1)]), [0; 0]);
        traced.append(id(1, 5), trace());
        traced.append(id(1, 7), trace());
        assert_eq!(remembered(&traced, &[id(1, 5), id(1, 6), id(1, 7)]), [0, 2]);
        assert_eq!(remembered(&traced, &[id(1, 8)]), [0; 0]);
        traced.append(id(2, 7), trace());
        assert_eq!(remembered(&traced, &[id(1, 7)]), [0; 0], "another leader's entry");
        assert_eq!(remembered(&traced, &[id(2, 7)]), [0]);
    }

    #[test]
    fn the_oldest_entries_are_forgotten() {
        let traced = Traced::default();
        let newest = ENTRIES_MAX as u64 + 1;
        (1..=newest).for_each(|index| drop(traced.append(id(1, index), trace())));
        assert_eq!(remembered(&traced, &[id(1, 1), id(1, 2)]), [1]);
    }

    #[test]
    fn an_answer_ends_what_it_covers() {
        let unanswered = Unanswered::default();
        (1..=3).for_each(|index| unanswered.sent(index * 10, Span::none()));
        unanswered.answered(5);
        assert_eq!(unanswered.spans.lock().unwrap().len(), 3);
        unanswered.answered(20);
        assert_eq!(unanswered.spans.lock().unwrap().len(), 1);
    }
}
