//! Whether each read saw what its level promises, from what clients saw and when.
//!
//! A key is a register with one writer, who writes 1, 2, 3, … and begins a write only when the one
//! before is acknowledged; after a write whose outcome nobody knows the key is left alone. So its
//! history is known but for its last write:
//!
//! - *strong*: at least the greatest counter that was acknowledged before the read was sent;
//! - *bounded*: at least the greatest that was acknowledged when the read was sent, less the bound;
//! - *session*: the revision of the answer is at least that of the token that was sent along, and
//!   revisions never go back either;
//! - *prefix*: revisions never go back for a client that stays with one member, from one answer to
//!   the next request;
//! - *eventual*, and all others: nothing that was never written, or written only afterwards.

use std::time::Duration;

use serde::Serialize;

use super::probe::{Act, Outcome, Probe};
use crate::types::Level;

/// A read that broke its level's promise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Violation {
    pub(crate) level: Level,
    /// As a place in the run's list.
    pub(crate) region: usize,
    /// When the read was sent, in nanoseconds.
    pub(crate) sent: u64,
    pub(crate) text: String,
}

/// What is known of a key's writes, in the order of their counters: the first is counter 1.
#[derive(Clone, Debug, Default)]
struct Register {
    began: Vec<u64>,
    /// When each was acknowledged; the last one may never have been.
    acknowledged: Vec<u64>,
}

impl Register {
    /// The greatest counter acknowledged before `time`.
    fn acknowledged_before(&self, time: u64) -> u64 {
        self.acknowledged.partition_point(|at| *at < time) as u64
    }

    /// The greatest counter whose write had begun at `time`.
    fn begun_at(&self, time: u64) -> u64 {
        self.began.partition_point(|at| *at <= time) as u64
    }

    /// The greatest counter that was acknowledged at all.
    fn acknowledged(&self) -> u64 {
        self.acknowledged.len() as u64
    }
}

/// All writes of a run.
pub(crate) struct Registers(Vec<Register>);

impl Registers {
    /// `probes` in any order.
    pub(crate) fn of(probes: &[Probe], keys: usize) -> Registers {
        let mut writes: Vec<&Probe> =
            probes.iter().filter(|probe| probe.act == Act::Write).collect();
        writes.sort_by_key(|write| (write.key, write.counter));
        let mut registers = vec![Register::default(); keys];
        for write in writes {
            let Some(register) = registers.get_mut(write.key) else { continue };
            register.began.push(write.sent);
            if write.outcome == Outcome::Done {
                register.acknowledged.push(write.ended);
            }
        }
        Registers(registers)
    }

    /// The acknowledged writes that are not there: `last` are the counters that a strong read
    /// found in each key when all was over, `None` for a key that nobody could read.
    pub(crate) fn lost(&self, last: &[Option<u64>]) -> u64 {
        let lost = |(register, found): (&Register, &Option<u64>)| {
            found.map_or(0, |found| register.acknowledged().saturating_sub(found))
        };
        self.0.iter().zip(last).map(lost).sum()
    }
}

/// Every read that broke its promise, in the order in which they were sent.
pub(crate) fn violations(
    probes: &[Probe],
    registers: &Registers,
    max_staleness: Duration,
) -> Vec<Violation> {
    let mut reads: Vec<(&Probe, Level, u64)> = probes.iter().filter_map(read).collect();
    reads.sort_by_key(|(probe, ..)| probe.sent);
    let mut found: Vec<Violation> = reads
        .iter()
        .filter_map(|(probe, level, counter)| {
            let register = registers.0.get(probe.key)?;
            let text = alone(probe, *level, *counter, register, max_staleness)?;
            Some(violation(probe, *level, text))
        })
        .collect();
    for level in [Level::Prefix, Level::Session] {
        let of_level =
            |(probe, its, _): &&(&Probe, Level, u64)| *its == level && probe.revision.is_some();
        let those: Vec<&Probe> = reads.iter().filter(of_level).map(|(probe, ..)| *probe).collect();
        found.extend(backwards(&those, level));
    }
    found.sort_by_key(|violation| violation.sent);
    found
}

/// A read that was answered in time, with its level and what it was told.
fn read(probe: &Probe) -> Option<(&Probe, Level, u64)> {
    let Act::Read(level) = probe.act else { return None };
    probe.counter.filter(|_| probe.is_done()).map(|counter| (probe, level, counter))
}

fn violation(probe: &Probe, level: Level, text: String) -> Violation {
    Violation { level, region: probe.region, sent: probe.sent, text }
}

