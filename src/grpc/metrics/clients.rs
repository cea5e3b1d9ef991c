//! Which versions of the API clients say that they speak.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderValue;
use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

/// Versions that have counters of their own. Whoever sends more is counted under `other`: each
/// version is kept for ever.
const VERSIONS_MAX: usize = 32;

type Labels = Vec<(&'static str, String)>;

/// Calls by the version that their clients name. Clones count together.
#[derive(Clone)]
pub(crate) struct Clients {
    family: Family<Labels, Counter>,
    /// Nearly always one or two, so that looking through them is quicker than any map.
    known: Arc<ArcSwap<Vec<Known>>>,
}

#[derive(Clone)]
struct Known {
    version: Box<[u8]>,
    unary: Counter,
    stream: Counter,
}

impl Clients {
    pub(super) fn register(registry: &mut Registry) -> Clients {
        let family = Family::default();
        registry.register(
            "etcd_server_client_requests",
            "Calls by the API version that clients name",
            family.clone(),
        );
        Clients { family, known: Arc::default() }
    }

    pub(crate) fn count(&self, version: Option<&HeaderValue>, is_stream: bool) {
        let version = version.map_or(&b"unknown"[..], HeaderValue::as_bytes);
        let pick = |known: &Known| {
            let counter = if is_stream { &known.stream } else { &known.unary };
            counter.inc();
        };
        let known = self.known.load();
        match known.iter().find(|known| *known.version == *version) {
            Some(known) => pick(known),
            None if known.len() >= VERSIONS_MAX => pick(&self.known(b"other")),
            None => {
                let new = self.known(version);
                pick(&new);
                // Two that come at once may both be kept: they share their counters.
                self.known.rcu(|known| {
                    let mut known = Vec::clone(known);
                    known.push(new.clone());
                    known
                });
            }
        }
    }

    fn known(&self, version: &[u8]) -> Known {
        let text = String::from_utf8_lossy(version).into_owned();
        let counter = |kind: &str| {
            let labels = vec![("type", kind.to_owned()), ("client_api_version", text.clone())];
            self.family.get_or_create_owned(&labels)
        };
        Known { version: version.into(), unary: counter("unary"), stream: counter("stream") }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;

    use super::*;

    #[test]
    fn calls_are_counted_by_version_and_kind_and_versions_are_bounded() {
        let mut registry = Registry::default();
        let clients = Clients::register(&mut registry);
        clients.count(None, false);
        clients.count(None, true);
        clients.count(None, true);
        for version in 0..100 {
            let version = HeaderValue::try_from(format!("3.{version}")).unwrap();
            clients.count(Some(&version), false);
            clients.count(Some(&version), false);
        }
        let mut page = String::new();
        text::encode(&mut page, &registry).unwrap();
        let name = "etcd_server_client_requests_total";
        for line in [
            r#"{type="unary",client_api_version="unknown"} 1"#,
            r#"{type="stream",client_api_version="unknown"} 2"#,
            r#"{type="unary",client_api_version="3.7"} 2"#,
            r#"{type="unary",client_api_version="other"} 138"#,
        ] {
            assert!(page.lines().any(|it| it == format!("{name}{line}")), "{line}\n{page}");
        }
        assert_eq!(page.lines().filter(|line| line.starts_with(name)).count(), 66);
    }
}
