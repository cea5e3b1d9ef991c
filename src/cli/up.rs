//! `orrery up`: a whole cluster with regions, certificates and a network between, as processes of
//! this machine. The flags of `aks-engine deploy` are taken, so that its articles' lines work.

pub(crate) mod account;
mod certificates;
mod files;
mod founding;
pub(crate) mod launch;
mod log;
mod model;
pub(crate) mod plan;
pub(crate) mod ports;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, anyhow, ensure};
use clap::Parser;

pub(super) use self::certificates::files as certificate_files;
use self::{launch::Started, log::Log, plan::Plan, ports::Ports};
use super::{
    down,
    output::{self, Output, State},
    snapshot::{Parsed, parse},
};

/// Start a cluster of several regions on this machine.
///
/// Without flags: eastus, westeurope and japaneast, a member in each, with mutual TLS and with the
/// delays between these regions. A second run starts what is not running; `orrery down` ends it.
#[derive(Debug, Parser)]
#[command(name = "orrery up")]
pub(super) struct Arguments {
    /// Regions by their priority, the write region first.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    regions: Vec<String>,

    /// The write region.
    #[arg(long, value_name = "NAME")]
    location: Option<String>,

    /// Members in each region [default: 1; 3 where there is one region].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u8).range(1..))]
    members_per_region: Option<u8>,

    /// A description of a cluster, as aks-engine takes it (JSON).
    #[arg(long, short = 'm', value_name = "FILE")]
    api_model: Option<PathBuf>,

    /// The cluster's name.
    #[arg(long, value_name = "NAME")]
    dns_prefix: Option<String>,

    /// Round trips between regions: {"names": [...], "milliseconds": [[...]]} [default: Azure's].
    #[arg(long, value_name = "FILE")]
    matrix: Option<PathBuf>,

    /// First of the ports on 127.0.0.1; 0 for any [default: the first that are free from 23790 on].
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,

    /// Where everything is put.
    #[arg(
        long,
        short = 'o',
        value_name = "DIR",
        default_value = output::DIRECTORY,
        alias = "output-directory"
    )]
    output: PathBuf,

    /// Of aks-engine; what is there is completed in any case, and data is never overwritten.
    #[arg(long)]
    force_overwrite: bool,

    /// Of aks-engine, without meaning here.
    #[arg(long, value_name = "ID")]
    subscription_id: Option<String>,

    /// Of aks-engine, without meaning here.
    #[arg(long, value_name = "ID")]
    client_id: Option<String>,

    /// Of aks-engine, without meaning here.
    #[arg(long, value_name = "SECRET")]
    client_secret: Option<String>,

    /// Of aks-engine, without meaning here.
    #[arg(long, value_name = "NAME")]
    resource_group: Option<String>,
}

impl Arguments {
    /// Flags that were given and mean nothing.
    fn meaningless(&self) -> impl Iterator<Item = &'static str> {
        let flags = [
            ("--subscription-id", &self.subscription_id),
            ("--client-id", &self.client_id),
            ("--client-secret", &self.client_secret),
            ("--resource-group", &self.resource_group),
        ];
        flags.into_iter().filter(|(_, given)| given.is_some()).map(|(flag, _)| flag)
    }

    /// Whether nothing is said of the cluster, so that any will do.
    fn describe_nothing(&self) -> bool {
        let texts = [&self.location, &self.dns_prefix];
        let files = [&self.api_model, &self.matrix];
        self.regions.is_empty()
            && self.members_per_region.is_none()
            && texts.into_iter().all(Option::is_none)
            && files.into_iter().all(Option::is_none)
    }
}

/// `arguments` begin with the word `up`.
pub(super) fn run(arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let arguments: Arguments = match parse(arguments).map_err(|it| anyhow!("up: {}", it.message))? {
        Parsed::Print(text) => return super::print(&text),
        Parsed::Run(arguments) => arguments,
    };
    let log = Log::start();
    let output = Output::new(&arguments.output).context("up")?;
    let state = up(&arguments, &output, &log).context("up")?;
    super::print(&next_steps(&arguments.output, &state))
}