/// What is wrong with a read by itself.
fn alone(
    probe: &Probe,
    level: Level,
    counter: u64,
    register: &Register,
    max_staleness: Duration,
) -> Option<String> {
    let key = probe.key;
    let begun = register.begun_at(probe.ended);
    if counter > begun {
        return Some(format!("key {key} was {counter}, and only {begun} had been written"));
    }
    let least = match level {
        Level::Strong => register.acknowledged_before(probe.sent),
        Level::Bounded => {
            let bound = max_staleness.as_nanos().try_into().unwrap_or(u64::MAX);
            register.acknowledged_before(probe.sent.saturating_sub(bound))
        }
        Level::Session | Level::Prefix | Level::Eventual => 0,
    };
    if counter < least {
        return Some(format!("key {key} was {counter}, and {least} had been acknowledged"));
    }
    match (level, probe.token, probe.revision) {
        (Level::Session, Some(token), Some(revision)) if revision < token => {
            Some(format!("revision {revision} was answered where {token} was asked for"))
        }
        _ => None,
    }
}

/// The answers whose revision is less than one that the same client was told before it asked.
fn backwards(reads: &[&Probe], level: Level) -> Vec<Violation> {
    let regions = reads.iter().map(|probe| probe.region + 1).max().unwrap_or_default();
    let mut found = Vec::new();
    for region in 0..regions {
        let sent: Vec<&Probe> =
            reads.iter().copied().filter(|probe| probe.region == region).collect();
        let mut ended = sent.clone();
        ended.sort_by_key(|probe| probe.ended);
        let (mut next, mut greatest) = (0, i64::MIN);
        for probe in sent {
            while let Some(before) = ended.get(next).filter(|before| before.ended < probe.sent) {
                greatest = greatest.max(before.revision.unwrap_or(i64::MIN));
                next += 1;
            }
            if let Some(revision) = probe.revision.filter(|revision| *revision < greatest) {
                let text = format!("revision {revision} was answered after {greatest}");
                found.push(violation(probe, level, text));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn probe(act: Act, sent: u64, counter: u64) -> Probe {
        Probe {
            region: 0,
            act,
            key: 0,
            due: sent,
            sent,
            ended: sent + 10,
            outcome: Outcome::Done,
            counter: Some(counter),
            revision: Some(1),
            token: None,
            error: None,
        }
    }

    fn read_at(level: Level, sent: u64, counter: u64) -> Probe {
        probe(Act::Read(level), sent, counter)
    }

    /// Counter 1 is acknowledged at 110, counter 2 at 10 s, and of 3 nobody knows.
    fn writes() -> Vec<Probe> {
        let second = probe(Act::Write, 10 * SECOND, 2);
        let third = probe(Act::Write, 20 * SECOND, 3);
        vec![probe(Act::Write, 100, 1), second, Probe { outcome: Outcome::Failed, ..third }]
    }

    #[track_caller]
    fn check(reads: Vec<Probe>, wanted: &[&str]) {
        let mut probes = writes();
        probes.extend(reads);
        let registers = Registers::of(&probes, 1);
        let found = violations(&probes, &registers, Duration::from_secs(5));
        let texts: Vec<&str> = found.iter().map(|violation| violation.text.as_str()).collect();
        assert_eq!(texts, wanted);
    }

    #[test]
    fn a_strong_read_sees_what_was_acknowledged_before_it_was_sent() {
        check(vec![read_at(Level::Strong, 110, 0), read_at(Level::Strong, 11 * SECOND, 2)], &[]);
        check(vec![read_at(Level::Strong, 111, 0)], &["key 0 was 0, and 1 had been acknowledged"]);
    }

    #[test]
    fn a_bounded_read_may_miss_what_is_younger_than_the_bound() {
        check(vec![read_at(Level::Bounded, 14 * SECOND, 1)], &[]);
        check(
            vec![read_at(Level::Bounded, 16 * SECOND, 1)],
            &["key 0 was 1, and 2 had been acknowledged"],
        );
    }

    #[test]
    fn nobody_reads_what_was_not_written() {
        check(vec![read_at(Level::Eventual, 21 * SECOND, 3)], &[]);
        check(
            vec![read_at(Level::Eventual, 5 * SECOND, 2)],
            &["key 0 was 2, and only 1 had been written"],
        );
    }

    #[test]
    fn a_session_is_answered_at_its_token_or_later() {
        let asked = |token| Probe { token: Some(token), ..read_at(Level::Session, 200, 1) };
        check(vec![asked(1)], &[]);
        check(vec![asked(2)], &["revision 1 was answered where 2 was asked for"]);
    }

    #[test]
    fn a_prefix_never_goes_back() {
        let at =
            |sent, revision| Probe { revision: Some(revision), ..read_at(Level::Prefix, sent, 0) };
        // Two under way at a time may be answered in any order.
        check(vec![at(0, 7), at(5, 6), at(30, 7)], &[]);
        check(vec![at(0, 7), at(30, 6)], &["revision 6 was answered after 7"]);
        let elsewhere = Probe { region: 1, ..at(30, 6) };
        check(vec![at(0, 7), elsewhere], &[]);
    }

    #[test]
    fn an_acknowledged_write_that_is_not_there_is_lost() {
        let registers = Registers::of(&writes(), 1);
        for (found, lost) in [(Some(3), 0), (Some(2), 0), (Some(0), 2), (None, 0)] {
            assert_eq!(registers.lost(&[found]), lost, "{found:?}");
        }
    }
}
