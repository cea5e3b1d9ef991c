//! Starting what is not running, and waiting until it serves.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use futures::future::try_join_all;
use serde_json::Value;
use tokio::time::{sleep, timeout};
use tonic::Code;

use super::{certificates, plan::Plan};
use crate::{
    cli::{
        detached,
        output::{self, Output, State, TOPOLOGY},
        wan::control::{self, Request},
    },
    proto::etcdserverpb::{DeleteRangeRequest, PutRequest, kv_client::KvClient},
};

/// How long a start may take in all: elections between the farthest regions, on a machine with much
/// else to do.
const START_TIMEOUT: Duration = Duration::from_secs(90);

/// A write between the farthest regions takes half a second.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two attempts, and between two looks whether processes still run.
const PAUSE: Duration = Duration::from_millis(50);

/// How long processes of a start that failed may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Of the log of a process that ended, how much is looked at.
const LOG_TAIL_BYTES: usize = 16 << 10;

/// What one run of `up` starts.
#[derive(Default)]
pub(crate) struct Started {
    missing: Vec<String>,
    children: Vec<(String, Child)>,
}

impl Started {
    /// Looks who runs already. Those who do not must be able to have their ports.
    pub(crate) fn find(&mut self, output: &Output, state: &State) -> anyhow::Result<()> {
        for (at, name) in state.processes().enumerate() {
            if output.running(name)?.is_none() {
                // The network is the first.
                state.ports.check(&state.plan, at.checked_sub(1))?;
                self.missing.push(name.to_owned());
            }
        }
        Ok(())
    }

    pub(crate) fn missing(&self) -> usize {
        self.missing.len()
    }

    pub(crate) fn start(&mut self, output: &Output, state: &State) -> anyhow::Result<()> {
        for dir in [output::LOGS, output::RUNNING, output::DATA] {
            let dir = output.path(dir);
            fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        }
        for name in std::mem::take(&mut self.missing) {
            let member = state.plan.members.iter().position(|seat| seat.name == name);
            let arguments = match member {
                Some(at) => member_arguments(output, state, at),
                None => network_arguments(output),
            };
            let child = spawn(output, state, &name, arguments);
            self.children.push((name.clone(), child.context(name)?));
        }
        Ok(())
    }

    /// Waits until a write through every region works; returns how long each then takes.
    pub(crate) async fn wait(
        &mut self,
        output: &Output,
        state: &State,
    ) -> anyhow::Result<Vec<(String, Duration)>> {
        let ready = async {
            network_listens(output).await;
            let regions = state.plan.regions().into_iter();
            try_join_all(regions.map(|region| written(output, state, region))).await
        };
        tokio::select! {
            ready = timeout(START_TIMEOUT, ready) => match ready {
                Ok(ready) => ready,
                Err(_) => bail!(
                    "no write through every region within {START_TIMEOUT:?}; the logs are in {}",
                    output.path(output::LOGS).display()
                ),
            },
            ended = one_ends(&mut self.children) => {
                let (name, status) = ended?;
                bail!("{name} ended at its start ({status}): {}", last_words(&output.log(&name)))
            }
        }
    }

