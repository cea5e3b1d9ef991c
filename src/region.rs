//! Regions: which of them leads, and who is to lead in it. Pure policy, without clocks.
//!
//! The words are those of Azure Resource Manager where it has one: an *account* lists *locations*
//! by *failover priority*, and the one with priority 0 is the *write region*, where the leader
//! should be.

mod account;
mod check;
mod placement;
pub mod table;
mod wire;

#[cfg(test)]
mod tests;

pub use account::{Account, Failback, Location};
pub use check::{Stand, check_locations, check_write_region, in_order};
pub use placement::{Fitness, Seen, Step, best_of_region, decide, may_campaign, successor};

/// What a name of a region or a zone must be, for messages.
pub const NAME_RULE: &str = "expected 1 to 63 of a-z, 0-9 and -";

const NAME_LENGTH_MAX: usize = 63;

/// Whether a region or a zone may have this name. Azure's names of locations are of this kind.
pub fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=NAME_LENGTH_MAX).contains(&text.len()) && text.bytes().all(is_part)
}

/// Why an account can't be as somebody wants it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error(
        "there is no account of regions yet; `orrery region configure --locations \
         eastus=0,westeurope=1,...` makes one"
    )]
    NoAccount,
    #[error("an account needs locations: name each region with its failover priority")]
    NoLocations,
    #[error("{0:?} is no name of a region: {NAME_RULE}")]
    BadName(String),
    #[error("region {0} is named twice")]
    NamedTwice(String),
    #[error(
        "failover priority {priority} is given to both {first} and {second}: each region needs one \
         of its own, from 0 to {most}"
    )]
    DuplicatePriority { priority: u32, first: String, second: String, most: u32 },
    #[error(
        "no region has failover priority {missing}: they must go from 0 to {most} without a gap"
    )]
    MissingPriority { missing: u32, most: u32 },
    #[error("no member stands in region {name}; members stand in: {known}")]
    UnknownRegion { name: String, known: String },
    #[error("region {0} is not in the account")]
    NotInAccount(String),
    #[error("region {0} is in the account and was not named: each needs its priority")]
    NotNamed(String),
    #[error(
        "voters stand in two regions only, {first} and {second}: if the one with more of them is \
         lost, so is the majority, and the other can neither lead nor write; start a voter, or a \
         witness, in a third region"
    )]
    TwoRegions { first: String, second: String },
    #[error("member {0} votes and does not say where it stands: start it with --region")]
    VoterWithoutRegion(String),
    #[error("region {0} can't be the write region: no voter stands there")]
    NoVoter(String),
    #[error("region {0} is offline: bring it online first")]
    Offline(String),
    #[error("region {0} is the only one that is not offline")]
    LastOnline(String),
    #[error(
        "no voter in region {0} is connected to the leader and has caught up: nobody there could \
         take over, and nothing was changed"
    )]
    NobodyReady(String),
    #[error("region {0} did not take over in time, and nothing was changed")]
    NotTaken(String),
    #[error("the account has been changed by somebody else meanwhile")]
    Changed,
}
