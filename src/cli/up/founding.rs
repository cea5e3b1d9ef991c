//! Telling a new cluster its account: which regions there are, and in which order they lead.

use anyhow::{Context, anyhow};
use tonic::transport::Channel;

use crate::{
    cli::output::{Output, State},
    proto::region::{
        Location, RegionsConfigureRequest, RegionsShowRequest, regions_client::RegionsClient,
    },
};

/// How the cluster's own account stands to the plan's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Account {
    Founded,
    /// There was one: what has been changed since stays.
    Kept,
}

/// Tells it through the first region that takes it.
///
/// # Errors
/// None did; the last one's reason is told.
pub(super) async fn found(output: &Output, state: &State) -> anyhow::Result<Account> {
    let mut outcome = Err(anyhow!("there are no regions"));
    for region in state.plan.regions() {
        let endpoints = state.endpoints(&region);
        let Some(endpoint) = endpoints.first() else { continue };
        outcome = match output.connect(&endpoint.url).await {
            Ok(channel) => found_at(channel, state).await,
            Err(error) => Err(error),
        };
        if outcome.is_ok() {
            break;
        }
    }
    outcome.context("cannot tell the cluster its account")
}

async fn found_at(channel: Channel, state: &State) -> anyhow::Result<Account> {
    let mut client = RegionsClient::new(channel);
    let shown = client.show(RegionsShowRequest {}).await?.into_inner();
    if shown.account.is_some() {
        return Ok(Account::Kept);
    }
    let account = &state.plan.account;
    let locations = account.locations.iter().map(|location| {
        Ok(Location {
            location_name: location.location_name.clone(),
            failover_priority: u32::try_from(location.failover_priority)?,
            offline: false,
        })
    });
    let request = RegionsConfigureRequest {
        locations: locations.collect::<Result<_, std::num::TryFromIntError>>()?,
        enable_automatic_failover: Some(account.enable_automatic_failover),
        failback: None,
    };
    client.configure(request).await?;
    Ok(Account::Founded)
}
