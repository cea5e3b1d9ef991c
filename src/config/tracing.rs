//! `--enable-distributed-tracing` and what goes with it.

use super::{Error, raw::RawConfig};

const SAMPLING_RATE_MAX: i64 = 1_000_000;

/// Where traces go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracing {
    /// Host and port of the collector.
    pub address: String,
    pub service_name: String,
    pub instance_id: Option<String>,
    /// Of a million traces, how many are sent.
    pub sampling_rate: u32,
}

/// `None` without tracing; what the other flags say is not looked at then, as in etcd.
pub(super) fn check(raw: &RawConfig) -> Result<Option<Tracing>, Error> {
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
