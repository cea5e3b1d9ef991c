//! What reads get that ask for nothing, from the flags.

use crate::{config::Config, grpc, node::Node};

/// Has the member prepare for reads of these defaults.
pub(super) fn defaults(config: &Config, node: &Node) -> grpc::Defaults {
    let flags = &config.consistency;
    for (_, default) in &flags.listeners {
        node.reader.prepare_for(*default);
    }
    grpc::Defaults {
        member: flags.member,
        by_listener: !flags.listeners.is_empty(),
        identities: flags.identities.clone(),
    }
}
