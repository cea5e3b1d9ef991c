//! What is wrong between regions and members, from when, and for how long.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use tokio::{sync::watch, time::sleep};

/// Each byte that passes looks at every fault, so there are few.
pub(crate) const FAULTS_MAX: usize = 256;

/// Where one end of a connection is. A client in a region is no member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) region: String,
    pub(crate) zone: Option<String>,
    pub(crate) member: Option<String>,
}

/// A part of the network: `{"region": "eastus"}`, `{"zone": "eastus/1"}`, `{"member": "eastus-0"}`
/// or `"elsewhere"`, which is all that is not in the other part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Part {
    Region(String),
    /// Region, slash, zone.
    Zone(String),
    Member(String),
    Elsewhere,
}

/// What happens to bytes on their way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Effect {
    /// They are held, and nobody is told: new connections hang, old ones stall.
    Cut,
    /// They take so much longer, each way.
    #[serde(rename_all = "camelCase")]
    Slow { added_ms: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ways {
    /// From one part to the other.
    One,
    Both,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    pub(crate) from: Part,
    pub(crate) to: Part,
    pub(crate) ways: Ways,
    pub(crate) effect: Effect,
}

/// A fault that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Standing {
    pub(crate) id: u64,
    pub(crate) fault: Fault,
    /// From when on, by this machine's clock.
    pub(crate) since_unix_ms: u64,
    /// When it undoes itself, if it does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) until_unix_ms: Option<u64>,
}

/// All faults in force. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Faults(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    standing: watch::Sender<Vec<Standing>>,
    last_id: AtomicU64,
}

#[derive(Debug, thiserror::Error)]
#[error("{FAULTS_MAX} faults are in force, which is as many as there may be")]
pub(crate) struct TooMany;

impl Default for Faults {
    fn default() -> Faults {
        let (standing, last_id) = (watch::Sender::new(Vec::new()), AtomicU64::new(0));
        Faults(Arc::new(Shared { standing, last_id }))
    }
}

impl Faults {
    /// In force when this returns; undone by itself after the lease, if there is one.
    pub(crate) fn set(&self, fault: Fault, lease: Option<Duration>) -> Result<Standing, TooMany> {
        let id = self.0.last_id.fetch_add(1, Relaxed) + 1;
        let now = unix_ms();
        let until_unix_ms = lease.map(|it| now.saturating_add(it.as_millis() as u64));
        let standing = Standing { id, fault, since_unix_ms: now, until_unix_ms };
        let has_room = self.0.standing.send_if_modified(|all| {
            let has_room = all.len() < FAULTS_MAX;
            if has_room {
                all.push(standing.clone());
            }
            has_room
        });
        if !has_room {
            return Err(TooMany);
        }
        if let Some(lease) = lease {
            let faults = self.clone();
            tokio::spawn(async move {
                sleep(lease).await;
                faults.clear(Some(id));
            });
        }
        Ok(standing)
    }

    /// Undoes one or all; returns those that were in force.
    pub(crate) fn clear(&self, id: Option<u64>) -> Vec<Standing> {
        let mut cleared = Vec::new();
        self.0.standing.send_if_modified(|all| {
            cleared = all.extract_if(.., |it| id.is_none_or(|id| it.id == id)).collect();
            !cleared.is_empty()
        });
        cleared
    }

    pub(crate) fn show(&self) -> Vec<Standing> {
        self.0.standing.borrow().clone()
    }

    pub(crate) fn link(&self, from: Spot, to: Spot, one_way: Duration) -> Link {
        Link { from, to, one_way, standing: self.0.standing.subscribe() }
    }
}

pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64
}

impl Part {
    fn has(&self, spot: &Spot) -> bool {
        match self {
            Part::Region(region) => spot.region == *region,
            Part::Zone(zone) => {
                let own = spot.zone.as_ref().map(|own| format!("{}/{own}", spot.region));
                own.is_some_and(|own| own == *zone)
            }
            Part::Member(member) => spot.member.as_ref() == Some(member),
            Part::Elsewhere => false,
        }
    }
}

impl Fault {
    /// Whether it concerns bytes on this way.
    fn concerns(&self, from: &Spot, to: &Spot) -> bool {
        match self.ways {
            Ways::One => self.leads(from, to),
            Ways::Both => self.leads(from, to) || self.leads(to, from),
        }
    }

    fn leads(&self, from: &Spot, to: &Spot) -> bool {
        match (&self.from, &self.to) {
            (Part::Elsewhere, part) => part.has(to) && !part.has(from),
            (part, Part::Elsewhere) => part.has(from) && !part.has(to),
            (one, other) => one.has(from) && other.has(to),
        }
    }
}

/// The way from one spot to another, as it is now.
pub(crate) struct Link {
    from: Spot,
    to: Spot,
    one_way: Duration,
    standing: watch::Receiver<Vec<Standing>>,
}

