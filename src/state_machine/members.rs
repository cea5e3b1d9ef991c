//! Founding a cluster, and changing who belongs to it.

use std::collections::BTreeSet;

use super::{Failure, Rejection, Reply, apply::Effects};
use crate::{
    cluster::{Members, Row, table},
    proto::{
        command::{Bootstrap, ForceNewCluster, MemberAdd, MemberPublish},
        etcdserverpb::{Member, MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest},
    },
    storage::Batch,
    types::{ClusterId, MemberId},
};

/// Founds the cluster, once: every founding member may propose it, and the first one counts.
pub(super) fn bootstrap(batch: &mut Batch<'_>, request: Bootstrap) -> Result<Effects, Failure> {
    if Members::read(batch)?.cluster.is_some() {
        return Ok(Effects::done());
    }
    let ids: BTreeSet<u64> = request.members.iter().map(|member| member.id).collect();
    if ids.is_empty() || ids.contains(&0) || ids.len() != request.members.len() {
        return Err(Rejection::Malformed("founding members need ids of their own").into());
    }
    table::put_cluster(batch, ClusterId(request.cluster_id));
    for member in request.members {
        table::put(batch, &Row { member, incarnation: None });
    }
    Ok(Effects { members_changed: true, ..Effects::done() })
}

pub(super) fn add(batch: &mut Batch<'_>, request: MemberAdd) -> Result<Effects, Failure> {
    let member = match request.member {
        Some(member) if member.id != 0 => member,
        Some(_) | None => return Err(Rejection::Malformed("a member without an id").into()),
    };
    read(batch)?.check_add(&member, request.max_learners, request.strict)?;
    change(batch, Row { member, incarnation: None })
}

pub(super) fn remove(
    batch: &mut Batch<'_>,
    request: &MemberRemoveRequest,
) -> Result<Effects, Failure> {
    let id = MemberId(request.id);
    let row = read(batch)?.check_remove(id)?.clone();
    table::remove(batch, &row);
    changed(batch, row.member)
}

pub(super) fn update(
    batch: &mut Batch<'_>,
    request: MemberUpdateRequest,
) -> Result<Effects, Failure> {
    let members = read(batch)?;
    let mut row = members.check_update(MemberId(request.id), &request.peer_ur_ls)?.clone();
    row.member.peer_ur_ls = request.peer_ur_ls;
    change(batch, row)
}

pub(super) fn promote(
    batch: &mut Batch<'_>,
    request: &MemberPromoteRequest,
) -> Result<Effects, Failure> {
    let mut row = read(batch)?.check_promote(MemberId(request.id))?.clone();
    row.member.is_learner = false;
    change(batch, row)
}

/// A member does this at each start, so it mostly changes nothing.
pub(super) fn publish(batch: &mut Batch<'_>, request: MemberPublish) -> Result<Effects, Failure> {
    let members = read(batch)?;
    let id = MemberId(request.id);
    let before = members.check_publish(id, request.incarnation)?;
    let labels = request.labels.unwrap_or_default();
    let mut row = before.clone();
    row.member.name = request.name;
    row.member.client_ur_ls = request.client_urls;
    row.incarnation = Some(request.incarnation);
    let moved = labels != *members.labels(id);
    let members_changed = row != *before || moved;
    table::put(batch, &row);
    if moved {
        table::put_labels(batch, id, &labels);
    }
    Ok(Effects { members_changed, ..Effects::done() })
}

/// Leaves the list with one member, a voter. Doing so again changes nothing.
pub(super) fn force_new_cluster(
    batch: &mut Batch<'_>,
    request: ForceNewCluster,
) -> Result<Effects, Failure> {
    let member = match request.member {
        Some(member) if member.id != 0 => member,
        Some(_) | None => return Err(Rejection::Malformed("a member without an id").into()),
    };
    let members = Members::read(batch)?;
    if members.cluster.is_none() {
        table::put_cluster(batch, ClusterId(request.cluster_id));
    }
    let id = MemberId(member.id);
    for other in members.rows.iter().filter(|row| row.member.id != id.0) {
        table::remove(batch, other);
    }
    let known = members.get(id).or_else(|| members.removed(id)).cloned();
    let mut row = known.unwrap_or(Row { member, incarnation: None });
    row.member.is_learner = false;
    table::readmit(batch, &row);
    Ok(Effects { members_changed: true, ..Effects::done() })
}

fn read(batch: &Batch<'_>) -> Result<Members, Failure> {
    let members = Members::read(batch)?;
    if members.cluster.is_none() {
        return Err(Rejection::Malformed("the cluster is not founded yet").into());
    }
    Ok(members)
}

fn change(batch: &mut Batch<'_>, row: Row) -> Result<Effects, Failure> {
    table::put(batch, &row);
    changed(batch, row.member)
}

fn changed(batch: &Batch<'_>, member: Member) -> Result<Effects, Failure> {
    let members = Members::read(batch)?.list();
    let reply = Reply::Members { member, members };
    Ok(Effects { reply, members_changed: true, ..Effects::done() })
}
