//! How fresh a read has to be: what its client says in the metadata, or else what its identity, its
//! listener or the member has as default.
//!
//! A request may ask for less than its default and, explicitly, for nothing more. An unmodified
//! client says nothing but `serializable`, which is what most requests are: they cost one look at
//! the names of their headers.

mod metadata;
mod token;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use http::HeaderMap;
use tonic::{Request, Status, metadata::MetadataMap};

use self::{
    metadata::{Said, Word},
    token::Token,
};
use crate::{
    grpc::who,
    node::{
        Consistency, Credentials, Error, Fresh, Freshness, Identity, Node, Reader, StatusHandle,
    },
    types::{Level, Revision},
};

/// What reads get that say nothing, wherever it is not [`Consistency::Strong`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    pub member: Consistency,
    /// Whether requests may bring a [`ListenerDefault`].
    pub by_listener: bool,
    /// By the name of the user or, without authentication, in the client's certificate.
    pub identities: BTreeMap<String, Consistency>,
}

impl Defaults {
    fn are_any(&self) -> bool {
        self.member != Consistency::Strong || self.by_listener || !self.identities.is_empty()
    }
}

/// The default of the listener that a request came in by. Put into its extensions.
#[derive(Clone, Copy, Debug)]
pub struct ListenerDefault(pub Consistency);

/// What is wrong with what a request says of its consistency.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Wrong {
    #[error("{0} is not text")]
    NotText(&'static str),
    #[error(
        "{header}: {value:?} is not a level (strong, bounded, session, prefix, eventual or \
         latest-committed)"
    )]
    NotALevel { header: &'static str, value: String },
    #[error("{header}: {value:?} is not a whole number from 0 on")]
    NotANumber { header: &'static str, value: String },
    #[error(
        "{header}: {value:?} is neither a revision nor a session token \
         (cluster:epoch:revision)"
    )]
    NotAToken { header: &'static str, value: String },
    #[error("{0} is there more than once, or under two names, with different values")]
    SaidTwice(&'static str),
    #[error(
        "x-consistency: bounded says nothing without x-max-staleness-ms or \
         x-max-staleness-revisions"
    )]
    NoBound,
    #[error("x-max-staleness-ms and x-max-staleness-revisions are for bounded reads, not {0} ones")]
    BoundOf(&'static str),
    #[error(
        "the request asks for {asked}, which is stronger than what this client gets here \
         ({default}); a request may only ask for less, or for latest-committed"
    )]
    Exceeds { asked: Consistency, default: Consistency },
    #[error("the session token is of another cluster")]
    OtherCluster,
    #[error("the session token is of another epoch: the cluster has lost what the session saw")]
    OtherEpoch,
}

/// How fresh one read has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) level: Level,
    pub(crate) freshness: Freshness,
    /// Beside that the read sees this revision.
    floor: Option<Revision>,
    /// How long the client waits, if it says so.
    patience: Option<Duration>,
    /// Whether the answer tells how fresh it is.
    is_told: bool,
}

impl Asked {
    /// As an unmodified client asks.
    fn plainly(serializable: bool) -> Asked {
        let (level, freshness) = match serializable {
            true => (Level::Prefix, Freshness::Any),
            false => (Level::Strong, Freshness::Linearizable),
        };
        Asked { level, freshness, floor: None, patience: None, is_told: false }
    }

    /// Whether any member may answer, learners included.
    pub(crate) fn is_local(&self) -> bool {
        self.freshness == Freshness::Any && self.floor.is_none()
    }

    /// Returns once this member is so fresh.
    ///
    /// # Errors
    /// It did not become so in time.
    pub(crate) async fn reach(&self, reader: &Reader) -> Result<(), Error> {
        let patience = self.reach_floor(reader).await?;
        reader.reach(self.freshness, patience).await
    }

    /// How long the client still waits afterwards.
    async fn reach_floor(&self, reader: &Reader) -> Result<Option<Duration>, Error> {
        let Some(floor) = self.floor else { return Ok(self.patience) };
        let begun = Instant::now();
        reader.reach(Freshness::AtLeast(floor), self.patience).await?;
        Ok(self.patience.map(|patience| patience.saturating_sub(begun.elapsed())))
    }

