//! `orrery region`: where the leader is to be, by region, and switching it. Flags of connections
//! and formats are etcdctl's, words are Azure's.

mod show;

#[cfg(test)]
mod tests;

use std::{ffi::OsString, process::ExitCode, time::Duration, time::Instant};

use clap::{Parser, Subcommand, ValueEnum};
use tonic::{Code, Request, Status, transport::Channel};

use super::{
    client::{Connection, duration, interrupted},
    failure::{self, Exit, Failure, failed},
    snapshot::{Parsed, parse},
};
use crate::proto::region::{
    Account, Failback, Location, RegionsConfigureRequest, RegionsFailoverRequest,
    RegionsOfflineRequest, RegionsOnlineRequest, RegionsSetPrioritiesRequest, RegionsShowRequest,
    regions_client::RegionsClient,
};
use show::Format;

/// Say where the leader is to be, and switch it.
#[derive(Debug, Parser)]
#[command(name = "orrery region", disable_help_subcommand = true)]
struct Arguments {
    /// Output format (json, table).
    #[arg(short = 'w', long = "write-out", global = true, default_value = "table")]
    write_out: String,

    #[command(flatten)]
    connection: Connection,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the regions by failover priority, their members, and who leads.
    List,
    /// Give each region of the account its failover priority, as eastus=0,westeurope=1,...
    SetPriorities {
        #[arg(value_name = "REGION=PRIORITY", required = true, value_delimiter = ',')]
        priorities: Vec<String>,
        #[command(flatten)]
        force: Force,
    },
    /// Make a region the write region, without losing anything.
    Failover {
        /// The region that is to lead.
        #[arg(long, value_name = "REGION")]
        to: String,
        #[command(flatten)]
        force: Force,
    },
    /// Take a region out of service: nobody there leads.
    Offline {
        #[arg(value_name = "REGION")]
        region: String,
        #[command(flatten)]
        force: Force,
    },
    /// Put a region back into service, with the lowest priority.
    Online {
        #[arg(value_name = "REGION")]
        region: String,
    },
    /// Take a region in which members stand into the account, with the lowest priority.
    Add {
        #[arg(value_name = "REGION")]
        region: String,
    },
    /// Take a region out of the account; its members stay.
    Remove {
        #[arg(value_name = "REGION")]
        region: String,
    },
    /// Make the account of regions, or change its rules.
    Configure(Configure),
}

#[derive(Debug, clap::Args)]
struct Force {
    /// If nobody leads, since the write region is lost and no other may take over by itself: have
    /// the region that comes next stand for election. Nothing that was acknowledged is lost.
    #[arg(long)]
    force: bool,
}

#[derive(Debug, clap::Args)]
struct Configure {
    /// All regions with their failover priorities, as eastus=0,westeurope=1,...
    #[arg(long, value_name = "REGION=PRIORITY", value_delimiter = ',')]
    locations: Vec<String>,

    /// Whether another region takes over when the write region is lost.
    #[arg(
        long,
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    enable_automatic_failover: Option<bool>,

    /// What happens once a region that was lost is back: nothing, or it leads again.
    #[arg(long, value_name = "manual|automatic")]
    failback: Option<Back>,

