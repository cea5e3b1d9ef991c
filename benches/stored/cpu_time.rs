//! The processor time of the thread that measures: what else runs on the machine, and RocksDB's own
//! threads, leave it alone.

use std::time::Duration;

use criterion::{
    Criterion,
    measurement::{Measurement, ValueFormatter, WallTime},
};
use nix::time::ClockId;

pub(crate) struct CpuTime;

static WALL_TIME: WallTime = WallTime;

/// A benchmark that measures so.
pub(crate) fn criterion() -> Criterion<CpuTime> {
    Criterion::default().with_measurement(CpuTime)
}

fn now() -> Duration {
    let now = ClockId::CLOCK_THREAD_CPUTIME_ID.now();
    Duration::from(now.expect("every thread has this clock"))
}

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        now()
    }

    fn end(&self, start: Duration) -> Duration {
        now().saturating_sub(start)
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        value.as_nanos() as f64
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WALL_TIME.formatter()
    }
}
