//! In place of modules that know of the whole server, as little of them as the gate needs.

/// The longest time to live, which the check of a request compares with.
pub(crate) mod lease {
    use std::time::Duration;

    pub(crate) const TTL_MAX: Duration = Duration::from_secs(9_000_000_000);
}

/// Who asks, and that nobody is refused for it.
pub(crate) mod node {
    use std::sync::Arc;

    /// There is none.
    #[derive(Debug)]
    pub(crate) enum Error {}

    #[derive(Clone, Debug, Default, PartialEq, Eq)]
    pub(crate) struct Who {
        pub(crate) token: Option<String>,
        pub(crate) common_name: Option<Arc<str>>,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Standing {
        Anybody,
        User,
        Root,
    }
}

/// Answers are encoded where they are.
pub(crate) mod aside {
    pub(crate) fn encoded(response: axum::response::Response) -> axum::response::Response {
        response
    }
}

/// Counters without a registry.
pub(crate) mod metrics {
    use std::time::Instant;

    use http::HeaderValue;
    use prometheus_client::metrics::counter::Counter;
    use tonic::Code;

    #[derive(Clone, Default)]
    pub(crate) struct Metrics {
        pub(crate) received_bytes: Counter,
        pub(crate) sent_bytes: Counter,
        pub(crate) clients: Clients,
        method: MethodCounters,
    }

    #[derive(Clone, Default)]
    pub(crate) struct Clients;

    impl Clients {
        pub(crate) fn count(&self, _: Option<&HeaderValue>, _: bool) {}
    }

    #[derive(Clone, Default)]
    pub(crate) struct MethodCounters {
        pub(crate) started: Counter,
        pub(crate) messages_received: Counter,
        pub(crate) messages_sent: Counter,
        handled: Counter,
    }

    impl Metrics {
        pub(crate) fn method(&self, _: usize) -> &MethodCounters {
            &self.method
        }
    }

    impl MethodCounters {
        pub(crate) fn handled(&self, _: Code) -> &Counter {
            &self.handled
        }

        pub(crate) fn begin(&self) -> Option<Instant> {
            None
        }

        pub(crate) fn end(&self, _: Option<Instant>) {}
    }
}

/// Refusals as statuses, without etcd's codes and texts.
pub(crate) mod status {
    use tonic::{Code, Status};

    use crate::{
        grpc::{gate::Refusal, validate::Invalid},
        node,
    };

    impl From<Invalid> for Status {
        fn from(invalid: Invalid) -> Status {
            Status::new(Code::InvalidArgument, format!("{invalid:?}"))
        }
    }

    impl From<Refusal> for Status {
        fn from(refusal: Refusal) -> Status {
            Status::new(Code::ResourceExhausted, format!("{refusal:?}"))
        }
    }

    impl From<node::Error> for Status {
        fn from(never: node::Error) -> Status {
            match never {}
        }
    }

    pub(crate) fn of_body(error: axum::Error) -> Status {
        Status::from_error(error.into_inner())
    }
}

/// Nothing is told of calls.
pub(crate) mod stats {
    use std::{net::SocketAddr, time::Duration};

    use axum::http::Extensions;

    pub(crate) const KV: &str = "etcdserverpb.KV";

    pub(crate) struct Call;

    impl Call {
        pub(crate) fn start(_: (&'static str, &'static str), _: Option<SocketAddr>) -> Call {
            Call
        }

        pub(crate) fn end(self, _: Duration) {}
    }

    pub(crate) fn remote(_: &Extensions) -> Option<SocketAddr> {
        None
    }
}
