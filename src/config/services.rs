//! Settings of what a member does besides storing keys: checks, traces.

use std::time::Duration;

use super::{Error, raw::RawConfig};

const SAMPLING_RATE_MAX: i64 = 1_000_000;

/// When members compare what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorruptionChecks {
    pub at_start: bool,
    pub period: Option<Duration>,
    /// Of the hashes that compactions leave.
    pub compaction_period: Option<Duration>,
}

pub(crate) fn corruption_checks(raw: &RawConfig) -> Result<CorruptionChecks, Error> {
    let features = raw.features();
    let period = raw.duration("corrupt-check-time");
    let compaction_period = raw.duration("compact-hash-check-time");
    if compaction_period.is_zero() {
        return Err(Error::ZeroHashCheckTime);
    }
    Ok(CorruptionChecks {
        at_start: features.initial_corrupt_check,
        period: (!period.is_zero()).then_some(period),
        compaction_period: features.compact_hash_check.then_some(compaction_period),
    })
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracing {
    /// Host and port of the collector.
    pub address: String,
    pub service_name: String,
    pub instance_id: Option<String>,
    /// Of a million traces, how many are sent.
    pub sampling_rate: u32,
}

pub(crate) fn tracing(raw: &RawConfig) -> Result<Option<Tracing>, Error> {
    if !raw.bool("enable-distributed-tracing") {
        return Ok(None);
    }
    let sampling_rate = match raw.number("distributed-tracing-sampling-rate") {
        ..0 => return Err(Error::Tracing("tracing sampling rate must be positive")),
        rate if rate > SAMPLING_RATE_MAX => {
            return Err(Error::Tracing("tracing sampling rate must be less than 1000000"));
        }
        rate => u32::try_from(rate).unwrap_or_default(),
    };
    let id = raw.text("distributed-tracing-instance-id");
    Ok(Some(Tracing {
        address: raw.text("distributed-tracing-address").to_owned(),
        service_name: raw.text("distributed-tracing-service-name").to_owned(),
        instance_id: Some(id).filter(|id| !id.is_empty()).map(str::to_owned),
        sampling_rate,
    }))
}
