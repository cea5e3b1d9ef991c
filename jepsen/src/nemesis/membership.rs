//! A member is taken out, loses everything, and comes back as a new one.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{Breaker, Broken, START_DEADLINE};
use crate::{admin, history::MemberIndex};

const CHANGE_DEADLINE: Duration = Duration::from_secs(20);

impl Breaker {
    /// All of it happens while clients work; when it is over the cluster is as large as before.
    pub(super) async fn replace_a_member(&mut self, led: Option<MemberIndex>) -> Result<Broken> {
        let at = self.one(led);
        let others: Vec<_> = self.cluster.all().into_iter().filter(|other| *other != at).collect();
        let through = admin::some_leader(&self.cluster.all(), START_DEADLINE).await?;
        let through = if through == at { others[0] } else { through };
        let members = admin::members(through).await.context("member list")?;
        let name = format!("m{at}");
        let id = members.iter().find(|member| member.name == name).context("it is listed")?.id;
        admin::remove(through, id, CHANGE_DEADLINE).await.context("member remove")?;
        self.cluster.kill(at);
        let through = admin::some_leader(&others, START_DEADLINE).await?;
        let id = admin::add_learner(through, at, CHANGE_DEADLINE).await;
        let id = id.context("member add")?;
        let urls = admin::members(through).await.context("member list")?.into_iter();
        let named = urls.map(|member| {
            let name = if member.id == id { format!("m{at}") } else { member.name };
            format!("{name}={}", member.peer_ur_ls.join(","))
        });
        self.cluster.wipe(at, named.collect::<Vec<_>>().join(","))?;
        self.cluster.start(at)?;
        self.cluster.ready(at, START_DEADLINE).await?;
        admin::promote(through, id, CHANGE_DEADLINE).await.context("member promote")?;
        Ok(Broken {
            members: vec![at],
            detail: format!("{at} removed, wiped, added as a learner {id:x} and promoted"),
            quorum_lives: true,
            evidence: Some("the member has a new id and votes".to_owned()),
        })
    }
}
