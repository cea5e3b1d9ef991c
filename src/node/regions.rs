//! What people do with regions: looking at them, switching between them, taking one out of service.
//!
//! A change is worked out on the account as a quorum has it, leadership is brought to where it will
//! belong, and then one command changes the account, unless somebody was faster.

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use crate::{
    node::{Error, Labels, Membership, ask::AskError, placement::Placement, read::Freshness},
    proto::{
        command::{AccountSet, command::Operation},
        peer::{
            self, Campaign, MemberSeen, MembersSeen, RegionLead, region_lead_reply::Outcome, reply,
            request,
        },
        region::{
            self as wire, RegionMember, RegionsConfigureRequest, RegionsFailoverRequest,
            RegionsOfflineRequest, RegionsOnlineRequest, RegionsSetPrioritiesRequest,
            RegionsShowResponse,
        },
    },
    region::{Account, Failback, Rejection, in_order},
    state_machine,
    types::MemberId,
};

/// How often a change is worked out anew because somebody else was faster.
const ATTEMPTS: usize = 5;

/// How long the leader may take to say what it sees, when somebody only looks.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

/// The leader's answer takes that much longer than what it is asked for.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// The account of regions and its changes. Clones share everything.
#[derive(Clone)]
pub struct Regions {
    pub(crate) membership: Membership,
    pub(crate) placement: Placement,
}

/// What is to be done before the account is changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Move<'a> {
    /// Nothing: leadership follows by itself.
    Nothing,
    /// The leader goes to the account's write region, if that is another one.
    ToWriteRegion,
    /// The leader leaves this region.
    OutOf(&'a str),
}

impl Regions {
    /// What this member knows, and what the leader says if there is one. The header is the
    /// caller's.
    ///
    /// # Errors
    /// The store can't be read.
    pub async fn show(&self) -> Result<RegionsShowResponse, Error> {
        let view = self.membership.reader.view(Freshness::Any).await?;
        let (account, members) = (view.account()?, view.members()?);
        drop(view);
        let leader = self.membership.raft.leadership().borrow().leader;
        let ask = request::Request::MembersSeen(MembersSeen {});
        let seen = match self.membership.leader.ask_while_it_leads(ask, LOOK_TIMEOUT).await {
            Ok(reply::Reply::MembersSeen(seen)) => Some(seen.members),
            Ok(_) | Err(_) => None,
        };
        let rows = members.rows.iter().map(|row| {
            let id = MemberId(row.member.id);
            let Labels { region, zone } = members.labels(id).clone();
            let of_leader = seen.iter().flatten().find(|seen| seen.id == id.0);
            let itself = MemberSeen { id: id.0, connected: leader == Some(id), lag: 0 };
            let MemberSeen { connected, lag, .. } = of_leader.copied().unwrap_or(itself);
            let (name, is_learner) = (row.member.name.clone(), row.member.is_learner);
            RegionMember { id: id.0, name, region, zone, is_learner, connected, lag }
        });
        Ok(RegionsShowResponse {
            header: None,
            account: account.map(|account| account.to_wire()),
            members: rows.collect(),
            leader: leader.map_or(0, |leader| leader.0),
            leader_region: leader.map_or("", |id| &members.labels(id).region).to_owned(),
            leader_answered: seen.is_some(),
        })
    }

    /// The account with other priorities; the leader is in the write region then.
    ///
    /// # Errors
    /// See [`Rejection`]; or the leader did not do it in time.
    pub async fn set_priorities(
        &self,
        request: &RegionsSetPrioritiesRequest,
    ) -> Result<wire::Account, Error> {
        let order = order(&request.locations)?;
        let change = |account: Option<&Account>| existing(account)?.with_priorities(order.clone());
        self.change(request.force, Move::ToWriteRegion, change).await
    }

