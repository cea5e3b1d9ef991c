//! Who should lead: given the account, and what the leader sees of the members.

use std::{cmp::Reverse, time::Duration};

use super::{Account, Failback};
use crate::types::MemberId;

/// A member must have been healthy for so long before leadership goes to it unasked: one that comes
/// and goes would otherwise cost a change of leader each time. Also longer than a person's switch
/// takes from the change of leader to that of the priorities.
const STEADY: Duration = Duration::from_secs(3);

/// The write region has failed when nobody there could lead for so long. A member that is started
/// again, or a cluster that starts one member after the other, changes no priorities.
const FAILED_AFTER: Duration = Duration::from_secs(10);

/// A member, as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    pub id: MemberId,
    /// Empty when it does not say.
    pub region: &'a str,
    pub votes: bool,
    pub fitness: Fitness,
}

/// Whether a member could lead: it is connected and has caught up. Since when, as far as the leader
/// has looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fitness {
    Fit(Duration),
    Unfit(Duration),
}

/// What the leader should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Stay,
    Transfer(MemberId),
    /// The write region is lost, and this one takes its place for good.
    BecomeWriteRegion,
}

/// What the leader should do; `members` include it.
pub fn decide(account: &Account, members: &[Seen<'_>], leader: MemberId) -> Step {
    let here = members.iter().find(|member| member.id == leader).map_or("", |seen| seen.region);
    let own_rank = account.rank(here);
    for (rank, location) in account.locations.iter().filter(|it| !it.offline).enumerate() {
        if own_rank == Some(rank) {
            return stay(account, members, rank);
        }
        let wait = match account.failback {
            Failback::After(time) if rank == 0 => time.max(STEADY),
            Failback::After(_) | Failback::Manual => STEADY,
        };
        let Some((best, fit_for)) = best(members, &location.name) else { continue };
        // While one that comes before waits for its time, none behind it is better than this one.
        return if fit_for >= wait { Step::Transfer(best) } else { Step::Stay };
    }
    Step::Stay
}

/// No region before this one, which has the leader, has anybody who could lead.
fn stay(account: &Account, members: &[Seen<'_>], rank: usize) -> Step {
    if rank == 0 || !account.automatic_failover || account.failback != Failback::Manual {
        return Step::Stay;
    }
    let lost_for = |member: &Seen<'_>| match member.fitness {
        Fitness::Unfit(time) => time,
        Fitness::Fit(_) => Duration::ZERO,
    };
    let voters = voters_of(members, account.write_region());
    // A region without voters can't lead, and so can't have failed.
    match voters.map(lost_for).min() {
        Some(time) if time >= FAILED_AFTER => Step::BecomeWriteRegion,
        Some(_) | None => Step::Stay,
    }
}

/// Who of a region could take over now.
pub fn best_of_region(members: &[Seen<'_>], region: &str) -> Option<MemberId> {
    best(members, region).map(|(id, _)| id)
}

/// The member that has been fit for the longest time; of several the one with the least id.
fn best(members: &[Seen<'_>], region: &str) -> Option<(MemberId, Duration)> {
    let fit = voters_of(members, region).filter_map(|member| match member.fitness {
        Fitness::Fit(time) => Some((member.id, time)),
        Fitness::Unfit(_) => None,
    });
    fit.min_by_key(|(id, time)| (Reverse(*time), *id))
}

fn voters_of<'a>(
    members: &'a [Seen<'a>],
    region: &'a str,
) -> impl Iterator<Item = &'a Seen<'a>> + 'a {
    members.iter().filter(move |member| member.votes && member.region == region)
}

/// To whom a leader that stops should hand over: a member of the first region that has one.
pub fn successor(account: &Account, members: &[Seen<'_>], leader: MemberId) -> Option<MemberId> {
    let others: Vec<Seen<'_>> =
        members.iter().filter(|member| member.id != leader).copied().collect();
    let online = account.locations.iter().filter(|location| !location.offline);
    online.filter_map(|location| best_of_region(&others, &location.name)).next()
}

/// Whether a member in this region may stand for election. `voters` are the regions of all voters:
/// if none of them may, all may, since a cluster without a leader can't even be told otherwise.
pub fn may_campaign<'a>(
    account: &Account,
    region: &str,
    voters: impl IntoIterator<Item = &'a str>,
) -> bool {
    let may = |region: &str| match account.automatic_failover {
        true => account.location(region).is_none_or(|location| !location.offline),
        false => region == account.write_region(),
    };
    may(region) || !voters.into_iter().any(may)
}
