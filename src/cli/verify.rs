//! `orrery verify`: whether a cluster does what the articles of its predecessor tried, and what
//! those had to leave out.

mod checks;
mod kubernetes;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use anyhow::{Context, anyhow};
use clap::{Parser, ValueEnum};
use serde::Serialize;

use self::checks::Connections;
use super::{
    output::{self, Output, State},
    snapshot::{Parsed, parse},
    table::{Column, table},
};

/// Check the cluster that orrery up started.
///
/// Keys without values, a write and a read through every region, lock, lease, watch, and nodes
/// where there is a control plane. The exit status is 1 when a check fails.
#[derive(Debug, Parser)]
#[command(name = "orrery verify")]
struct Arguments {
    /// Where orrery up put everything.
    #[arg(
        long,
        short = 'o',
        value_name = "DIR",
        default_value = output::DIRECTORY,
        alias = "output-directory"
    )]
    output: PathBuf,

    /// Output format.
    #[arg(long, short = 'w', value_enum, default_value_t = Format::Table)]
    write_out: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

/// All that was found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    cluster: String,
    is_healthy: bool,
    /// `null` while there is none.
    leader_region: Option<String>,
    checks: Vec<Check>,
    members: Vec<Standing>,
}

#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    /// Where it was done, if not everywhere.
    region: String,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", content = "detail", rename_all = "lowercase")]
enum Outcome {
    Ok(String),
    Failed(String),
    /// There is nothing to check.
    Skipped(String),
}

/// How a member stands.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Standing {
    region: String,
    member: String,
    is_leader: bool,
    /// `null` for a member that does not answer.
    revision: Option<i64>,
    /// Revisions behind the member that is farthest.
    lag: Option<i64>,
    version: String,
}

impl From<anyhow::Result<String>> for Outcome {
    fn from(result: anyhow::Result<String>) -> Outcome {
        match result {
            Ok(detail) => Outcome::Ok(detail),
            Err(error) => Outcome::Failed(format!("{error:#}").replace('\n', " ")),
        }
    }
}

/// `arguments` begin with the word `verify`.
pub(super) fn run(arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    let arguments: Arguments =
        match parse(arguments).map_err(|it| anyhow!("verify: {}", it.message))? {
            Parsed::Print(text) => return super::print(&text),
            Parsed::Run(arguments) => arguments,
        };
    let output = Output::new(&arguments.output).context("verify")?;
    let state = output.made().context("verify")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(verify(&output, &state));
    let text = match arguments.write_out {
        Format::Json => serde_json::to_string_pretty(&report)? + "\n",
        Format::Table => report.text(&etcdctl(&arguments.output, &state)),
    };
    super::print(&text)?;
    Ok(if report.is_healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn verify(output: &Output, state: &State) -> Report {
    let connections = Connections::open(output, state).await;
    let mut checks = connections.check_all().await;
    checks.extend(kubernetes::check_all(output));
    let members = connections.standings().await;
    let leader = members.iter().find(|standing| standing.is_leader);
    let leader_region = leader.map(|leader| leader.region.clone());
    let is_fine = |check: &Check| !matches!(check.outcome, Outcome::Failed(_));
    let all_answer = members.iter().all(|standing| standing.revision.is_some());
    Report {
        cluster: state.plan.cluster.clone(),
        is_healthy: checks.iter().all(is_fine) && leader_region.is_some() && all_answer,
        leader_region,
        checks,
        members,
    }
}

/// The line of the articles, which Cosmos DB answered with `Unimplemented`.
fn etcdctl(output: &std::path::Path, state: &State) -> String {
    let dir = output.display();
    let first = state.plan.regions().into_iter().next().unwrap_or_default();
    let endpoints = state.endpoints(&first);
    let url = endpoints.first().map(|endpoint| endpoint.url.as_str()).unwrap_or_default();
    format!(
        "etcdctl --cacert={dir}/ca.crt --cert={dir}/etcdclient.crt --key={dir}/etcdclient.key \
         --endpoints={url} get /registry --prefix --keys-only"
    )
}

impl Report {
    fn text(&self, etcdctl: &str) -> String {
        let checks = self.checks.iter().map(|check| {
            let (outcome, detail) = match &check.outcome {
                Outcome::Ok(detail) => ("ok", detail),
                Outcome::Failed(detail) => ("FAILED", detail),
                Outcome::Skipped(detail) => ("skipped", detail),
            };
            [check.check.to_owned(), check.region.clone(), outcome.to_owned(), detail.clone()]
        });
        let number = |number: Option<i64>| number.map_or("-".to_owned(), |it| it.to_string());
        let members = self.members.iter().map(|standing| {
            let role = if standing.is_leader { "leader" } else { "" };
            let revision = match standing.revision {
                None => "no answer".to_owned(),
                revision => number(revision),
            };
            let (region, member) = (standing.region.clone(), standing.member.clone());
            [region, member, role.to_owned(), revision, number(standing.lag)]
        });
        let headings = ["CHECK", "REGION", "RESULT", "DETAIL"].map(Column::left);
        let standings = [
            Column::left("REGION"),
            Column::left("MEMBER"),
            Column::left("ROLE"),
            Column::right("REVISION"),
            Column::right("LAG"),
        ];
        let leader = match &self.leader_region {
            Some(region) => format!("The leader is in {region}."),
            None => "There is no leader.".to_owned(),
        };
        let failed = self.checks.iter().filter(|it| matches!(it.outcome, Outcome::Failed(_)));
        let verdict = match (self.is_healthy, failed.count()) {
            (true, _) => "All is well.".to_owned(),
            (false, 0) => "Not all members answer.".to_owned(),
            (false, 1) => "1 check failed.".to_owned(),
            (false, failed) => format!("{failed} checks failed."),
        };
        format!(
            "Keys without their values, as etcdctl asks for them:\n  {etcdctl}\n\n{}\n{}\n{leader} \
             {verdict}\n",
            table(headings, checks),
            table(standings, members)
        )
    }
}
