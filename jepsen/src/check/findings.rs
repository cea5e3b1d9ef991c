//! What a checker collects on its way through a history, and how steps are said in a proof.

use serde::Deserialize;
use serde_json::Value;

use super::{Checked, Verdict};
use crate::history::{Kind, Nanos, Step};

/// Broken promises that a proof shows in full. More of the same help nobody; they are counted.
const SHOWN: usize = 10;

/// Bytes that a proof shows of one value.
const SHOWN_BYTES: usize = 1000;

/// The verdict in the making: valid until something is found.
pub(crate) struct Findings {
    name: String,
    checked: u64,
    is_due: bool,
    notes: Vec<String>,
    violations: Tally,
    unknowns: Tally,
}

#[derive(Default)]
struct Tally {
    shown: Vec<String>,
    count: usize,
}

impl Tally {
    fn add(&mut self, what: String) {
        self.count += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(what);
        }
    }

    fn text(&self) -> Option<String> {
        let hidden = self.count - self.shown.len();
        let more = (hidden > 0).then(|| format!("and {hidden} more"));
        let lines: Vec<&str> =
            self.shown.iter().map(String::as_str).chain(more.as_deref()).collect();
        (self.count > 0).then(|| lines.join("\n"))
    }
}

impl Findings {
    pub(crate) fn new(name: &str) -> Findings {
        Findings {
            name: name.into(),
            checked: 0,
            is_due: true,
            notes: Vec::new(),
            violations: Tally::default(),
            unknowns: Tally::default(),
        }
    }

    /// Something was looked at that could have shown a fault.
    pub(crate) fn looked_at(&mut self, count: usize) {
        self.checked += count as u64;
    }

    pub(crate) fn note(&mut self, line: String) {
        self.notes.push(line);
    }

    pub(crate) fn violated(&mut self, proof: String) {
        self.violations.add(proof);
    }

    pub(crate) fn unknown(&mut self, reason: String) {
        self.unknowns.add(reason);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.checked == 0
    }

    /// There was nothing to look at, and that is as it should be.
    pub(crate) fn not_due(&mut self, reason: String) {
        self.is_due = false;
        self.notes.push(reason);
    }

    /// Says it is violated with the proof unless it holds.
    pub(crate) fn demand(&mut self, holds: bool, proof: impl FnOnce() -> String) {
        if !holds {
            self.violated(proof());
        }
    }

    /// The argument of a step. `None` if it is none of this workload, which is the harness's fault
    /// and leaves the verdict unknown.
    pub(crate) fn value<'a, T: Deserialize<'a>>(&mut self, step: &'a Step) -> Option<T> {
        self.decode(step, &step.value, "value")
    }

    /// The result of a step that is ok; `None` as with [`Findings::value`].
    pub(crate) fn result<'a, T: Deserialize<'a>>(&mut self, step: &'a Step) -> Option<T> {
        self.decode(step, &step.result, "result")
    }

    /// The key of a step; `None` as with [`Findings::value`].
    pub(crate) fn key<'a>(&mut self, step: &'a Step) -> Option<&'a str> {
        if step.key.is_none() {
            self.unknown(format!("a step of another workload, it has no key: {}", show(step)));
        }
        step.key.as_deref()
    }

    /// A step that this checker does not know leaves the verdict unknown.
    pub(crate) fn stranger(&mut self, step: &Step) {
        self.unknown(format!("a step of another workload: {}", show(step)));
    }

    fn decode<'a, T>(&mut self, step: &'a Step, value: &'a Value, part: &str) -> Option<T>
    where
        T: Deserialize<'a>,
    {
        match T::deserialize(value) {
            Ok(decoded) => Some(decoded),
            Err(error) => {
                let shown = show(step);
                self.unknown(format!("a step of another workload, its {part}: {error}: {shown}"));
                None
            }
        }
    }

    /// A checker that looked at nothing has found nothing, and says so.
    pub(crate) fn finish(self) -> Checked {
        let nothing =
            || (self.is_due && self.checked == 0).then(|| "there was nothing to check".to_string());
        let verdict = match (self.violations.text(), self.unknowns.text().or_else(nothing)) {
            (Some(proof), _) => Verdict::Violated(proof),
            (None, Some(reason)) => Verdict::Unknown(reason),
            (None, None) => Verdict::Valid,
        };
        Checked { name: self.name, verdict, checked: self.checked, notes: self.notes }
    }
}

/// A step in a line: `process 3 at member 1: read r1 null -> 5 [2.500000 s, 2.501000 s]`.
pub(crate) fn show(step: &Step) -> String {
    let key = step.key.as_deref().map(|key| format!(" {key}")).unwrap_or_default();
    let outcome = match step.kind {
        Kind::Ok => short(&step.result),
        Kind::Fail => format!("failed ({})", step.error),
        Kind::Info => format!("unknown ({})", step.error),
    };
    format!(
        "process {} at member {}: {}{key} {} -> {outcome} [{}, {}]",
        step.process,
        step.member,
        step.f,
        short(&step.value),
        seconds(step.began),
        seconds(step.ended)
    )
}

/// The value as JSON, or its beginning: what is read may have thousands of elements.
fn short(value: &Value) -> String {
    let text = value.to_string();
    let end = text.floor_char_boundary(SHOWN_BYTES);
    if end == text.len() { text } else { format!("{}...", &text[..end]) }
}

/// A moment or span in seconds, to the microsecond.
pub(crate) fn seconds(at: Nanos) -> String {
    format!("{}.{:06} s", at / 1_000_000_000, at % 1_000_000_000 / 1_000)
}

/// Steps in the order in which they began.
pub(crate) fn by_beginning(steps: &[Step]) -> Vec<&Step> {
    let mut steps: Vec<&Step> = steps.iter().collect();
    steps.sort_by_key(|step| (step.began, step.ended));
    steps
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::check::sketch::ok;

    #[test]
    fn looking_at_nothing_is_no_pass() {
        assert!(matches!(Findings::new("x").finish().verdict, Verdict::Unknown(_)));
    }

    #[test]
    fn a_violation_is_graver_than_what_is_unknown() {
        let mut findings = Findings::new("x");
        findings.looked_at(1);
        findings.unknown("who knows".into());
        findings.demand(false, || "broken".into());
        assert_eq!(findings.finish().verdict, Verdict::Violated("broken".into()));
    }

    #[test]
    fn a_step_is_a_line_and_what_is_long_is_cut() {
        let step =
            ok("read", json!(null), json!([1, 2])).of("k").by(3).at(2_500_000_000, 2_500_001_000);
        let line = "process 3 at member 0: read k null -> [1,2] [2.500000 s, 2.500001 s]";
        assert_eq!(show(&step), line);
        assert!(show(&ok("read", json!(null), json!("ä".repeat(2000)))).len() < 1200);
    }

    #[test]
    fn a_proof_shows_the_first_and_counts_the_rest() {
        let mut findings = Findings::new("x");
        (0..SHOWN + 2).for_each(|at| findings.violated(format!("fault {at}")));
        let Verdict::Violated(proof) = findings.finish().verdict else { panic!("it is violated") };
        assert!(proof.starts_with("fault 0\n") && proof.ends_with("and 2 more"), "{proof}");
    }
}
