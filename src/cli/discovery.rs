//! Learning who founds the cluster, for a member whose flags do not list them all.

mod dial;
mod found;
mod registry;
mod srv;

use anyhow::Context;
use hickory_resolver::TokioResolver;
use tracing::{info, warn};

use crate::{
    cluster::ids,
    config::{Config, Discovery, Domain, Founding, Registry},
};
use registry::Meeting;

/// Completes the founding members of a member without data. May wait for the others, as long as
/// they take.
pub(super) async fn complete(config: &mut Config) -> anyhow::Result<()> {
    let founding = match &config.discovery {
        Discovery::None => return Ok(()),
        Discovery::Srv(domain) => {
            let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build());
            of_domain(
                &resolver.context("cannot read the settings of the resolver")?,
                domain,
                config,
            )
            .await?
        }
        Discovery::Registry(registry) => of_registry(registry, config).await?,
    };
    founding.check(&config.name, &config.peers.advertise)?;
    config.founding = founding;
    Ok(())
}

/// Said by a member that has data, and so knows its cluster.
pub(super) fn ignore(config: &Config) {
    if let Discovery::Registry(_) = config.discovery {
        warn!("discovery token is ignored since cluster already initialized; valid logs are found");
    }
}

async fn of_domain(
    resolver: &TokioResolver,
    domain: &Domain,
    config: &Config,
) -> anyhow::Result<Founding> {
    let found = srv::members(resolver, domain, &config.name, &config.peers.advertise).await?;
    for member in &found {
        info!(node = member, "got bootstrap from DNS for etcd-server");
    }
    let Founding { state, token, .. } = config.founding.clone();
    let founding = Founding::parse(&found.join(","), state, token)?;
    if !founding.members.iter().any(|(name, _)| *name == config.name) {
        anyhow::bail!("cannot find local etcd member {:?} in SRV records", config.name);
    }
    Ok(founding)
}

async fn of_registry(registry: &Registry, config: &Config) -> anyhow::Result<Founding> {
    info!("Bootstrapping cluster using v3 discovery.");
    let own = &config.founding;
    let urls = own.members.iter().flat_map(|(_, urls)| urls).map(ToString::to_string);
    let id = ids::member_id(&urls.collect::<Vec<_>>(), &own.token, None);
    let joined = async { Meeting::new(registry, id, own.to_string())?.join().await }.await;
    let found =
        joined.map_err(|error| anyhow::anyhow!("failed to join discovery cluster ({error})"))?;
    let (state, token) = (own.state, own.token.clone());
    Founding::parse(&found, state, token).map_err(|_| {
        anyhow::anyhow!("failed to join discovery cluster (discovery: invalid peer URL)")
    })
}
