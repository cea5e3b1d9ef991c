//! What `up` writes beside certificates and data.

use serde::Serialize;

use super::model::Model;
use crate::cli::{
    output::{
        API_MODEL, CONTROL, ENDPOINTS, ENVIRONMENT, Endpoint, Output, STATE, State, TOPOLOGY,
    },
    wan::topology::{Region, Relay, Seat, Topology},
};

/// The name that an account in Cosmos DB would have had.
const ACCOUNT_SUFFIX: &str = "k8s";

/// `endpoints.json`: where whoever is in a region connects.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Endpoints<'a> {
    cluster: &'a str,
    account: String,
    control: &'a str,
    regions: Vec<RegionEndpoints<'a>>,
    members: Vec<MemberEndpoints<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RegionEndpoints<'a> {
    region: &'a str,
    failover_priority: u64,
    /// An HTTP proxy that knows `NAME.REGION.CLUSTER.test`.
    proxy: String,
    endpoints: Vec<Endpoint>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MemberEndpoints<'a> {
    member: &'a str,
    region: &'a str,
    zone: &'a str,
    client: String,
    peer: String,
}

/// The state comes first: what has it was made by `up`. A model makes `apimodel.json`, which the
/// cluster then keeps.
pub(super) fn write(output: &Output, state: &State, model: Option<&Model>) -> anyhow::Result<()> {
    output.write_json(STATE, state)?;
    output.write_json(TOPOLOGY, &topology(state))?;
    output.write_json(ENDPOINTS, &endpoints(state))?;
    output.write(ENVIRONMENT, &environment(output))?;
    if let Some(model) = model {
        let plan = &state.plan;
        output.write_json(API_MODEL, &model.filled_in(&plan.cluster, &plan.account))?;
    }
    Ok(())
}

fn topology(state: &State) -> Topology {
    let State { plan, ports, .. } = state;
    let local = |port: u16| ([127, 0, 0, 1], port).into();
    let regions = plan.regions().into_iter().zip(&ports.proxies);
    let port_of = |member: &str| {
        let at = plan.members.iter().position(|seat| seat.name == member);
        at.map(|at| ports.members[at].client)
    };
    let relays = ports.relays.iter().filter_map(|relay| {
        let (region, member) = (relay.region.clone(), relay.member.clone());
        Some(Relay { region, port: port_of(&member)?, member, listen: local(relay.port) })
    });
    let seat = |seat: &super::plan::Seat| Seat {
        name: seat.name.clone(),
        region: seat.region.clone(),
        zone: seat.zone.clone(),
        host: "127.0.0.1".to_owned(),
    };
    Topology {
        cluster: plan.cluster.clone(),
        control: CONTROL.into(),
        regions: regions.map(|(name, port)| Region { name, proxy: local(*port) }).collect(),
        members: plan.members.iter().map(seat).collect(),
        relays: relays.collect(),
        matrix: plan.matrix.clone(),
    }
}

fn endpoints(state: &State) -> Endpoints<'_> {
    let State { plan, ports, .. } = state;
    let regions = plan.account.locations.iter().zip(&ports.proxies).map(|(location, proxy)| {
        let region = location.location_name.as_str();
        RegionEndpoints {
            region,
            failover_priority: location.failover_priority,
            proxy: format!("http://127.0.0.1:{proxy}"),
            endpoints: state.endpoints(region),
        }
    });
    let members = plan.members.iter().zip(&ports.members).map(|(seat, ports)| MemberEndpoints {
        member: &seat.name,
        region: &seat.region,
        zone: &seat.zone,
        client: format!("https://127.0.0.1:{}", ports.client),
        peer: format!("https://{}:{}", seat.host(&plan.cluster), ports.peer),
    });
    Endpoints {
        cluster: &plan.cluster,
        account: format!("{}{ACCOUNT_SUFFIX}", plan.cluster),
        control: CONTROL,
        regions: regions.collect(),
        members: members.collect(),
    }
}

/// What the articles' lines of etcdctl leave out. Nothing else: etcdctl refuses a variable beside
/// its flag.
fn environment(output: &Output) -> String {
    let authority = output.path("ca.crt").display().to_string();
    format!(
        "# What etcdctl needs beside --cert, --key and --endpoints.\n\
         export ETCDCTL_CACERT={}\n",
        quoted(&authority)
    )
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_one_word_to_a_shell() {
        assert_eq!(quoted("/a b/c"), "'/a b/c'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
