//! One run: a cluster, clients and a nemesis for a while, then everything mended, read and checked.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use orrery::proto::etcdserverpb::WatchCreateRequest;
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    access, admin,
    check::{self, Checked, replay},
    client::{Client, Failed},
    cluster::Cluster,
    history::{History, Kind, MemberIndex, Run},
    nemesis::{Breaker, Nemesis, START_DEADLINE},
    observer::{self, Observer},
    recorder::Recorder,
    server::Server,
    workload::{Shared, Worker, Workload},
    world::World,
};

/// Clients at work at once.
const CLIENTS: usize = 10;

/// After everything is mended, members agree within this, or the run has failed.
const HEAL_DEADLINE: Duration = Duration::from_secs(30);

/// How long clients go on after everything is mended.
const AFTERMATH: Duration = Duration::from_secs(2);

/// Watchers that see everything, each at first at another member.
const RECORDS: usize = 2;

/// Words in a member's log that no run may have.
const PANICS: [&str; 4] = ["panicked at", "\"level\":\"panic\"", "\"level\":\"fatal\"", "SIGSEGV"];

/// How a member says that it refuses to start, as it must when its files are damaged. That it does
/// not run, without that reason, is noticed by itself.
const REFUSED: &str = "\"msg\":\"failed to start\"";

/// Whether a line of a log may not be there.
fn is_bad(line: &str) -> bool {
    PANICS.iter().any(|word| line.contains(word)) && !line.contains(REFUSED)
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub server: Server,
    pub workload: Workload,
    pub nemesis: Nemesis,
    pub seed: u64,
    pub members: usize,
    pub duration: Duration,
    /// A broken build: nothing is synced.
    pub without_syncing: bool,
    pub clock_shim: Option<PathBuf>,
    /// With certificates and users.
    pub secure: bool,
    /// When it is run, in RFC 3339.
    pub began_at: String,
}

/// Carries a plan out below a directory, and gives what everybody saw.
///
/// # Errors The harness could not do what it wanted; nothing is said about the server then.
pub async fn run(plan: &Plan, directory: &Path) -> Result<History> {
    let world = World::make(directory, plan.members)?;
    let mut server = plan.server.clone();
    if plan.secure {
        server.flags.extend(access::secure(directory)?);
        server.version.push_str(", with certificates and users");
    }
    let version = server.version.clone();
    let mut cluster = Cluster::new(world, server, plan.members, plan.clock_shim.clone());
    cluster.without_syncing = plan.without_syncing;
    for at in cluster.all() {
        cluster.start(at)?;
    }
    for at in cluster.all() {
        cluster.ready(at, START_DEADLINE).await.context("the cluster does not start")?;
    }
    let leader = admin::some_leader(&cluster.all(), START_DEADLINE).await?;
    if plan.secure {
        access::enable_authentication(leader).await.context("users")?;
    }

    let (recorder, shared) = (Recorder::new(), Arc::new(Shared::default()));
    recorder.history().run = Run {
        server: format!("{:?}: {}", plan.server.kind, version).to_lowercase(),
        workload: plan.workload.name().to_owned(),
        nemesis: plan.nemesis.name(),
        seed: plan.seed,
        members: plan.members,
        duration: u64::try_from(plan.duration.as_nanos()).unwrap_or(u64::MAX),
        began_at: plan.began_at.clone(),
    };
    let everybody = Everybody::start(plan, &recorder, &shared).await?;
    let mut breaker = Breaker::new(cluster, recorder.clone(), shared.clone(), plan.seed ^ 1);
    let over = CancellationToken::new();
    let clock = over.clone();
    let duration = plan.duration;
    tokio::spawn(async move {
        sleep(duration).await;
        clock.cancel();
    });
    breaker.run(plan.nemesis, &over).await?;
    breaker.heal().await.context("healing")?;
    let mut cluster = breaker.cluster;
    let agreed = agree(&recorder, &mut cluster).await;
    // Clients go on, so that it shows how soon they are served again.
    sleep(AFTERMATH).await;
    everybody.finish(plan, &recorder, &shared, agreed.ok()).await;
    examine(&recorder, &mut cluster);
    drop(cluster);
    let mut history = std::mem::take(&mut *recorder.history());
    note_recoveries(&mut history);
    Ok(history)
}