    /// The account with this region as the write region; the leader is there then.
    ///
    /// # Errors
    /// See [`Rejection`]; or the leader did not do it in time.
    pub async fn failover(&self, request: &RegionsFailoverRequest) -> Result<wire::Account, Error> {
        let name = &request.location_name;
        let change = |account: Option<&Account>| existing(account)?.with_write_region(name);
        self.change(request.force, Move::ToWriteRegion, change).await
    }

    /// The account without this region; nobody there leads then.
    ///
    /// # Errors
    /// See [`Rejection`]; or the leader did not do it in time.
    pub async fn offline(&self, request: &RegionsOfflineRequest) -> Result<wire::Account, Error> {
        let name = &request.location_name;
        let change = |account: Option<&Account>| existing(account)?.with_offline(name);
        self.change(request.force, Move::OutOf(name), change).await
    }

    /// The account with this region behind all others that are online.
    ///
    /// # Errors
    /// See [`Rejection`]; or the leader did not do it in time.
    pub async fn online(&self, request: &RegionsOnlineRequest) -> Result<wire::Account, Error> {
        let change =
            |account: Option<&Account>| existing(account)?.with_online(&request.location_name);
        self.change(false, Move::Nothing, change).await
    }

    /// The first account, or one that says something else. The leader follows by itself.
    ///
    /// # Errors
    /// See [`Rejection`]; or the leader did not do it in time.
    pub async fn configure(
        &self,
        request: &RegionsConfigureRequest,
    ) -> Result<wire::Account, Error> {
        let order = match request.locations.is_empty() {
            true => None,
            false => Some(order(&request.locations)?),
        };
        let automatic = request.enable_automatic_failover;
        let failback = request.failback.as_ref().map(Failback::from_wire);
        let change = |account: Option<&Account>| match (account, order.clone()) {
            (None, None) => Err(Rejection::NoAccount),
            (None, Some(order)) => {
                let first = Account::new(order)?;
                Ok(Account { version: 1, ..first.with_rules(automatic, failback) })
            }
            (Some(account), None) => Ok(account.with_rules(automatic, failback)),
            (Some(account), Some(order)) => {
                let moved = account.with_locations(order)?.with_rules(automatic, failback);
                Ok(Account { version: account.version + 1, ..moved })
            }
        };
        self.change(false, Move::Nothing, change).await
    }

    /// Works a change out and makes it. With `force` and without a leader, a member of the region
    /// that is to be the write region stands for election first.
    async fn change(
        &self,
        force: bool,
        moves: Move<'_>,
        change: impl Fn(Option<&Account>) -> Result<Account, Rejection>,
    ) -> Result<wire::Account, Error> {
        if force && self.membership.leader.now().is_none() {
            let known = self.account(Freshness::Any).await?;
            let after = change(known.as_ref()).map_err(rejected)?;
            self.force_leader(after.write_region()).await?;
        }
        for _ in 0..ATTEMPTS {
            let before = self.account(Freshness::Linearizable).await?;
            let after = change(before.as_ref()).map_err(rejected)?;
            if let Some(before) = &before {
                if before.says_the_same(&after) {
                    return Ok(before.to_wire());
                }
                self.make_way(before, &after, moves).await?;
            }
            let set = AccountSet { account: Some(after.to_wire()) };
            match self.membership.proposer.command(Operation::AccountSet(set)).await {
                Ok(_) => return Ok(after.to_wire()),
                Err(error) if error == rejected(Rejection::Changed) => (),
                Err(error) => return Err(error),
            }
        }
        Err(rejected(Rejection::Changed))
    }

