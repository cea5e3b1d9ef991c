//! Where the leader is: brings leadership to the region that the account wants it in, by openraft's
//! transfer of leadership, and lets stand for election only who may lead.
//!
//! What was proposed to a leader that hands over and is not in its log yet waits and is proposed to
//! the next one; what is in its log gets there, since the next one campaigns only once it has all
//! of it. So a transfer loses nothing, and takes three times the way to the nearest quorum.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tracing::{info, warn};

use crate::{
    cluster::{Labels, Members},
    node::{Options, propose::Proposer, told::Told},
    proto::{
        command::{AccountSet, command::Operation},
        peer::{MemberSeen, RegionLeadReply, region_lead_reply::Outcome},
    },
    raft::{Follower, Raft},
    region::{self, Account, Fitness, Seen, Step},
    types::MemberId,
};

/// How often the leader looks whether another member should lead.
const TURN: Duration = Duration::from_millis(200);

/// Clones share everything.
#[derive(Clone)]
pub(crate) struct Placement(Arc<Shared>);

struct Shared {
    raft: Raft,
    labels: Labels,
    members: watch::Receiver<Arc<Members>>,
    account: watch::Receiver<Option<Arc<Account>>>,
    /// How long a member may take to take over.
    timeout: Duration,
    /// Somebody is being told to take over; whoever else wants that comes too late.
    moving: AtomicBool,
}

impl Placement {
    /// Before Raft runs: so a member whose region may not lead never stands for election.
    pub(crate) fn new(options: &Options, raft: &Raft, told: &Told) -> Placement {
        let placement = Placement(Arc::new(Shared {
            raft: raft.clone(),
            labels: options.labels.clone(),
            members: told.members.clone(),
            account: told.account.clone(),
            timeout: options.limits.timeout,
            moving: AtomicBool::new(false),
        }));
        placement.settle();
        placement
    }

    /// The work that goes on beside requests.
    pub(crate) async fn keep(self, proposer: Proposer) {
        tokio::join!(self.follow(), self.run(proposer), self.order_again());
    }

    /// Beside the other work, which waits for whoever has been told to take over.
    async fn order_again(&self) {
        while !self.0.raft.is_stopped() {
            tokio::time::sleep(TURN).await;
            self.0.raft.order_again().await;
        }
    }

    /// While this member leads: hands over to a member of this region, if it is not in it itself.
    /// `None` when it does not lead.
    pub(crate) async fn lead_from(&self, region: &str) -> Option<RegionLeadReply> {
        let followers = self.leads().then(|| self.0.raft.followers()).flatten()?;
        let outcome = match self.0.labels.region == region {
            true => Outcome::Done,
            false => {
                let members = self.0.members.borrow().clone();
                let seen = self.see(&members, &followers);
                match region::best_of_region(&seen, region) {
                    None => Outcome::NobodyReady,
                    Some(to) if self.move_to(to, region).await => Outcome::Done,
                    Some(_) => Outcome::NotTaken,
                }
            }
        };
        Some(RegionLeadReply { outcome: outcome.into() })
    }

    /// The other members, as far as this one leads them.
    pub(crate) fn members_seen(&self) -> Option<Vec<MemberSeen>> {
        let followers = self.leads().then(|| self.0.raft.followers()).flatten()?;
        let seen = followers.into_iter().map(|(id, follower)| MemberSeen {
            id: id.0,
            connected: follower.connected,
            lag: follower.lag,
        });
        Some(seen.collect())
    }

    /// Stands for election although it may not by itself; returns whether this member leads then.
    pub(crate) async fn campaign(&self) -> bool {
        info!("told to stand for election");
        self.0.raft.campaign().await
    }

    /// To whom a leader that stops hands over: where the account would have it, if that can be.
    pub(crate) fn successor(&self) -> Option<MemberId> {
        let (account, followers) = (self.account()?, self.0.raft.followers()?);
        let members = self.0.members.borrow().clone();
        region::successor(&account, &self.see(&members, &followers), self.0.raft.id())
    }

    /// Lets this member stand for election if its region may lead. Whatever it says, the member
    /// votes, and takes over when a leader tells it to.
    fn settle(&self) {
        let may = self.account().is_none_or(|account| {
            let members = self.0.members.borrow();
            let voters = members.rows.iter().filter(|row| !row.member.is_learner);
            let regions = voters.map(|row| members.labels(MemberId(row.member.id)).region.as_str());
            region::may_campaign(&account, &self.0.labels.region, regions)
        });
        if may != self.0.raft.may_campaign() {
            let region = &self.0.labels.region;
            info!(region, may, "whether this member stands for election by itself has changed");
            self.0.raft.let_campaign(may);
        }
    }

