//! What a read may lack, as operators and clients say it.

use std::fmt;

use crate::{node::Bound, types::Level};

/// A level, with what bounds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    #[default]
    Strong,
    Bounded(Bound),
    Session,
    Prefix,
    Eventual,
}

impl Consistency {
    pub fn level(self) -> Level {
        match self {
            Consistency::Strong => Level::Strong,
            Consistency::Bounded(_) => Level::Bounded,
            Consistency::Session => Level::Session,
            Consistency::Prefix => Level::Prefix,
            Consistency::Eventual => Level::Eventual,
        }
    }

    /// Whether this promises anything that the other does not.
    pub fn exceeds(self, other: Consistency) -> bool {
        match (self, other) {
            (Consistency::Bounded(one), Consistency::Bounded(other)) => {
                is_tighter(one.time, other.time) || is_tighter(one.revisions, other.revisions)
            }
            (one, other) => one.level() > other.level(),
        }
    }
}

/// Without a bound anything goes.
fn is_tighter<T: PartialOrd>(one: Option<T>, other: Option<T>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one < other,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// As the flags have it.
impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.level().name())?;
        let Consistency::Bounded(Bound { time, revisions }) = self else { return Ok(()) };
        if let Some(time) = time {
            write!(f, ",max-staleness-ms={}", time.as_millis())?;
        }
        if let Some(revisions) = revisions {
            write!(f, ",max-staleness-revisions={revisions}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn bounded(ms: Option<u64>, revisions: Option<u64>) -> Consistency {
        Consistency::Bounded(Bound { time: ms.map(Duration::from_millis), revisions })
    }

    #[test]
    fn a_level_exceeds_all_that_are_weaker() {
        let strongest_first = [
            Consistency::Strong,
            bounded(Some(0), Some(0)),
            Consistency::Session,
            Consistency::Prefix,
            Consistency::Eventual,
        ];
        for (at, one) in strongest_first.iter().enumerate() {
            for (other_at, other) in strongest_first.iter().enumerate() {
                assert_eq!(one.exceeds(*other), at < other_at, "{one} {other}");
            }
        }
    }

    #[test]
    fn a_bound_exceeds_another_one_that_is_wider_in_either_way() {
        for (one, other, expected) in [
            (bounded(Some(5), None), bounded(Some(5), None), false),
            (bounded(Some(4), None), bounded(Some(5), None), true),
            (bounded(Some(6), None), bounded(Some(5), None), false),
            (bounded(Some(6), Some(9)), bounded(Some(5), None), true),
            (bounded(Some(6), None), bounded(Some(5), Some(9)), false),
            (bounded(None, Some(10)), bounded(None, Some(9)), false),
            (bounded(None, Some(8)), bounded(None, Some(9)), true),
        ] {
            assert_eq!(one.exceeds(other), expected, "{one} {other}");
        }
    }
}
