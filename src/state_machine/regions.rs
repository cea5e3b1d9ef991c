//! The account of regions.

use super::{Failure, Rejection, apply::Effects};
use crate::{
    cluster::Members,
    proto::command::AccountSet,
    region::{self, Account, Stand, check_locations, check_write_region, table},
    storage::Batch,
    types::MemberId,
};

/// An account follows the one that it was made on top of. Where members stand is looked at when it
/// has other regions, or another write region, than before: what it has said so far it may go on
/// to say, whoever has left since.
pub(super) fn set(batch: &mut Batch<'_>, request: &AccountSet) -> Result<Effects, Failure> {
    let message = request.account.as_ref();
    let message = message.ok_or(Rejection::Malformed("an account that is none"))?;
    let account = Account::from_wire(message)?;
    let before = table::read(batch)?;
    if account.version != before.as_ref().map_or(1, |before| before.version + 1) {
        return Err(region::Rejection::Changed.into());
    }
    let members = Members::read(batch)?;
    let stands = stands(&members);
    let before = before.as_ref();
    if before.is_none_or(|before| !has_same_regions(before, &account)) {
        check_locations(&account.locations, &stands)?;
    }
    if before.is_none_or(|before| before.write_region() != account.write_region()) {
        check_write_region(account.write_region(), &stands)?;
    }
    table::put(batch, &account);
    Ok(Effects { members_changed: true, ..Effects::done() })
}

fn has_same_regions(before: &Account, after: &Account) -> bool {
    before.locations.len() == after.locations.len()
        && after.locations.iter().all(|location| before.location(&location.name).is_some())
}

/// One that has never started has not said yet where it stands.
fn stands(members: &Members) -> Vec<Stand<'_>> {
    let started = members.rows.iter().filter(|row| row.incarnation.is_some());
    let stand = started.map(|row| Stand {
        member: &row.member.name,
        region: &members.labels(MemberId(row.member.id)).region,
        votes: !row.member.is_learner,
    });
    stand.collect()
}