/// All checkers that say something about this run.
///
/// # Errors It is not a run of a workload that is known here.
pub fn check(history: &History) -> Result<Vec<Checked>> {
    let name = &history.run.workload;
    let workload = Workload::ALL.into_iter().find(|workload| workload.name() == name);
    Ok(check::all(history, workload.with_context(|| format!("no workload is named {name:?}"))?))
}

/// Everybody who sees something.
struct Everybody {
    clients: JoinSet<()>,
    records: JoinSet<()>,
    clients_stop: CancellationToken,
    samples_stop: CancellationToken,
    last: watch::Sender<Option<i64>>,
}

impl Everybody {
    async fn start(plan: &Plan, recorder: &Recorder, shared: &Arc<Shared>) -> Result<Everybody> {
        let (last, last_told) = watch::channel(None);
        let mut records = JoinSet::new();
        for number in 0..RECORDS {
            let observer = Observer {
                name: format!("{}-{number}", replay::RECORD),
                recorder: recorder.clone(),
                shared: shared.clone(),
                member: number % plan.members,
                members: plan.members,
                request: WatchCreateRequest {
                    key: "\0".into(),
                    range_end: "\0".into(),
                    start_revision: 1,
                    progress_notify: true,
                    prev_kv: true,
                    ..Default::default()
                },
                is_record: number == 0,
            };
            records.spawn(observer.run(last_told.clone()));
        }
        let mut first = worker(plan, recorder, shared, 0);
        begin(plan.workload, &mut first).await?;
        let (clients_stop, samples_stop) = (CancellationToken::new(), CancellationToken::new());
        tokio::spawn(observer::sample(recorder.clone(), plan.members, samples_stop.clone()));
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let worker = worker(plan, recorder, shared, number);
            clients.spawn(work(plan.workload, worker, clients_stop.clone()));
        }
        Ok(Everybody { clients, records, clients_stop, samples_stop, last })
    }

    /// Clients stop after their last operation; what must be read at the end is read; the records
    /// wait until they have seen everything.
    async fn finish(
        mut self,
        plan: &Plan,
        recorder: &Recorder,
        shared: &Arc<Shared>,
        agreed: Option<i64>,
    ) {
        self.clients_stop.cancel();
        while self.clients.join_next().await.is_some() {}
        let mut last = worker(plan, recorder, shared, CLIENTS);
        if agreed.is_none() {
            // A cluster that never came back is told by the checkers, and has no more to tell.
            self.samples_stop.cancel();
            return;
        }
        // Who asks for what must be read sees that it was not.
        let _ = plan.workload.end(&mut last).await;
        let members: Vec<MemberIndex> = (0..plan.members).collect();
        let revision = admin::revision(members[0]).await.ok().or(agreed);
        self.last.send_replace(revision);
        let all = async { while self.records.join_next().await.is_some() {} };
        let _ = timeout(HEAL_DEADLINE, all).await;
        self.samples_stop.cancel();
        if let Some(revision) = revision {
            hash(recorder, &members, revision).await;
        }
    }
}

fn worker(plan: &Plan, recorder: &Recorder, shared: &Arc<Shared>, number: usize) -> Worker {
    let seed = plan.seed.wrapping_mul(1_000).wrapping_add(number as u64);
    Worker {
        number,
        members: plan.members,
        client: Client::new(recorder.clone(), number % plan.members),
        random: StdRng::seed_from_u64(seed),
        shared: shared.clone(),
    }
}

async fn begin(workload: Workload, worker: &mut Worker) -> Result<()> {
    let begin = Instant::now();
    loop {
        match workload.begin(worker).await {
            Ok(()) => return Ok(()),
            // What it writes first is the same each time.
            Err(Failed::Surely(_)) if begin.elapsed() < START_DEADLINE => {
                sleep(Duration::from_millis(100)).await;
            }
            Err(failed) => bail!("the workload can't begin: {:?}", failed.failure()),
        }
    }
}

