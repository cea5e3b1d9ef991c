//! Who a caller is, and what it may do now: passwords, tokens and certificates.
//!
//! Everything that costs time or needs a clock or a secret happens here, before a command is
//! proposed: hashing a password takes some fifty milliseconds, on a thread of its own.

mod jwt;
mod password;
mod simple;

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};

pub use self::jwt::{Error as JwtError, Files as JwtFiles, Jwt};
pub(crate) use self::simple::Tokens;
use self::{password::Passwords, simple::Token};
use crate::{
    auth::{self, Access, Asker, Rejection},
    node::{Caller, Error, Freshness, Proposer, Reader},
    proto::{
        command::{Authenticate, command::Operation},
        etcdserverpb::{AuthUserAddRequest, AuthUserChangePasswordRequest},
    },
    raft::Raft,
    state_machine::{Denied, InForce, Judge, Reply, View},
    storage::Storage,
    types::{KeyRange, Revision},
};

/// How often it is looked whether this member has applied as much as a token asks for.
const TOKEN_POLL: Duration = Duration::from_millis(5);

/// How whoever asks says who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    pub token: Option<String>,
    /// The name in a certificate that has been verified; empty if it has none.
    pub common_name: Option<Arc<str>>,
}

/// What the flags say about credentials.
#[derive(Clone)]
pub struct Options {
    pub tokens: TokenKind,
    /// etcd's bcrypt-cost: the hash of a password takes two to the power of this many rounds.
    pub bcrypt_cost: u32,
    /// Whether the name in a client's certificate is that of a user: etcd's client-cert-auth.
    pub by_common_name: bool,
}

/// What a token is.
#[derive(Clone)]
pub enum TokenKind {
    /// There are none: users come in by certificate alone.
    None,
    /// A secret that all members remember for so long since it was last used.
    Simple { ttl: Duration },
    /// Signed, and valid wherever the key is.
    Jwt(Arc<Jwt>),
}

impl Default for Options {
    fn default() -> Options {
        Options {
            tokens: TokenKind::Simple { ttl: Duration::from_mins(5) },
            bcrypt_cost: 10,
            by_common_name: false,
        }
    }
}

impl Options {
    /// How long a simple token is remembered.
    pub(crate) fn token_ttl(&self) -> Duration {
        match self.tokens {
            TokenKind::Simple { ttl } => ttl,
            TokenKind::None | TokenKind::Jwt(_) => Duration::ZERO,
        }
    }
}

/// What somebody must be for a call to be let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody in particular, but a token that is shown must be a good one.
    Anybody,
    User,
    Root,
}

/// Knows callers by their credentials. Clones share everything.
#[derive(Clone)]
pub struct Credentials(Arc<Shared>);

struct Shared {
    parts: Parts,
    passwords: Passwords,
}

/// What credentials are checked with.
pub(crate) struct Parts {
    pub(crate) options: Options,
    pub(crate) tokens: Tokens,
    pub(crate) in_force: InForce,
    pub(crate) storage: Storage,
    pub(crate) raft: Raft,
    pub(crate) proposer: Proposer,
    pub(crate) reader: Reader,
    pub(crate) timeout: Duration,
}

/// A user that has come in.
struct Known {
    user: String,
    /// When it did, as its token says; `None` for one who is checked afresh each time.
    auth_revision: Option<u64>,
}

impl Credentials {
    pub(crate) fn new(parts: Parts) -> Credentials {
        let passwords = Passwords::new(parts.options.bcrypt_cost);
        Credentials(Arc::new(Shared { parts, passwords }))
    }

    fn parts(&self) -> &Parts {
        &self.0.parts
    }

    /// In whose name a command is proposed. Without authentication everybody is nobody.
    ///
    /// # Errors
    /// The token is not valid, or the store can't be read.
    pub async fn caller(&self, who: &Who) -> Result<Caller, Error> {
        let Parts { in_force, storage, .. } = self.parts();
        if !in_force.now(storage)?.state().enabled {
            return Ok(Caller::default());
        }
        let Some(known) = self.known(who).await? else { return Ok(Caller::default()) };
        // Afterwards: a token may have had to wait until this member had applied more.
        let now = in_force.now(storage)?.state().revision;
        Ok(Caller { auth_revision: known.auth_revision.unwrap_or(now), user: known.user })
    }