    async fn make_way(
        &self,
        before: &Account,
        after: &Account,
        moves: Move<'_>,
    ) -> Result<(), Error> {
        match moves {
            Move::Nothing => Ok(()),
            Move::ToWriteRegion if before.write_region() == after.write_region() => Ok(()),
            Move::ToWriteRegion => self.lead_from(after.write_region()).await,
            Move::OutOf(region) => {
                let view = self.membership.reader.view(Freshness::Any).await?;
                let leader = self.membership.leader.now().ok_or(Error::NoLeader)?;
                if view.members()?.labels(leader).region != region {
                    return Ok(());
                }
                drop(view);
                let mut refused = rejected(Rejection::LastOnline(region.to_owned()));
                for location in after.locations.iter().filter(|location| !location.offline) {
                    match self.lead_from(&location.name).await {
                        Ok(()) => return Ok(()),
                        Err(error @ Error::Rejected(_)) => refused = error,
                        Err(error) => return Err(error),
                    }
                }
                Err(refused)
            }
        }
    }

    /// Has the leader hand over to a member of this region, if it is not there itself.
    async fn lead_from(&self, region: &str) -> Result<(), Error> {
        let ask = RegionLead { region: region.to_owned() };
        let asked = self
            .membership
            .leader
            .ask(request::Request::RegionLead(ask), self.membership.timeout + ANSWER_TIME);
        let outcome = match asked.await {
            Ok(reply::Reply::RegionLead(reply)) => reply.outcome(),
            Ok(_) | Err(AskError::ConnectionLost) => return Err(Error::LeaderChanged),
            Err(AskError::NoLeader) => return Err(Error::NoLeader),
            Err(AskError::Timeout) => return Err(Error::Timeout),
        };
        match outcome {
            Outcome::Done => Ok(()),
            Outcome::NobodyReady => Err(rejected(Rejection::NobodyReady(region.to_owned()))),
            Outcome::NotTaken => Err(rejected(Rejection::NotTaken(region.to_owned()))),
        }
    }

    /// Has members stand for election one after the other, those of this region first, until one
    /// leads. Safe as every election is: it wins only with the votes of a quorum, none of which has
    /// more of the log. So it may have to be a member of another region, which then hands over.
    async fn force_leader(&self, region: &str) -> Result<(), Error> {
        let Membership { raft, leader, reader, .. } = &self.membership;
        let members = reader.view(Freshness::Any).await?.members()?;
        let is_reached =
            |id: &MemberId| *id == raft.id() || raft.connected_for(*id, Duration::ZERO);
        let voters = members.rows.iter().filter(|row| !row.member.is_learner);
        let mut ids: Vec<MemberId> =
            voters.map(|row| MemberId(row.member.id)).filter(is_reached).collect();
        ids.sort_by_key(|id| members.labels(*id).region != region);
        for id in ids {
            if self.leads_when_told(id).await || leader.now().is_some() {
                return Ok(());
            }
        }
        Err(Error::NoLeader)
    }

    async fn leads_when_told(&self, member: MemberId) -> bool {
        if member == self.membership.raft.id() {
            return self.placement.campaign().await;
        }
        let request = peer::Request { request: Some(request::Request::Campaign(Campaign {})) };
        let encoded = Bytes::from(request.encode_to_vec());
        let limit = self.membership.timeout + ANSWER_TIME;
        let Ok(answer) = self.membership.raft.call(member, encoded, limit).await else {
            return false;
        };
        let answer = peer::Reply::decode(answer).ok().and_then(|reply| reply.reply);
        matches!(answer, Some(reply::Reply::Campaign(reply)) if reply.leads)
    }

    async fn account(&self, freshness: Freshness) -> Result<Option<Account>, Error> {
        Ok(self.membership.reader.view(freshness).await?.account()?)
    }
}

fn existing(account: Option<&Account>) -> Result<&Account, Rejection> {
    account.ok_or(Rejection::NoAccount)
}

fn order(locations: &[wire::Location]) -> Result<Vec<String>, Error> {
    let priority = |location: &'_ wire::Location| location.failover_priority;
    let named = locations.iter().map(|it| (it.location_name.as_str(), priority(it)));
    in_order(named).map_err(rejected)
}

fn rejected(rejection: Rejection) -> Error {
    Error::Rejected(state_machine::Rejection::Region(rejection))
}