    /// A view that is so fresh, and what the answer tells of it.
    ///
    /// # Errors
    /// This member did not become so fresh in time, or the store can't be read.
    pub(crate) async fn view(&self, reader: &Reader) -> Result<Fresh, Error> {
        if !self.is_told {
            let view = reader.view(self.freshness).await?;
            return Ok(Fresh { view, staleness: None });
        }
        let patience = self.reach_floor(reader).await?;
        reader.fresh_view(self.freshness, patience).await
    }
}

/// What an answer tells of its freshness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) revision: Revision,
    pub(crate) staleness: Option<Duration>,
}

/// Knows how fresh reads have to be. Clones share it.
#[derive(Clone)]
pub(crate) struct Levels(Arc<Shared>);

struct Shared {
    defaults: Defaults,
    /// Reads of this server's own say nothing, whatever the request says that they are made for.
    listens: bool,
    identity: Identity,
    status: StatusHandle,
    credentials: Credentials,
}

impl Levels {
    pub(crate) fn new(node: &Node, defaults: Defaults) -> Levels {
        for default in std::iter::once(&defaults.member).chain(defaults.identities.values()) {
            node.reader.prepare_for(*default);
        }
        Levels::made(node, defaults, true)
    }

    /// For what locks and elections read, who would not be what they are with less than all.
    pub(crate) fn always_strong(node: &Node) -> Levels {
        Levels::made(node, Defaults::default(), false)
    }

    fn made(node: &Node, defaults: Defaults, listens: bool) -> Levels {
        Levels(Arc::new(Shared {
            defaults,
            listens,
            identity: node.identity,
            status: node.status.clone(),
            credentials: node.credentials.clone(),
        }))
    }

    /// How fresh a read has to be that says `serializable` or not.
    ///
    /// # Errors
    /// What the request says makes no sense, or it asks for more than it may.
    pub(crate) async fn of<T>(
        &self,
        request: &Request<T>,
        serializable: bool,
    ) -> Result<Asked, Status> {
        let Shared { defaults, listens, .. } = &*self.0;
        let headers = request.metadata().as_ref();
        let says_something = *listens && metadata::says_something(headers);
        if !says_something && !defaults.are_any() {
            return Ok(Asked::plainly(serializable));
        }
        let default = self.default(request).await?;
        let said = if says_something { self.said(headers)? } else { Said::default() };
        if said == Said::default() && default == Consistency::Strong {
            return Ok(Asked::plainly(serializable));
        }
        Ok(asked(&said, default, serializable, metadata::patience(headers))?)
    }

    /// How fresh this member has to be when a stream of watchers is opened: no more than it is,
    /// unless the client says so.
    ///
    /// # Errors
    /// What the request says makes no sense, or it asks for more than it may.
    pub(crate) async fn of_stream<T>(&self, request: &Request<T>) -> Result<Asked, Status> {
        let headers = request.metadata().as_ref();
        if !metadata::says_something(headers) {
            return Ok(Asked::plainly(true));
        }
        let said = self.said(headers)?;
        if said == Said::default() {
            return Ok(Asked::plainly(true));
        }
        let default = self.default(request).await?;
        Ok(asked(&said, default, true, metadata::patience(headers))?)
    }

    fn said(&self, headers: &HeaderMap) -> Result<Said, Wrong> {
        let said = Said::read(headers)?;
        if let Some(token) = said.token {
            token.check(self.0.identity.cluster, self.0.status.epoch())?;
        }
        Ok(said)
    }

    /// The identity knows best what it is used for, then whoever opened the listener.
    async fn default<T>(&self, request: &Request<T>) -> Result<Consistency, Error> {
        let Shared { defaults, credentials, .. } = &*self.0;
        if !defaults.identities.is_empty() {
            let who = who::of(request);
            let caller = credentials.caller(&who).await?;
            let name = match caller.user.as_str() {
                "" => who.common_name.as_deref().unwrap_or_default(),
                user => user,
            };
            if let Some(default) = defaults.identities.get(name) {
                return Ok(*default);
            }
        }
        let listener = request.extensions().get::<ListenerDefault>();
        Ok(listener.map_or(defaults.member, |ListenerDefault(default)| *default))
    }

