//! Space: what the quota allows, what the disk has left, and how what nobody needs is given back.
//!
//! Members differ in how much space they have, so each judges for itself, where requests come in
//! and at times, and raises its NOSPACE alarm through the log. What is applied obeys that alarm and
//! nothing else.

pub mod cost;
mod disk;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tracing::{info, warn};

use self::disk::{Disk, Room};
use crate::{
    alarm::{Alarm, Alarms, Kind},
    node::{Error, Freshness, Identity, Proposer, Reader},
    proto::{
        command::command::Operation,
        etcdserverpb::{AlarmRequest, alarm_request::AlarmAction},
    },
    raft::Raft,
    state_machine::Rejection,
    storage::{Sizes, Storage, off_thread},
};

/// What a member may take up, and when it says that it is too much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpaceRules {
    /// etcd's quota-backend-bytes: no limit when negative.
    pub quota_bytes: i64,
    /// Where the data is, and the log: the free space of their disks is watched.
    pub places: Vec<PathBuf>,
    /// Free bytes that raise the alarm before anything fails; `None` for a part of the disk.
    pub reserve_bytes: Option<u64>,
    /// Deactivate this member's NOSPACE alarm once there is space again.
    pub disarms_itself: bool,
}

/// How long a size is believed: etcd's grows in batches of as much time.
const SIZE_FRESH_FOR: Duration = Duration::from_millis(100);

/// How often a member looks at its space when nobody asks.
const TURN: Duration = Duration::from_millis(500);

/// An alarm that is to disarm itself waits until so much of the quota is free (one in twenty), or
/// it would be raised again at once.
const MARGIN: u64 = 20;

/// The space of a member. Clones share it.
#[derive(Clone)]
pub struct Space(Arc<Shared>);

struct Shared {
    identity: Identity,
    storage: Storage,
    proposer: Proposer,
    reader: Reader,
    alarms: watch::Receiver<Arc<Alarms>>,
    rules: SpaceRules,
    estimate: Mutex<Estimate>,
    disk_is_low: AtomicBool,
    /// This member's alarm is on its way into the log.
    raising: AtomicBool,
    defragmentations: AtomicI64,
    defragmented: Mutex<Option<Told>>,
}

/// Told how long each defragmentation took.
type Told = Box<dyn Fn(Duration) + Send + Sync>;

/// The size of the store as it was, and what has been let in since.
struct Estimate {
    on_disk: u64,
    at: Instant,
    admitted: u64,
}

impl Space {
    pub(crate) fn new(
        identity: Identity,
        storage: Storage,
        proposer: Proposer,
        reader: Reader,
        alarms: watch::Receiver<Arc<Alarms>>,
        rules: SpaceRules,
    ) -> Space {
        log_quota(rules.quota_bytes);
        let estimate = Estimate { on_disk: 0, at: Instant::now(), admitted: u64::MAX };
        Space(Arc::new(Shared {
            identity,
            storage,
            proposer,
            reader,
            alarms,
            rules,
            estimate: Mutex::new(estimate),
            disk_is_low: AtomicBool::new(false),
            raising: AtomicBool::new(false),
            defragmentations: AtomicI64::new(0),
            defragmented: Mutex::new(None),
        }))
    }

    /// Lets a request in that costs so many bytes ([`cost`]), or raises the alarm and refuses it.
    /// As in etcd this comes before the request is looked at any further.
    ///
    /// # Errors
    /// There is no space: [`Rejection::NoSpace`], as applying the request would answer.
    pub async fn admit(&self, cost: u64) -> Result<(), Error> {
        if cost == 0 || self.has_room(cost) {
            return Ok(());
        }
        self.raise().await;
        Err(Error::Rejected(Rejection::NoSpace))
    }