    /// Keeps that up to date.
    async fn follow(&self) {
        let (mut members, mut account) = (self.0.members.clone(), self.0.account.clone());
        loop {
            self.settle();
            let changed = tokio::select! {
                changed = members.changed() => changed,
                changed = account.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// While this member leads: does what the account demands.
    async fn run(&self, proposer: Proposer) {
        let mut sightings = Sightings::default();
        while !self.0.raft.is_stopped() {
            tokio::time::sleep(TURN).await;
            let followers = self.leads().then(|| self.0.raft.followers()).flatten();
            let Some(followers) = followers else {
                sightings.clear();
                continue;
            };
            sightings.see(&followers, Instant::now());
            if let Some(account) = self.account() {
                self.turn(&account, &followers, &mut sightings, &proposer).await;
            }
        }
    }

    async fn turn(
        &self,
        account: &Account,
        followers: &BTreeMap<MemberId, Follower>,
        sightings: &mut Sightings,
        proposer: &Proposer,
    ) {
        let members = self.0.members.borrow().clone();
        let mut seen = self.see(&members, followers);
        seen.iter_mut().for_each(|member| sightings.date(member));
        match region::decide(account, &seen, self.0.raft.id()) {
            Step::Stay => (),
            Step::Transfer(to) => {
                let region = members.labels(to).region.clone();
                if !self.move_to(to, &region).await {
                    sightings.forget(to);
                }
            }
            Step::BecomeWriteRegion => {
                let region = &members.labels(self.0.raft.id()).region;
                if !become_write_region(region, account, proposer).await {
                    sightings.clear();
                }
            }
        }
    }

    /// Whether that member leads then.
    async fn move_to(&self, to: MemberId, region: &str) -> bool {
        let Some(_moving) = Moving::begin(&self.0.moving) else { return false };
        let begun = Instant::now();
        match self.0.raft.transfer_leader(to, self.0.timeout).await {
            Ok(()) => info!(%to, region, took = ?begun.elapsed(), "handed leadership to a region"),
            Err(error) => {
                warn!(%to, region, %error, "could not hand leadership to a region");
                return false;
            }
        }
        true
    }

    fn leads(&self) -> bool {
        self.0.raft.leadership().borrow().leader == Some(self.0.raft.id())
    }

    fn account(&self) -> Option<Arc<Account>> {
        self.0.account.borrow().clone()
    }

    /// The members of the list as this leader sees them now.
    fn see<'a>(
        &self,
        members: &'a Members,
        followers: &BTreeMap<MemberId, Follower>,
    ) -> Vec<Seen<'a>> {
        let voters = self.0.raft.voters();
        let seen = members.rows.iter().map(|row| {
            let id = MemberId(row.member.id);
            let is_fit = followers.get(&id).is_some_and(|follower| follower.is_fit());
            Seen {
                id,
                region: &members.labels(id).region,
                votes: voters.contains(&id),
                fitness: match is_fit || id == self.0.raft.id() {
                    true => Fitness::Fit(Duration::ZERO),
                    false => Fitness::Unfit(Duration::ZERO),
                },
            }
        });
        seen.collect()
    }
}

/// Whether this region has taken the place of the write region.
async fn become_write_region(region: &str, account: &Account, proposer: &Proposer) -> bool {
    let lost = account.write_region();
    let Ok(after) = account.with_write_region(region) else { return false };
    let set = AccountSet { account: Some(after.to_wire()) };
    match proposer.command(Operation::AccountSet(set)).await {
        Ok(_) => {
            warn!(region, lost, "the write region is lost: this one takes its place");
            true
        }
        Err(error) => {
            warn!(%error, region, lost, "could not take the place of the lost write region");
            false
        }
    }
}

/// While this lives, nobody else moves leadership; also when what waits for the move is given up.
struct Moving<'a>(&'a AtomicBool);

impl Moving<'_> {
    fn begin(moving: &AtomicBool) -> Option<Moving<'_>> {
        (!moving.swap(true, Ordering::Relaxed)).then_some(Moving(moving))
    }
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Since when each follower has been fit to lead, or not.
#[derive(Default)]
struct Sightings(BTreeMap<MemberId, (bool, Instant)>);

impl Sightings {
    fn see(&mut self, followers: &BTreeMap<MemberId, Follower>, now: Instant) {
        self.0.retain(|id, _| followers.contains_key(id));
        for (id, follower) in followers {
            let is_fit = follower.is_fit();
            let known = self.0.entry(*id).or_insert((is_fit, now));
            if known.0 != is_fit {
                *known = (is_fit, now);
            }
        }
    }

    fn date(&self, member: &mut Seen<'_>) {
        let Some((is_fit, since)) = self.0.get(&member.id) else { return };
        let time = since.elapsed();
        member.fitness = if *is_fit { Fitness::Fit(time) } else { Fitness::Unfit(time) };
    }

    /// It has not done what was expected of it, and has to prove itself again.
    fn forget(&mut self, id: MemberId) {
        self.0.remove(&id);
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIT: Follower = Follower { connected: true, lag: 0 };
    const GONE: Follower = Follower { connected: false, lag: 0 };

    #[tokio::test(start_paused = true)]
    async fn a_follower_is_fit_since_it_last_was_not() {
        #[track_caller]
        fn check(sightings: &Sightings, expected: Fitness) {
            let (id, fitness) = (MemberId(2), Fitness::Unfit(Duration::ZERO));
            let mut seen = Seen { id, region: "", votes: true, fitness };
            sightings.date(&mut seen);
            assert_eq!(seen.fitness, expected);
        }
        let secs = Duration::from_secs;
        let mut sightings = Sightings::default();
        let see = async |sightings: &mut Sightings, follower| {
            sightings.see(&BTreeMap::from([(MemberId(2), follower)]), Instant::now());
            tokio::time::sleep(secs(1)).await;
        };
        see(&mut sightings, FIT).await;
        see(&mut sightings, FIT).await;
        check(&sightings, Fitness::Fit(secs(2)));
        see(&mut sightings, GONE).await;
        see(&mut sightings, GONE).await;
        check(&sightings, Fitness::Unfit(secs(2)));
        see(&mut sightings, FIT).await;
        check(&sightings, Fitness::Fit(secs(1)));
        sightings.forget(MemberId(2));
        see(&mut sightings, FIT).await;
        check(&sightings, Fitness::Fit(secs(1)));
    }
}