    /// Puts into the metadata of an answer how fresh it is, if it was asked in such words.
    pub(crate) fn tell(&self, asked: &Asked, facts: Facts, metadata: &mut MetadataMap) {
        if !asked.is_told {
            return;
        }
        let Shared { identity, status, .. } = &*self.0;
        let region = |member| status.labels(member).region;
        let leader = *status.leader().borrow();
        let token = Token {
            cluster: Some(identity.cluster),
            epoch: status.epoch(),
            revision: Some(facts.revision),
        };
        let staleness = facts.staleness.map(|age| age.as_nanos().div_ceil(1_000_000).to_string());
        for (name, value) in [
            ("x-applied-revision", Some(facts.revision.to_string())),
            ("x-staleness-ms", staleness),
            ("x-region", Some(region(identity.member))),
            ("x-leader-region", leader.map(region)),
            ("x-ms-session-token", Some(token.to_string())),
        ] {
            // Names of regions are ASCII, and a member without one says nothing of it.
            let value = value.filter(|value| !value.is_empty()).map(|value| value.parse());
            if let Some(Ok(value)) = value {
                metadata.insert(name, value);
            }
        }
    }
}

fn asked(
    said: &Said,
    default: Consistency,
    serializable: bool,
    patience: Option<Duration>,
) -> Result<Asked, Wrong> {
    let floor = said.token.and_then(|token| token.revision);
    let wanted = wanted(said, default, floor.is_some())?;
    let (freshness, level) = match wanted {
        Some(Wanted::LatestCommitted) => (Freshness::Linearizable, Level::Strong),
        Some(Wanted::Level(asked)) if asked.exceeds(default) => {
            return Err(Wrong::Exceeds { asked, default });
        }
        Some(Wanted::Level(asked)) => (freshness(asked, floor), asked.level()),
        // What an unmodified client can say; beside a weaker default it means nothing.
        None if serializable => (Freshness::Any, default.level().min(Level::Prefix)),
        None => (freshness(default, floor), default.level()),
    };
    let floor = floor.filter(|_| !matches!(freshness, Freshness::AtLeast(_)));
    Ok(Asked { level, freshness, floor, patience, is_told: true })
}

fn freshness(consistency: Consistency, floor: Option<Revision>) -> Freshness {
    match consistency {
        Consistency::Strong => Freshness::Linearizable,
        Consistency::Bounded(bound) => Freshness::Within(bound),
        // The first read of a session has seen nothing yet.
        Consistency::Session => floor.map_or(Freshness::Any, Freshness::AtLeast),
        Consistency::Prefix | Consistency::Eventual => Freshness::Any,
    }
}

/// What a request asks for explicitly.
enum Wanted {
    Level(Consistency),
    /// All that is committed, whatever the default is.
    LatestCommitted,
}

fn wanted(said: &Said, default: Consistency, has_session: bool) -> Result<Option<Wanted>, Wrong> {
    let bound = said.bound;
    let level = match said.word {
        Some(Word::Level(level)) => level,
        Some(Word::LatestCommitted) if bound.is_some() => return Err(Wrong::BoundOf("committed")),
        Some(Word::LatestCommitted) => return Ok(Some(Wanted::LatestCommitted)),
        None if bound.is_some() => Level::Bounded,
        None if has_session => Level::Session,
        None => return Ok(None),
    };
    if bound.is_some() && level != Level::Bounded {
        return Err(Wrong::BoundOf(level.name()));
    }
    let consistency = match level {
        Level::Strong => Consistency::Strong,
        Level::Bounded => match (bound, default) {
            (Some(bound), _) => Consistency::Bounded(bound),
            (None, Consistency::Bounded(_)) => default,
            (None, _) => return Err(Wrong::NoBound),
        },
        Level::Session => Consistency::Session,
        // Whoever shows a token wants to see what it has seen.
        Level::Prefix | Level::Eventual if has_session => Consistency::Session,
        Level::Prefix => Consistency::Prefix,
        Level::Eventual => Consistency::Eventual,
    };
    Ok(Some(Wanted::Level(consistency)))
}

#[cfg(test)]
mod tests;