async fn work(workload: Workload, mut worker: Worker, stop: CancellationToken) {
    while !stop.is_cancelled() {
        workload.step(&mut worker).await;
        stop.run_until_cancelled(sleep(workload.pause())).await;
    }
}

/// Waits until every member answers a linearizable read. Gives the newest revision.
async fn agree(recorder: &Recorder, cluster: &mut Cluster) -> Result<i64> {
    let began = recorder.now();
    let begin = Instant::now();
    let mut newest = 0;
    for at in cluster.all() {
        loop {
            match admin::revision(at).await {
                Ok(revision) => {
                    newest = newest.max(revision);
                    break;
                }
                Err(error) if begin.elapsed() > HEAL_DEADLINE => return Err(error),
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }
    let took = recorder.now() - began;
    recorder.history().ending.healed_in = Some(took);
    Ok(newest)
}

async fn hash(recorder: &Recorder, members: &[MemberIndex], revision: i64) {
    let begin = Instant::now();
    for at in members {
        loop {
            match admin::hash(*at, revision).await {
                Ok(hash) => {
                    let hash = (hash.hash, hash.compact_revision);
                    recorder.history().ending.hashes.insert(*at, hash);
                    break;
                }
                // It may be behind.
                Err(_) if begin.elapsed() < HEAL_DEADLINE => {
                    sleep(Duration::from_millis(100)).await;
                }
                Err(_) => break,
            }
        }
    }
    recorder.history().ending.hash_revision = revision;
}

/// Looks through what members logged, and whether they still run.
fn examine(recorder: &Recorder, cluster: &mut Cluster) {
    for at in cluster.all() {
        let log = std::fs::read(cluster.log(at)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let bad = log.lines().filter(|line| is_bad(line));
        let bad: Vec<_> = bad.map(|line| (at, line.to_owned())).collect();
        let mut history = recorder.history();
        history.ending.panics.extend(bad);
        if let Some(code) = cluster.ended(at) {
            let known = history.ending.ended_alone.iter().any(|(member, _)| *member == at);
            if !known {
                history.ending.ended_alone.push((at, code));
            }
        }
        let leading: Vec<_> = history
            .samples
            .iter()
            .filter_map(|sample| Some((sample.state.as_ref()?, sample.member)))
            .filter(|(state, _)| state.leads)
            .map(|(state, member)| (state.term, member))
            .collect();
        history.ending.leaders.extend(leading);
    }
}

/// A fault is over when a request that was sent after its end is answered.
fn note_recoveries(history: &mut History) {
    let answered = history.signs_of_life();
    let History { faults, steps, .. } = history;
    for fault in faults {
        let after = answered.iter().filter(|(_, began)| *began >= fault.ended);
        fault.recovered = after.map(|(ended, _)| *ended).min();
        let mut last = fault.began;
        for (ended, _) in answered.iter().filter(|(ended, _)| *ended >= fault.began) {
            fault.outage = fault.outage.max(ended - last);
            last = *ended;
            if last > fault.ended {
                break;
            }
        }
        if fault.evidence.is_none() {
            let failed = steps.iter().filter(|step| {
                step.kind != Kind::Ok && step.ended > fault.began && step.began < fault.ended
            });
            let failed = failed.count();
            fault.evidence = (failed > 0).then(|| format!("{failed} operations failed"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_bad_and_a_refusal_to_start_is_not() {
        assert!(is_bad(r#"{"level":"fatal","msg":"no data to send"}"#));
        assert!(is_bad("thread 'main' panicked at src/main.rs:1:1:"));
        assert!(!is_bad(
            r#"{"level":"fatal","msg":"failed to start","error":"CURRENT corrupted"}"#
        ));
        assert!(!is_bad(r#"{"level":"info","msg":"ready to serve client requests"}"#));
    }
}