fn up(arguments: &Arguments, output: &Output, log: &Log) -> anyhow::Result<State> {
    let found = output.state()?;
    let (plan, model) = match &found {
        Some(state) if arguments.describe_nothing() => (state.plan.clone(), model::Model::empty()),
        Some(_) | None => Plan::make(arguments, log)?,
    };
    let is_new = found.is_none();
    let state = match found {
        Some(state) => {
            keeps(arguments, &state, &plan, output)?;
            state
        }
        None => {
            let deployment =
                format!("{}-{}", plan.cluster, rand::random_range(100_000_000..u32::MAX));
            let ports = Ports::choose(&plan, arguments.port)?;
            State::new(deployment, plan, ports)
        }
    };
    let existed = output.dir().exists();
    fs::create_dir_all(output.dir()).with_context(|| output.dir().display().to_string())?;
    let _lock = output.lock()?;
    ensure!(
        !is_new || !output.path(output::STATE).exists(),
        "another orrery up has just been at work in {}",
        output.dir().display()
    );
    let made = make(output, &state, is_new.then_some(&model), log);
    if made.is_err() && is_new {
        // Nothing is left of a cluster that has never been.
        let _ = down::remove(output, &state);
        if !existed {
            let _ = fs::remove_dir(output.dir());
        }
    }
    made.map(|()| state)
}

/// A cluster that is there stays what it is.
fn keeps(arguments: &Arguments, state: &State, plan: &Plan, output: &Output) -> anyhow::Result<()> {
    ensure!(
        state.plan == *plan,
        "{} has another cluster ({}: {}); orrery down first, or choose another --output",
        output.dir().display(),
        state.plan.cluster,
        state.plan.regions().join(", ")
    );
    let first = state.ports.members.first().map(|ports| ports.client);
    ensure!(
        arguments.port.is_none_or(|port| port == 0 || Some(port) == first),
        "the cluster in {} has its ports already, and keeps them: leave --port out",
        output.dir().display()
    );
    Ok(())
}

fn make(
    output: &Output,
    state: &State,
    model: Option<&model::Model>,
    log: &Log,
) -> anyhow::Result<()> {
    certificates::make(output.dir(), &state.plan)?;
    files::write(output, state, model)?;
    let mut started = Started::default();
    let outcome = start(output, state, &mut started, log);
    if outcome.is_err() {
        started.stop();
    }
    outcome
}

fn start(output: &Output, state: &State, started: &mut Started, log: &Log) -> anyhow::Result<()> {
    started.find(output, state)?;
    let name = &state.deployment;
    log.info(&format!("Starting deployment ({name}). This will take some time..."));
    if started.missing() < state.processes().count() {
        let there = state.processes().count() - started.missing();
        log.info(&format!("{there} of {} processes run already", state.processes().count()));
    }
    started.start(output, state)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (took, account) = runtime.block_on(async {
        let took = started.wait(output, state).await?;
        anyhow::Ok((took, founding::found(output, state).await?))
    })?;
    let took = took.iter().map(|(region, took)| format!("{region} in {} ms", took.as_millis()));
    let took = took.collect::<Vec<_>>().join(", ");
    log.info(&format!("A write through every region works: {took}"));
    if account == founding::Account::Founded {
        log.info(&format!("The write region is {}", state.plan.regions().join(", then ")));
    }
    log.info(&format!("Finished deployment ({name}). Succeeded"));
    Ok(())
}

fn next_steps(output: &Path, state: &State) -> String {
    let dir = output.display();
    let mut text = String::from("\nREGION           PRIORITY  MEMBER             ENDPOINT\n");
    for location in &state.plan.account.locations {
        let region = &location.location_name;
        for endpoint in state.endpoints(region).iter().filter(|it| it.member_region == *region) {
            let priority = location.failover_priority;
            let (member, url) = (&endpoint.member, &endpoint.url);
            text.push_str(&format!("{region:<16} {priority:<9} {member:<18} {url}\n"));
        }
    }
    let first = state.plan.account.locations.first();
    let endpoints = first.map(|first| state.endpoints(&first.location_name)).unwrap_or_default();
    let url = endpoints.first().map(|endpoint| endpoint.url.as_str()).unwrap_or_default();
    let at = match output == Path::new(output::DIRECTORY) {
        true => String::new(),
        false => format!(" --output {dir}"),
    };
    text.push_str(&format!(
        "\nMembers of one region from another, with the delay between: {dir}/{endpoints}\n\
         \nNext steps:\n  \
           . {dir}/{environment}\n  \
           etcdctl --cert={dir}/etcdclient.crt --key={dir}/etcdclient.key --endpoints={url} \
           put /registry/greeting hello\n  \
           orrery verify{at}\n  \
           orrery down{at}\n",
        endpoints = output::ENDPOINTS,
        environment = output::ENVIRONMENT,
    ));
    text
}
