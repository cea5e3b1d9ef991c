//! How a member becomes known: to the cluster by founding it and telling its name, to its own
//! connections by the membership list.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::sync::watch;
use tracing::{debug, warn};

use crate::{
    cluster::{Labels, Members},
    node::{Node, Options},
    proto::{
        command::{Bootstrap, MemberPublish, command::Operation},
        etcdserverpb::Member,
    },
    raft::{Peers, Raft},
    types::MemberId,
};

/// What a member tells the cluster of itself.
pub(crate) struct Introduction {
    /// Not empty when the cluster is new.
    founders: Vec<Member>,
    name: String,
    client_urls: Vec<String>,
    labels: Labels,
    incarnation: u64,
}

impl Introduction {
    pub(crate) fn new(options: &Options, founders: Vec<Member>) -> Introduction {
        Introduction {
            founders,
            name: options.name.clone(),
            client_urls: options.client_urls.clone(),
            labels: options.labels.clone(),
            incarnation: options.incarnation,
        }
    }
}

/// How long to wait before trying again what the cluster did not take.
const INTRODUCE_RETRY: Duration = Duration::from_millis(100);

/// Founds the cluster if it is new, and makes this member known to it: its name, its client URLs,
/// where it stands.
pub(crate) async fn introduce(
    node: Node,
    raft: Raft,
    mut members: watch::Receiver<Arc<Members>>,
    introduction: Introduction,
) {
    let Introduction { founders, name, client_urls, labels, incarnation } = introduction;
    if !founders.is_empty() {
        let ids: Vec<MemberId> = founders.iter().map(|member| MemberId(member.id)).collect();
        if raft.initialize(&ids).await.is_err() {
            return;
        }
    }
    let id = node.identity.member;
    while !raft.is_stopped() {
        let known = members.borrow_and_update().clone();
        let row = known.rows.iter().find(|row| row.member.id == id.0);
        let operation = match row {
            // Every founder proposes it, and the first one counts.
            None if known.cluster.is_none() && !founders.is_empty() => {
                Operation::Bootstrap(Bootstrap {
                    cluster_id: node.identity.cluster.0,
                    members: founders.clone(),
                })
            }
            Some(row)
                if row.member.name != name
                    || row.member.client_ur_ls != client_urls
                    || row.incarnation != Some(incarnation)
                    || *known.labels(id) != labels =>
            {
                Operation::MemberPublish(MemberPublish {
                    id: id.0,
                    name: name.clone(),
                    client_urls: client_urls.clone(),
                    incarnation,
                    labels: Some(labels.clone()),
                })
            }
            // Nothing to say, or nothing is known of this member yet: what comes will tell.
            None | Some(_) => {
                if members.changed().await.is_err() {
                    return;
                }
                continue;
            }
        };
        if let Err(error) = node.proposer.command(operation).await {
            debug!(%error, "the cluster does not know this member yet");
            tokio::time::sleep(INTRODUCE_RETRY).await;
        }
    }
}

/// Keeps the connections' address book in line with the membership list and with Raft's membership,
/// which follows it.
pub(crate) async fn address_members(
    peers: Peers,
    mut members: watch::Receiver<Arc<Members>>,
    mut participants: watch::Receiver<BTreeSet<MemberId>>,
) {
    loop {
        {
            let (members, participants) =
                (members.borrow_and_update(), participants.borrow_and_update());
            for row in &members.rows {
                set_addresses(&peers, &row.member);
            }
            for row in &members.removed {
                match participants.contains(&MemberId(row.member.id)) {
                    true => set_addresses(&peers, &row.member),
                    false => peers.remove(MemberId(row.member.id)),
                }
            }
        }
        let changed = tokio::select! {
            changed = members.changed() => changed,
            changed = participants.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

pub(crate) fn set_addresses(peers: &Peers, member: &Member) {
    let mut addresses = Vec::new();
    for url in &member.peer_ur_ls {
        match url.parse() {
            Ok(address) => addresses.push(address),
            Err(error) => warn!(member = %MemberId(member.id), %error, "cannot dial a peer URL"),
        }
    }
    peers.set_addresses(MemberId(member.id), addresses);
}