    /// Refuses a request that costs so much if an active alarm does. Applying it would refuse it
    /// too, but first it would be written to the log of members whose disks may be full.
    ///
    /// # Errors
    /// A NOSPACE alarm is active, which is sure: it was asked for linearizably.
    pub async fn check_alarm(&self, cost: u64) -> Result<(), Error> {
        let refused = cost > 0 && {
            let alarms = self.0.alarms.borrow();
            alarms.has(Kind::NO_SPACE) && !alarms.has(Kind::CORRUPT)
        };
        if !refused {
            return Ok(());
        }
        match self.0.reader.view(Freshness::Linearizable).await {
            Ok(view) if view.alarms()?.has(Kind::NO_SPACE) => {
                Err(Error::Rejected(Rejection::NoSpace))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Gives back the space of what is gone, and returns when that is done. Others are served
    /// meanwhile.
    ///
    /// # Errors
    /// The disk has too little room to rewrite the files, or fails.
    pub async fn defragment(&self) -> Result<(), Error> {
        let before = self.0.storage.sizes();
        let path = self.0.rules.places.first().cloned().unwrap_or_default();
        info!(
            path = %path.display(),
            "current-db-size-bytes" = before.on_disk,
            "current-db-size-in-use-bytes" = before.in_use,
            "defragmenting"
        );
        self.check_room_to_defragment()?;
        let started = Instant::now();
        self.0.defragmentations.fetch_add(1, Ordering::Relaxed);
        let storage = self.0.storage.clone();
        let done = off_thread(move || storage.reclaim()).await;
        self.0.defragmentations.fetch_sub(1, Ordering::Relaxed);
        done?;
        self.estimate().admitted = u64::MAX;
        let (after, took) = (self.0.storage.sizes(), started.elapsed());
        if let Some(count) = &*self.0.defragmented.lock().expect(UNPOISONED) {
            count(took);
        }
        info!(
            path = %path.display(),
            "current-db-size-bytes-diff" = difference(after.on_disk, before.on_disk),
            "current-db-size-bytes" = after.on_disk,
            "current-db-size-in-use-bytes-diff" = difference(after.in_use, before.in_use),
            "current-db-size-in-use-bytes" = after.in_use,
            took = ?took,
            "finished defragmenting directory"
        );
        Ok(())
    }

    /// Gives back the space of what is gone if that is at least so much.
    pub async fn defragment_at_start(&self, threshold_bytes: u64) {
        let sizes = self.0.storage.sizes();
        if sizes.on_disk.saturating_sub(sizes.in_use) < threshold_bytes {
            info!(
                "current-db-size-bytes" = sizes.on_disk,
                "current-db-size-in-use-bytes" = sizes.in_use,
                "bootstrap-defrag-threshold-bytes" = threshold_bytes,
                "Skipping defragmentation"
            );
        } else if let Err(error) = self.defragment().await {
            warn!(%error, "could not give back space at the start");
        }
    }

    /// Defragmentations under way.
    pub fn defragmentations(&self) -> i64 {
        self.0.defragmentations.load(Ordering::Relaxed)
    }

    /// Has `count` told how long each defragmentation takes.
    pub fn count_defragmentations(&self, count: impl Fn(Duration) + Send + Sync + 'static) {
        *self.0.defragmented.lock().expect(UNPOISONED) = Some(Box::new(count));
    }

    /// Looks after the space until Raft has ended.
    pub(crate) async fn watch(self, raft: Raft) {
        let mut disks = Disk::all(&self.0.rules);
        let mut before = self.0.storage.sizes();
        // Bytes in use when space was last given back: as long as they are the same, there is no
        // more to give.
        let mut tried = None;
        while !raft.is_stopped() {
            tokio::time::sleep(TURN).await;
            disks = off_thread(move || {
                disks.iter_mut().for_each(Disk::look);
                disks
            })
            .await;
            if let Some(fullest) = disks.iter().min_by_key(|disk| disk.room()) {
                self.note_room(fullest);
            }
            let now = self.0.storage.sizes();
            let is_full = quota(self.0.rules.quota_bytes).is_some_and(|quota| now.on_disk >= quota);
            // What has not grown since somebody disarmed the alarm is left alone, as in etcd.
            let has_grown = is_full && now.on_disk > before.on_disk;
            if has_grown || self.0.disk_is_low.load(Ordering::Relaxed) {
                self.raise().await;
            } else if self.0.rules.disarms_itself {
                self.disarm(now, &mut tried).await;
            }
            before = now;
        }
    }

    fn note_room(&self, disk: &Disk) {
        let was_low = self.0.disk_is_low.load(Ordering::Relaxed);
        let is_low = match disk.room() {
            Room::Low => true,
            Room::Enough => false,
            Room::Between => was_low,
        };
        if is_low == was_low {
            return;
        }
        self.0.disk_is_low.store(is_low, Ordering::Relaxed);
        if is_low {
            let (path, free_bytes) = (disk.dir().display(), disk.free());
            warn!(%path, free_bytes, reserve_bytes = disk.reserve(), "disk is nearly full");
        } else {
            info!(free_bytes = disk.free(), "disk has room again");
        }
        // Rewriting files takes space first.
        if let Err(error) = self.0.storage.let_compact(!is_low) {
            warn!(%error, "could not switch compactions of files");
        }
    }

    /// Raises this member's alarm, unless it is active or somebody is at it.
    async fn raise(&self) {
        if self.is_alarmed() || self.0.raising.swap(true, Ordering::Relaxed) {
            return;
        }
        let sizes = self.0.storage.sizes();
        warn!(
            "quota-size-bytes" = self.0.rules.quota_bytes,
            "current-db-size-bytes" = sizes.on_disk,
            "message exceeded backend quota; raising alarm"
        );
        if let Err(error) = self.propose(AlarmAction::Activate).await {
            warn!(%error, "could not raise the alarm; whoever needs space tries again");
        }
        self.0.raising.store(false, Ordering::Relaxed);
    }

    /// Deactivates this member's alarm if there is space, and makes space if there could be.
    async fn disarm(&self, now: Sizes, tried: &mut Option<u64>) {
        if !self.is_alarmed() {
            return;
        }
        let quota = quota(self.0.rules.quota_bytes).unwrap_or(u64::MAX);
        let fits = |bytes: u64| bytes < quota - quota / MARGIN;
        if !fits(now.on_disk) {
            if fits(now.in_use) && tried.replace(now.in_use) != Some(now.in_use) {
                let done = self.defragment().await;
                done.unwrap_or_else(|error| warn!(%error, "could not give back space"));
            }
            if !fits(self.0.storage.sizes().on_disk) {
                return;
            }
        }
        match self.propose(AlarmAction::Deactivate).await {
            Ok(()) => info!("there is space again; deactivated this member's NOSPACE alarm"),
            Err(error) => warn!(%error, "could not deactivate this member's NOSPACE alarm"),
        }
    }

    async fn propose(&self, action: AlarmAction) -> Result<(), Error> {
        let alarm = self.alarm().to_wire();
        let (action, member_id) = (action as i32, alarm.member_id);
        let request = AlarmRequest { action, member_id, alarm: alarm.alarm };
        self.0.proposer.command(Operation::Alarm(request)).await.map(drop)
    }

    fn alarm(&self) -> Alarm {
        Alarm { kind: Kind::NO_SPACE, member: self.0.identity.member }
    }

    fn is_alarmed(&self) -> bool {
        self.0.alarms.borrow().contains(self.alarm())
    }

    /// The size is asked for at times only; what was let in since then counts with its cost.
    fn has_room(&self, cost: u64) -> bool {
        if self.0.disk_is_low.load(Ordering::Relaxed) {
            return false;
        }
        let Some(quota) = quota(self.0.rules.quota_bytes) else { return true };
        let mut estimate = self.estimate();
        if !estimate.fits(cost, quota) || estimate.at.elapsed() >= SIZE_FRESH_FOR {
            let on_disk = self.0.storage.sizes().on_disk;
            *estimate = Estimate { on_disk, at: Instant::now(), admitted: 0 };
        }
        let fits = estimate.fits(cost, quota);
        if fits {
            estimate.admitted += cost;
        }
        fits
    }

    fn estimate(&self) -> MutexGuard<'_, Estimate> {
        self.0.estimate.lock().expect(UNPOISONED)
    }

    fn check_room_to_defragment(&self) -> Result<(), Error> {
        let Some(dir) = self.0.rules.places.first() else { return Ok(()) };
        let needed = self.0.storage.file_bytes();
        match disk::free_bytes(dir) {
            Ok(free) if free < needed => {
                warn!(free, needed, "the disk has no room to rewrite the files");
                Err(Error::NoRoomToDefragment)
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

const UNPOISONED: &str = "no code panics while it holds this lock";

impl Estimate {
    fn fits(&self, cost: u64, quota: u64) -> bool {
        self.on_disk.saturating_add(self.admitted).saturating_add(cost) < quota
    }
}

/// `None` for no limit.
fn quota(bytes: i64) -> Option<u64> {
    u64::try_from(bytes).ok()
}

fn difference(after: u64, before: u64) -> i64 {
    after.cast_signed().wrapping_sub(before.cast_signed())
}

/// Beyond this etcd warns: its store suffers, ours does not, but whoever set it may not know.
const QUOTA_BYTES_SUGGESTED: i64 = 8 << 30;

fn log_quota(bytes: i64) {
    if bytes < 0 {
        info!("quota-size-bytes" = bytes, "disabled backend quota");
        return;
    }
    if bytes > QUOTA_BYTES_SUGGESTED {
        warn!(
            "quota-size-bytes" = bytes,
            "quota-maximum-size-bytes" = QUOTA_BYTES_SUGGESTED,
            "quota exceeds the maximum value"
        );
    }
    info!("quota-size-bytes" = bytes, "enabled backend quota");
}
