//! All members lose power at once: what was acknowledged is on their disks.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use tokio::time::timeout;

use crate::{
    check,
    disk::Disk,
    machine,
    members::{Cluster, Setup, server_under_test},
    traffic::Traffic,
};

/// Writes before each loss of power, enough that some are in flight.
const SOME_WRITES: u64 = 100;

const MEMBERS: usize = 3;

/// Makes every sync of a program return at once without doing anything.
const NO_SYNC_LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/libeatmydata.so";

/// A cluster that lost its data may start anew, refuse to start, or never agree again.
const CONTROL_DEADLINE: Duration = Duration::from_secs(15);

/// The disks outlive the processes on them, hence their order in tests.
struct Disks {
    disks: Vec<Disk>,
    home: tempfile::TempDir,
}

impl Disks {
    /// `None`, said loudly, where this machine cannot do it.
    fn make(skipped: &str) -> Option<Disks> {
        let home = tempfile::Builder::new().prefix("orrery-disks-").tempdir().unwrap();
        let made: Result<Vec<Disk>, String> =
            (0..MEMBERS).map(|at| Disk::make(home.path(), &format!("disk{at}"))).collect();
        match made {
            Ok(disks) => Some(Disks { disks, home }),
            Err(error) => {
                let rounds = machine::fault_rounds();
                machine::announce(&format!("SKIPPED {rounds} rounds of {skipped}: {error}"));
                None
            }
        }
    }

    fn setup(&self) -> Setup {
        let mut setup = Setup::new(MEMBERS);
        setup.data_dirs = self.disks.iter().map(|disk| disk.path().join("data")).collect();
        setup
    }

    /// The processes are frozen first, so that none can see its disk die and say so.
    fn lose_power(&self, cluster: &mut Cluster) {
        let all = cluster.indices();
        cluster.pause(&all);
        for disk in &self.disks {
            disk.cut_power();
        }
        cluster.kill(&all);
        for disk in &self.disks {
            disk.restore_power();
        }
    }
}

#[tokio::test]
async fn losing_the_power_of_all_members_at_once_loses_nothing() {
    let _turn = machine::exclusive();
    let Some(disks) = Disks::make("power loss") else { return };
    let mut cluster = disks.setup().start().await;
    let begin = Instant::now();
    let traffic = Traffic::start(cluster.endpoints());
    for round in 0..machine::fault_rounds() {
        let flows = traffic.flows(SOME_WRITES).await;
        flows.unwrap_or_else(|fault| panic!("before power loss {round}: {fault}"));
        disks.lose_power(&mut cluster);
        cluster.restart(&cluster.indices()).await.unwrap();
    }
    traffic.flows(SOME_WRITES).await.unwrap();
    let record = traffic.finish().await;
    check::assert_none(&check::faults(&cluster, &record).await);
    println!(
        "power loss, {} rounds in {:.1?} on {}: {} writes acknowledged and found, {} unknown",
        machine::fault_rounds(),
        begin.elapsed(),
        disks.home.path().display(),
        record.acknowledged.len(),
        record.unknown,
    );
}

/// The control: a server that does not sync must be caught, or the test above shows nothing.
#[tokio::test]
async fn without_syncing_a_power_loss_is_noticed() {
    let _turn = machine::exclusive();
    if !Path::new(NO_SYNC_LIBRARY).exists() {
        machine::announce(&format!("SKIPPED the control of power loss: no {NO_SYNC_LIBRARY}"));
        return;
    }
    let Some(disks) = Disks::make("the control of power loss") else { return };
    let mut setup = disks.setup();
    if is_written_in_go(&setup.binary) {
        // Go calls the kernel without the C library, so preloading changes nothing for etcd.
        setup.flags.push("--unsafe-no-fsync".to_owned());
    } else {
        setup.environment.push(("LD_PRELOAD".to_owned(), NO_SYNC_LIBRARY.to_owned()));
    }
    let mut cluster = setup.start().await;
    let traffic = Traffic::start(cluster.endpoints());
    traffic.flows(SOME_WRITES).await.unwrap();
    disks.lose_power(&mut cluster);
    let faults = match timeout(CONTROL_DEADLINE, cluster.restart(&cluster.indices())).await {
        Ok(Ok(())) => {
            let record = traffic.finish().await;
            check::faults(&cluster, &record).await
        }
        Ok(Err(refusal)) => vec![refusal],
        Err(_) => vec![format!("the members are not ready in {CONTROL_DEADLINE:?}")],
    };
    assert!(!faults.is_empty(), "{} was not caught", server_under_test().display());
    println!("without syncing: {} faults, such as: {}", faults.len(), faults[0]);
}

fn is_written_in_go(binary: &Path) -> bool {
    let output = Command::new(binary).arg("--version").output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains("Go Version")
}