impl Link {
    /// How long bytes take that leave now.
    pub(crate) fn delay(&self) -> Duration {
        let standing = self.standing.borrow();
        let added = self.concerning(&standing).map(|effect| match effect {
            Effect::Slow { added_ms } => Duration::from_millis(*added_ms),
            Effect::Cut => Duration::ZERO,
        });
        added.fold(self.one_way, Duration::saturating_add)
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.concerning(&self.standing.borrow()).any(|effect| *effect == Effect::Cut)
    }

    fn concerning<'a>(&self, standing: &'a [Standing]) -> impl Iterator<Item = &'a Effect> {
        let concerns = |it: &&Standing| it.fault.concerns(&self.from, &self.to);
        standing.iter().filter(concerns).map(|it| &it.fault.effect)
    }

    /// Returns when faults have changed since the last call, or since the link was made.
    pub(crate) async fn changed(&mut self) {
        if self.standing.changed().await.is_err() {
            // Whoever could change anything is gone.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `region`, `region/zone` or `region/zone/member`.
    fn spot(text: &str) -> Spot {
        let mut parts = text.split('/').map(str::to_owned);
        Spot { region: parts.next().unwrap(), zone: parts.next(), member: parts.next() }
    }

    fn fault(from: &str, to: &str, ways: &str, effect: &str) -> Fault {
        let text = format!(r#"{{"from":{from},"to":{to},"ways":"{ways}","effect":{effect}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    const REGION: &str = r#"{"region":"a"}"#;
    const ELSEWHERE: &str = r#""elsewhere""#;
    const CUT: &str = r#""cut""#;

    #[test]
    fn a_fault_concerns_the_ways_that_it_names() {
        #[track_caller]
        fn check(fault: &Fault, cut: &[&str], open: &[&str]) {
            for (ways, expected) in [(cut, true), (open, false)] {
                for way in ways {
                    let (from, to) = way.split_once(' ').unwrap();
                    assert_eq!(fault.concerns(&spot(from), &spot(to)), expected, "{way}");
                }
            }
        }
        let isolated = fault(REGION, ELSEWHERE, "both", CUT);
        check(&isolated, &["a b", "b a", "a/1/m b/1/n"], &["a a", "a/1/m a/2/o", "b c"]);
        let deaf = fault(ELSEWHERE, REGION, "one", CUT);
        check(&deaf, &["b a"], &["a b", "a a", "b c"]);
        let pair = fault(REGION, r#"{"region":"b"}"#, "one", CUT);
        check(&pair, &["a b"], &["b a", "a c", "a a"]);
        let member = fault(r#"{"member":"m"}"#, ELSEWHERE, "both", CUT);
        check(&member, &["a/1/m a/2/o", "b a/1/m", "a a/1/m"], &["a/1/m a/1/m", "a/2/o b", "a b"]);
        let zone = fault(r#"{"zone":"a/1"}"#, ELSEWHERE, "both", CUT);
        check(&zone, &["a/1/m a/2/o", "a/1/m b/1/n"], &["a/1/m a/1/p", "b/1/n b/2/q", "a b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn faults_add_up_and_undo_themselves() {
        let faults = Faults::default();
        let mut link = faults.link(spot("a"), spot("b"), Duration::from_millis(10));
        assert_eq!((link.delay(), link.is_cut()), (Duration::from_millis(10), false));
        let slow = |added: u64| {
            fault(REGION, ELSEWHERE, "both", &format!(r#"{{"slow":{{"addedMs":{added}}}}}"#))
        };
        faults.set(slow(5), None).unwrap();
        let second = faults.set(slow(100), Some(Duration::from_secs(3))).unwrap();
        assert_eq!(second.until_unix_ms, Some(second.since_unix_ms + 3000));
        let cut = faults.set(fault(REGION, ELSEWHERE, "both", CUT), None).unwrap();
        assert_eq!((link.delay(), link.is_cut()), (Duration::from_millis(115), true));
        assert_eq!(faults.show().len(), 3);
        assert_eq!(faults.clear(Some(cut.id)), [cut]);
        link.changed().await;
        assert!(!link.is_cut());
        link.changed().await; // the lease
        assert_eq!(link.delay(), Duration::from_millis(15));
        assert_eq!(faults.clear(None).len(), 1);
        assert_eq!(link.delay(), Duration::from_millis(10));
    }

    #[tokio::test]
    async fn there_are_no_more_faults_than_a_byte_can_look_at() {
        let faults = Faults::default();
        for _ in 0..FAULTS_MAX {
            faults.set(fault(REGION, ELSEWHERE, "one", CUT), None).unwrap();
        }
        faults.set(fault(REGION, ELSEWHERE, "one", CUT), None).unwrap_err();
        assert_eq!(faults.clear(None).len(), FAULTS_MAX);
    }
}
