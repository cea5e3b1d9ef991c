//! What each kind of listener serves to clients.

use std::sync::Arc;

use axum::{Extension, Router};

use crate::{
    config::{Config, Url},
    grpc::{self, ListenerDefault},
    http::{self, Access, Allowed, Debug, Front},
    node::Node,
    telemetry::Level,
};

/// Which flag a listener comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// `--listen-client-urls`: gRPC, and pages unless they have listeners of their own.
    Clients,
    /// `--listen-client-http-urls`.
    Pages,
    /// `--listen-metrics-urls`.
    Metrics,
}

/// All that is served to clients.
pub(super) struct Doors<'a> {
    pub(super) config: &'a Config,
    pub(super) node: &'a Node,
    pub(super) services: Router,
    pub(super) metrics: Arc<http::Metrics>,
    pub(super) limits: grpc::Limits,
}

impl Doors<'_> {
    /// `url` is that of the listener, as its flag has it.
    pub(super) fn front(&self, door: Door, url: &Url, is_secure: bool) -> Front {
        let none = http::no_pages;
        let services = match self.config.consistency.of_listener(url) {
            Some(default) => self.services.clone().layer(Extension(ListenerDefault(default))),
            None => self.services.clone(),
        };
        match door {
            Door::Clients if self.config.http.listen.is_empty() => {
                Front { pages: self.pages(&services, is_secure), grpc: services }
            }
            Door::Clients => Front { grpc: services, pages: none() },
            Door::Pages => Front { grpc: none(), pages: self.pages(&services, is_secure) },
            Door::Metrics => {
                let pages = http::metrics_router(self.node, self.metrics.clone());
                Front { grpc: none(), pages: pages.merge(none()) }
            }
        }
    }

    fn pages(&self, services: &Router, is_secure: bool) -> Router {
        let flags = &self.config.http;
        let access = Access {
            origins: Allowed::of(flags.cors.iter().cloned()),
            hosts: Allowed::of(flags.host_whitelist.iter().cloned()),
        };
        let options = http::Options {
            access: if is_secure { access.with_any_host() } else { access },
            debug: if self.config.log.level == Level::Debug {
                Debug::Everything
            } else if flags.profiles {
                Debug::Profiles
            } else {
                Debug::Off
            },
            gateway_message_bytes_max: flags.gateway.then(|| self.limits.message_bytes_max()),
        };
        http::router(self.node, services, self.metrics.clone(), options)
    }
}
