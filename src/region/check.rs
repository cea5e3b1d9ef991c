//! What can be wrong with the locations that somebody asks for.

use std::collections::BTreeSet;

use super::{Location, Rejection, is_name};

/// Where a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stand<'a> {
    pub member: &'a str,
    /// Empty when it does not say.
    pub region: &'a str,
    pub votes: bool,
}

/// The names by priority.
///
/// # Errors
/// A name or a priority is there twice, a priority is missing, or a name is none.
pub fn in_order<'a>(
    priorities: impl IntoIterator<Item = (&'a str, u32)>,
) -> Result<Vec<String>, Rejection> {
    let mut all: Vec<(u32, &str)> =
        priorities.into_iter().map(|(name, priority)| (priority, name)).collect();
    let mut names = BTreeSet::new();
    for (_, name) in &all {
        if !is_name(name) {
            return Err(Rejection::BadName((*name).to_owned()));
        }
        if !names.insert(*name) {
            return Err(Rejection::NamedTwice((*name).to_owned()));
        }
    }
    // Stable, so that of two with the same priority the one that came first is named first.
    all.sort_by_key(|(priority, _)| *priority);
    let most = u32::try_from(all.len()).unwrap_or(u32::MAX).saturating_sub(1);
    let mut pairs = all.iter().zip(all.iter().skip(1));
    if let Some((&(priority, first), (_, second))) = pairs.find(|(one, next)| one.0 == next.0) {
        let (first, second) = (first.to_owned(), (*second).to_owned());
        return Err(Rejection::DuplicatePriority { priority, first, second, most });
    }
    let gap = (0..).zip(&all).find(|(expected, (priority, _))| expected != priority);
    if let Some((missing, _)) = gap {
        return Err(Rejection::MissingPriority { missing, most });
    }
    Ok(all.into_iter().map(|(_, name)| name.to_owned()).collect())
}

/// Whether a cluster whose members stand so can have these regions.
///
/// # Errors
/// See [`Rejection`]: nobody stands there, or the loss of one region would stop the others anyhow.
pub fn check_locations(locations: &[Location], stands: &[Stand<'_>]) -> Result<(), Rejection> {
    let known: BTreeSet<&str> =
        stands.iter().map(|stand| stand.region).filter(|region| !region.is_empty()).collect();
    if let Some(other) = locations.iter().find(|location| !known.contains(location.name.as_str())) {
        let known = known.into_iter().collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() { "none, --region says where".to_owned() } else { known };
        return Err(Rejection::UnknownRegion { name: other.name.clone(), known });
    }
    let voters = || stands.iter().filter(|stand| stand.votes);
    if let Some(lost) = voters().find(|voter| voter.region.is_empty()) {
        return Err(Rejection::VoterWithoutRegion(lost.member.to_owned()));
    }
    let regions: BTreeSet<&str> = voters().map(|voter| voter.region).collect();
    if let [first, second] = regions.iter().collect::<Vec<_>>()[..] {
        let (first, second) = ((*first).to_owned(), (*second).to_owned());
        return Err(Rejection::TwoRegions { first, second });
    }
    Ok(())
}

/// Whether somebody could lead in the region where the leader should be.
///
/// # Errors
/// No voter stands there.
pub fn check_write_region(name: &str, stands: &[Stand<'_>]) -> Result<(), Rejection> {
    match stands.iter().any(|stand| stand.votes && stand.region == name) {
        true => Ok(()),
        false => Err(Rejection::NoVoter(name.to_owned())),
    }
}