    /// How long it must have been healthy before it leads again.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5m")]
    failback_after: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Back {
    Manual,
    Automatic,
}

/// `arguments` begin with the word `region`.
pub(super) fn run(arguments: Vec<OsString>) -> anyhow::Result<ExitCode> {
    failure::end(parse::<Arguments>(arguments).and_then(|parsed| match parsed {
        Parsed::Print(text) => Ok(text),
        Parsed::Run(arguments) => arguments.run(),
    }))
}

impl Arguments {
    /// What is to be printed.
    fn run(self) -> Result<String, Failure> {
        let format = Format::parse(&self.write_out)?;
        let asked = self.command.ask()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let connection = &self.connection;
        runtime.block_on(connection.within_limit(async {
            let channel = connection.dial_any().await?;
            let token = connection.token(channel.clone()).await?;
            let authorized = move |mut request: Request<()>| {
                if let Some(token) = token.clone() {
                    request.metadata_mut().insert("token", token);
                }
                Ok::<_, Status>(request)
            };
            asked.answer(RegionsClient::with_interceptor(channel, authorized), format).await
        }))
    }
}

/// What is asked of a member.
#[derive(Debug, PartialEq)]
enum Ask {
    List,
    SetPriorities(RegionsSetPrioritiesRequest),
    Failover(RegionsFailoverRequest),
    Offline(RegionsOfflineRequest),
    Online(RegionsOnlineRequest),
    Add(String),
    Remove(String),
    Configure(RegionsConfigureRequest),
}

impl Command {
    fn ask(self) -> Result<Ask, Failure> {
        Ok(match self {
            Command::List => Ask::List,
            Command::SetPriorities { priorities, force: Force { force } } => {
                let locations = locations(&priorities)?;
                Ask::SetPriorities(RegionsSetPrioritiesRequest { locations, force })
            }
            Command::Failover { to, force: Force { force } } => {
                Ask::Failover(RegionsFailoverRequest { location_name: to, force })
            }
            Command::Offline { region, force: Force { force } } => {
                Ask::Offline(RegionsOfflineRequest { location_name: region, force })
            }
            Command::Online { region } => {
                Ask::Online(RegionsOnlineRequest { location_name: region })
            }
            Command::Add { region } => Ask::Add(region),
            Command::Remove { region } => Ask::Remove(region),
            Command::Configure(configure) => Ask::Configure(configure.ask()?),
        })
    }
}

impl Configure {
    fn ask(&self) -> Result<RegionsConfigureRequest, Failure> {
        let after_ms = u64::try_from(self.failback_after.as_millis()).map_err(failed)?;
        let failback = self.failback.map(|back| match back {
            Back::Manual => Failback { automatic: false, after_ms: 0 },
            Back::Automatic => Failback { automatic: true, after_ms },
        });
        let locations = locations(&self.locations)?;
        let enable_automatic_failover = self.enable_automatic_failover;
        if locations.is_empty() && enable_automatic_failover.is_none() && failback.is_none() {
            let what = "configure needs --locations, --enable-automatic-failover or --failback";
            return Err(Failure::new(Exit::BadArguments, what));
        }
        Ok(RegionsConfigureRequest { locations, enable_automatic_failover, failback })
    }
}

/// Reads `eastus=0`, `westeurope=1` and so on.
fn locations(words: &[String]) -> Result<Vec<Location>, Failure> {
    let location = |word: &String| {
        let (name, priority) = word.split_once('=')?;
        let failover_priority = priority.parse().ok()?;
        Some(Location { location_name: name.to_owned(), failover_priority, offline: false })
    };
    let read = |word| {
        location(word).ok_or_else(|| {
            let what = format!("{word:?} is no REGION=PRIORITY, such as eastus=0");
            Failure::new(Exit::BadArguments, what)
        })
    };
    words.iter().map(read).collect()
}

impl Ask {
    async fn answer<I>(
        self,
        mut client: RegionsClient<tonic::service::interceptor::InterceptedService<Channel, I>>,
        format: Format,
    ) -> Result<String, Failure>
    where
        I: tonic::service::Interceptor,
    {
        let begun = Instant::now();
        let forced = self.is_forced();
        let changed = match self {
            Ask::List => {
                let shown = client.show(RegionsShowRequest {}).await.map_err(of_status)?;
                return format.list(&shown.into_inner());
            }
            Ask::SetPriorities(request) => client.set_priorities(request).await,
            Ask::Failover(request) => client.failover(request).await,
            Ask::Offline(request) => client.offline(request).await,
            Ask::Online(request) => client.online(request).await,
            Ask::Add(_) | Ask::Remove(_) => {
                let shown = client.show(RegionsShowRequest {}).await.map_err(of_status)?;
                let request = self.with_other_regions(shown.into_inner().account)?;
                client.configure(request).await
            }
            Ask::Configure(request) => client.configure(request).await,
        };
        let changed = changed.map_err(|status| with_hint(status, forced))?;
        let account = changed.into_inner().account.ok_or_else(|| failed("there is no account"))?;
        format.account(&account, begun.elapsed())
    }

    /// All regions that the account is to have.
    fn with_other_regions(
        &self,
        account: Option<Account>,
    ) -> Result<RegionsConfigureRequest, Failure> {
        let none = "there is no account of regions yet; `orrery region configure` makes one";
        let known = account.ok_or_else(|| interrupted(none))?.locations;
        let mut names: Vec<String> = known.into_iter().map(|it| it.location_name).collect();
        match self {
            Ask::Add(name) => names.push(name.clone()),
            Ask::Remove(name) if !names.contains(name) => {
                return Err(interrupted(format!("region {name} is not in the account")));
            }
            Ask::Remove(name) => names.retain(|known| known != name),
            Ask::List
            | Ask::SetPriorities(_)
            | Ask::Failover(_)
            | Ask::Offline(_)
            | Ask::Online(_)
            | Ask::Configure(_) => (),
        }
        if names.is_empty() {
            return Err(interrupted("an account needs a region at least"));
        }
        let location = |(failover_priority, location_name)| Location {
            location_name,
            failover_priority,
            offline: false,
        };
        let locations = (0..).zip(names).map(location).collect();
        Ok(RegionsConfigureRequest { locations, ..RegionsConfigureRequest::default() })
    }

    /// `None` where nothing can be forced.
    fn is_forced(&self) -> Option<bool> {
        match self {
            Ask::SetPriorities(request) => Some(request.force),
            Ask::Failover(request) => Some(request.force),
            Ask::Offline(request) => Some(request.force),
            Ask::List | Ask::Online(_) | Ask::Add(_) | Ask::Remove(_) | Ask::Configure(_) => None,
        }
    }
}

fn with_hint(status: Status, forced: Option<bool>) -> Failure {
    let leaderless = matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded);
    let Failure { exit, message } = of_status(status);
    match forced {
        Some(false) if leaderless => Failure::new(
            exit,
            format!(
                "{message}; if nobody leads because the write region is lost, --force has the next \
                 region stand for election"
            ),
        ),
        Some(_) | None => Failure { exit, message },
    }
}

/// What was refused says so itself.
fn of_status(status: Status) -> Failure {
    interrupted(match status.code() {
        Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition | Code::Aborted => {
            status.message().to_owned()
        }
        _ => return super::client::of_status(status),
    })
}
