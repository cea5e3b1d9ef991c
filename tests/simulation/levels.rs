//! What reads must see at each level, by when others were told what.

use orrery::node::{Bound, Freshness};

use super::history::{Book, Fate, Moment, Read};

/// Clocks stand still within a step, so times are right to a few of them.
const CLOCK_SLACK_MS: u64 = 5;

/// # Errors
/// A bounded read saw less than its bound allows, or a session less than it had seen.
pub(crate) fn check(book: &Book) -> Result<(), String> {
    let known = Known::of(book);
    for read in &book.reads {
        match read.freshness {
            Freshness::Within(bound) => check_bounded(&known, read, bound)?,
            Freshness::AtLeast(revision) if read.revision < revision.get() => {
                return Err(format!("not of its session: {read:?}"));
            }
            // Strong reads are checked with everything else that has an order.
            Freshness::AtLeast(_) | Freshness::Linearizable | Freshness::Any => {}
        }
    }
    Ok(())
}

fn check_bounded(known: &Known, read: &Read, bound: Bound) -> Result<(), String> {
    if let Some(time) = bound.time {
        let before = u64::try_from(time.as_millis()).unwrap() + CLOCK_SLACK_MS;
        let acknowledged = known.at_ms(read.began.ms.saturating_sub(before));
        if read.revision < acknowledged {
            return Err(format!("too old: {acknowledged} was known {time:?} before {read:?}"));
        }
    } else if let Some(missing) = bound.revisions {
        let acknowledged = known.before(read.began);
        let missed = u64::try_from(acknowledged - read.revision).unwrap_or(0);
        if missed > missing {
            return Err(format!("too far behind: {acknowledged} was known before {read:?}"));
        }
    }
    Ok(())
}

/// The newest revision that anybody had been told of, by when.
struct Known(Vec<(Moment, i64)>);

impl Known {
    fn of(book: &Book) -> Known {
        let mut known: Vec<(Moment, i64)> = Vec::new();
        known.extend(book.writes.iter().filter_map(|write| match write.fate {
            Fate::Done(_, revision) => Some((write.ended, revision)),
            Fate::Refused | Fate::Unknown => None,
        }));
        known.extend(book.reads.iter().map(|read| (read.ended, read.revision)));
        known.sort_unstable_by_key(|(moment, _)| moment.order);
        let mut newest = 1;
        for (_, revision) in &mut known {
            newest = newest.max(*revision);
            *revision = newest;
        }
        Known(known)
    }

    fn before(&self, moment: Moment) -> i64 {
        self.upto(|known| known.order < moment.order)
    }

    fn at_ms(&self, ms: u64) -> i64 {
        self.upto(|known| known.ms < ms)
    }

    fn upto(&self, is_before: impl Fn(&Moment) -> bool) -> i64 {
        let count = self.0.partition_point(|(moment, _)| is_before(moment));
        count.checked_sub(1).map_or(1, |at| self.0[at].1)
    }
}