    /// Stops what this run has started, and nothing else.
    pub(crate) fn stop(&mut self) {
        for (_, child) in &self.children {
            let pid = nix::unistd::Pid::from_raw(child.id() as i32);
            // Not waited for yet, so the number is still this child's.
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        }
        let deadline = Instant::now() + STOP_TIMEOUT;
        for (_, child) in &mut self.children {
            while Instant::now() < deadline && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(PAUSE);
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn(
    output: &Output,
    state: &State,
    name: &str,
    arguments: Vec<OsString>,
) -> anyhow::Result<Child> {
    let path = output.log(name);
    let about = || path.display().to_string();
    let log: File = OpenOptions::new().create(true).append(true).open(&path).with_context(about)?;
    // The old one is another process's.
    let record = output.record(name);
    let _ = fs::remove_file(&record);
    let mut command = detached::command(&record, arguments)?;
    if let Some(proxy) = proxy(state, name) {
        command.env("HTTPS_PROXY", proxy);
    }
    command.stdout(Stdio::from(log.try_clone()?)).stderr(Stdio::from(log));
    // The socket of faults has a short name from here.
    command.current_dir(output.dir());
    Ok(command.spawn()?)
}

/// How a member reaches the others: as itself, through its region's proxy.
fn proxy(state: &State, name: &str) -> Option<String> {
    let seat = state.plan.members.iter().find(|seat| seat.name == name)?;
    let at = state.plan.regions().iter().position(|region| *region == seat.region)?;
    Some(format!("http://{name}@127.0.0.1:{}", state.ports.proxies[at]))
}

fn network_arguments(output: &Output) -> Vec<OsString> {
    vec!["wan".into(), "--topology".into(), output.path(TOPOLOGY).into()]
}

fn member_arguments(output: &Output, state: &State, at: usize) -> Vec<OsString> {
    let Plan { cluster, members, .. } = &state.plan;
    let (seat, ports) = (&members[at], &state.ports.members[at]);
    let all = members.iter().zip(&state.ports.members);
    let url = |host: &str, port: u16| format!("https://{host}:{port}");
    let founders =
        all.map(|(seat, ports)| format!("{}={}", seat.name, url(&seat.host(cluster), ports.peer)));
    let founders = founders.collect::<Vec<_>>().join(",");
    let (heartbeat, election) = state.plan.timing();
    let peer = certificates::peer(at);
    let file = |name: String| output.path(&name).into_os_string();
    let own_data = output.path(output::DATA).join(&seat.name);
    let client = url("127.0.0.1", ports.client);
    let flags: [(&str, OsString); 21] = [
        ("--name", seat.name.clone().into()),
        ("--region", seat.region.clone().into()),
        ("--zone", seat.zone.clone().into()),
        ("--data-dir", own_data.into()),
        ("--listen-client-urls", client.clone().into()),
        ("--advertise-client-urls", client.into()),
        ("--listen-peer-urls", url("127.0.0.1", ports.peer).into()),
        ("--initial-advertise-peer-urls", url(&seat.host(cluster), ports.peer).into()),
        ("--initial-cluster", founders.into()),
        ("--initial-cluster-token", state.deployment.clone().into()),
        ("--heartbeat-interval", heartbeat.as_millis().to_string().into()),
        ("--election-timeout", election.as_millis().to_string().into()),
        ("--cert-file", file("etcdserver.crt".to_owned())),
        ("--key-file", file("etcdserver.key".to_owned())),
        ("--trusted-ca-file", file("ca.crt".to_owned())),
        ("--client-cert-auth", "true".into()),
        ("--peer-cert-file", file(format!("{peer}.crt"))),
        ("--peer-key-file", file(format!("{peer}.key"))),
        ("--peer-trusted-ca-file", file("ca.crt".to_owned())),
        ("--peer-client-cert-auth", "true".into()),
        ("--log-outputs", "stderr".into()),
    ];
    let joined = flags.into_iter().map(|(flag, value)| {
        let mut argument = OsString::from(flag);
        argument.push("=");
        argument.push(value);
        argument
    });
    let default = state.plan.account.consistency_policy.flag();
    joined.chain(default.map(OsString::from)).collect()
}

/// Returns when the socket answers.
async fn network_listens(output: &Output) {
    let socket = output.path(output::CONTROL);
    while control::ask(&socket, &Request::Show {}).await.is_err() {
        sleep(PAUSE).await;
    }
}

/// Writes through a region's own members until one takes it; what is written is deleted again.
async fn written(
    output: &Output,
    state: &State,
    region: String,
) -> anyhow::Result<(String, Duration)> {
    let endpoints = state.endpoints(&region);
    let own = endpoints.iter().filter(|endpoint| endpoint.member_region == region);
    let own: Vec<&str> = own.map(|endpoint| endpoint.url.as_str()).collect();
    for url in own.iter().cycle() {
        match timeout(WRITE_TIMEOUT, write(output, url, &region)).await {
            Ok(Ok(took)) => return Ok((region, took)),
            Ok(Err(_)) | Err(_) => sleep(PAUSE).await,
        }
    }
    bail!("{region} has no member")
}

async fn write(output: &Output, url: &str, region: &str) -> anyhow::Result<Duration> {
    let mut client = KvClient::new(output.connect(url).await?);
    let key = format!("orrery/up/{region}").into_bytes();
    let start = Instant::now();
    let put =
        PutRequest { key: key.clone().into(), value: "hello".into(), ..PutRequest::default() };
    if let Err(status) = client.put(put).await {
        return match status.code() {
            // Users have been made since: who may write is theirs to say.
            Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument => {
                Ok(start.elapsed())
            }
            _ => Err(status.into()),
        };
    }
    let took = start.elapsed();
    let delete = DeleteRangeRequest { key: key.into(), ..DeleteRangeRequest::default() };
    client.delete_range(delete).await?;
    Ok(took)
}

/// Returns when one has ended, with how it did.
async fn one_ends(
    children: &mut [(String, Child)],
) -> anyhow::Result<(String, std::process::ExitStatus)> {
    loop {
        for (name, child) in children.iter_mut() {
            if let Some(status) = child.try_wait()? {
                return Ok((name.clone(), status));
            }
        }
        sleep(PAUSE).await;
    }
}

/// What a process said last, as a person would pass it on.
fn last_words(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_TAIL_BYTES)..]);
    let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
    let Ok(value) = serde_json::from_str::<Value>(line) else { return line.to_owned() };
    let said = value["error"].as_str().or(value["msg"].as_str());
    said.unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_of_a_process_are_found_in_its_log() {
        let dir = tempfile::TempDir::new().unwrap();
        let log = dir.path().join("log");
        #[track_caller]
        fn check(log: &Path, text: &str, expected: &str) {
            fs::write(log, text).unwrap();
            assert_eq!(last_words(log), expected);
        }
        assert_eq!(last_words(&log), "it said nothing");
        check(&log, "orrery: wan: port taken\n\n", "orrery: wan: port taken");
        check(&log, "{\"msg\":\"one\"}\n{\"msg\":\"failed\",\"error\":\"no disk\"}\n", "no disk");
        check(&log, "{\"msg\":\"one\"}\n", "one");
    }
}