    /// Whether somebody may do what needs no key, by the rules as this member has them now.
    ///
    /// # Errors
    /// It may not, the token is not valid, or the store can't be read.
    pub async fn require(&self, who: &Who, standing: Standing) -> Result<(), Error> {
        let Parts { in_force, storage, .. } = self.parts();
        if !in_force.now(storage)?.state().enabled {
            return Ok(());
        }
        let caller = self.caller(who).await?;
        let rules = in_force.now(storage)?;
        match standing {
            Standing::Anybody => Ok(()),
            Standing::User => Ok(rules.check_user(caller.asker())?),
            Standing::Root => Ok(rules.check_root(caller.asker())?),
        }
    }

    /// Whether somebody may watch a range from now on.
    ///
    /// # Errors
    /// It may not, the token is not valid, or the store can't be read.
    pub async fn may_watch(&self, who: &Who, range: &KeyRange) -> Result<(), Error> {
        let Parts { in_force, storage, .. } = self.parts();
        if !in_force.now(storage)?.state().enabled {
            return Ok(());
        }
        let caller = self.caller(who).await?;
        Ok(in_force.now(storage)?.check(caller.asker(), Access::Read, range)?)
    }

    /// Whether somebody may read something from a view, by the rules of that very view.
    ///
    /// # Errors
    /// It may not, the token is not valid, or the store can't be read.
    pub async fn check(
        &self,
        who: &Who,
        view: &View,
        may: impl FnOnce(Judge<'_>) -> Result<(), Denied>,
    ) -> Result<(), Error> {
        let Some(rules) = self.parts().in_force.of(view)? else { return Ok(()) };
        let state = rules.state();
        if !state.enabled {
            return Ok(());
        }
        let caller = match self.known(who).await? {
            None => Caller::default(),
            Some(Known { user, auth_revision }) => {
                Caller { user, auth_revision: auth_revision.unwrap_or(state.revision) }
            }
        };
        Ok(may(view.judge(&rules, caller.asker()))?)
    }

    /// Whether authentication is enabled, as this member has it.
    ///
    /// # Errors
    /// The store can't be read.
    pub fn is_enabled(&self) -> Result<bool, Error> {
        Ok(self.parts().in_force.now(&self.parts().storage)?.state().enabled)
    }

    /// `None` for nobody. Asked only while authentication is enabled.
    async fn known(&self, who: &Who) -> Result<Option<Known>, Error> {
        if let Some(token) = &who.token {
            return self.by_token(token).await.map(Some);
        }
        let name = who.common_name.as_ref().filter(|_| self.parts().options.by_common_name);
        Ok(name.map(|name| Known { user: name.as_ref().to_owned(), auth_revision: None }))
    }

    async fn by_token(&self, token: &str) -> Result<Known, Error> {
        match &self.parts().options.tokens {
            TokenKind::None => Err(Error::InvalidToken),
            TokenKind::Jwt(jwt) => {
                let (user, auth_revision) = jwt.verify(token).ok_or(Error::InvalidToken)?;
                Ok(Known { user, auth_revision: Some(auth_revision) })
            }
            TokenKind::Simple { .. } => {
                let token = Token::parse(token).ok_or(Error::InvalidToken)?;
                self.applied(token.index).await?;
                let user = self.parts().tokens.user(&token, Instant::now());
                Ok(Known { user: user.ok_or(Error::InvalidToken)?, auth_revision: None })
            }
        }
    }

    /// Returns when this member has applied the entry that gave a token, so that a token is good
    /// at every member as soon as it is given.
    async fn applied(&self, index: u64) -> Result<(), Error> {
        let deadline = Instant::now() + self.parts().timeout;
        // What an invented token asks for may never come; nothing must be left behind then.
        while self.parts().raft.applied().index() < index {
            if Instant::now() >= deadline {
                return Err(Error::InvalidToken);
            }
            sleep(TOKEN_POLL).await;
        }
        Ok(())
    }

    /// A token for a user with this password, and the revision of the key space.
    ///
    /// # Errors
    /// Authentication is off, there is no such user, or it has another password.
    pub async fn authenticate(
        &self,
        name: &str,
        password: &str,
    ) -> Result<(String, Revision), Error> {
        let deadline = Instant::now() + self.parts().timeout;
        loop {
            let trying = self.try_to_authenticate(name, password);
            let token = timeout_at(deadline, trying).await.map_err(|_| Error::Timeout)?;
            let stale = Error::Rejected(Rejection::OldRevision.into());
            match token {
                // Something was changed while the password was checked: it is checked again.
                Err(error) if error == stale => (),
                Ok(_) | Err(_) => return token,
            }
        }
    }

    async fn try_to_authenticate(
        &self,
        name: &str,
        password: &str,
    ) -> Result<(String, Revision), Error> {
        let view = self.parts().reader.view(Freshness::Linearizable).await?;
        let state = view.auth()?;
        if !state.enabled {
            return Err(Rejection::NotEnabled.into());
        }
        let user = view.user(name)?;
        let revision = view.keys().revision();
        drop(view);
        if user.as_ref().is_some_and(auth::has_no_password) {
            return Err(Rejection::NoPasswordUser.into());
        }
        if !self.0.passwords.is_right(password, user.map(|user| user.password)).await? {
            return Err(Rejection::AuthenticationFailed.into());
        }
        match &self.parts().options.tokens {
            TokenKind::None => Err(Rejection::AuthenticationFailed.into()),
            TokenKind::Jwt(jwt) => {
                let token = jwt.sign(name, state.revision).ok_or(Error::VerifyOnly)?;
                Ok((token, revision))
            }
            TokenKind::Simple { .. } => self.give_token(name, state.revision).await,
        }
    }

    async fn give_token(
        &self,
        name: &str,
        auth_revision: u64,
    ) -> Result<(String, Revision), Error> {
        let secret = simple::secret();
        let secret_digest = Bytes::copy_from_slice(&simple::digest(&secret));
        let give = Authenticate { name: name.to_owned(), secret_digest, auth_revision };
        match self.parts().proposer.command(Operation::Authenticate(give)).await? {
            (Reply::TokenGiven { index }, revision) => Ok((format!("{secret}.{index}"), revision)),
            _ => Err(Error::Stopped),
        }
    }

    /// The request with the password's hash in place of the password.
    ///
    /// # Errors
    /// The password is too long.
    pub async fn hash_new(
        &self,
        mut request: AuthUserAddRequest,
    ) -> Result<AuthUserAddRequest, Error> {
        let password = std::mem::take(&mut request.password);
        if !request.options.as_ref().is_some_and(|options| options.no_password) {
            request.hashed_password = self.hash(password).await?;
        }
        Ok(request)
    }

    /// The same. As in etcd a request may bring a hash instead of a password.
    ///
    /// # Errors
    /// The password is too long.
    pub async fn hash_changed(
        &self,
        mut request: AuthUserChangePasswordRequest,
    ) -> Result<AuthUserChangePasswordRequest, Error> {
        let password = std::mem::take(&mut request.password);
        if !password.is_empty() {
            request.hashed_password = self.hash(password).await?;
        }
        Ok(request)
    }

    async fn hash(&self, password: String) -> Result<String, Error> {
        Ok(STANDARD.encode(self.0.passwords.hash(password).await?))
    }
}

impl Caller {
    fn asker(&self) -> Asker<'_> {
        Asker { user: &self.user, auth_revision: self.auth_revision }
    }
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Error {
        Error::Rejected(rejection.into())
    }
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Error {
        match denied {
            Denied::Rejected(rejection) => Error::Rejected(rejection),
            Denied::Storage(error) => Error::Storage(error),
        }
    }
}
