//! Simple tokens: sixteen random letters, and the index of the log entry that gave the token.
//!
//! Every member that applies that entry remembers the token in memory, each for its own time. What
//! it remembers, like what is in the log, is a digest of the letters.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use rand::seq::IndexedRandom;
use ring::digest::SHA256;
use tokio::time::Instant;

use crate::auth::Change;

const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const SECRET_LENGTH: usize = 16;

/// Tokens remembered at one time, some fifty megabytes. Each has cost its owner a password's hash,
/// so that nobody collects so many; beyond them the one that would end next is forgotten.
const TOKENS_MAX: usize = 1 << 18;

/// The end of a token's life is put off no more often than this.
const RESOLUTION: Duration = Duration::from_secs(1);

type Digest = [u8; 32];

/// What a client shows.
pub(super) struct Token {
    secret_digest: Digest,
    pub(super) index: u64,
}

impl Token {
    pub(super) fn parse(text: &str) -> Option<Token> {
        let (secret, index) = text.split_once('.')?;
        let is_number = !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit());
        let index = index.parse().ok().filter(|_| is_number)?;
        Some(Token { secret_digest: digest(secret), index })
    }
}

/// The random part of a new token.
pub(super) fn secret() -> String {
    let mut random = rand::rng();
    let letter = || LETTERS.choose(&mut random).copied().map(char::from);
    std::iter::repeat_with(letter).take(SECRET_LENGTH).flatten().collect()
}

pub(super) fn digest(secret: &str) -> Digest {
    let digest = ring::digest::digest(&SHA256, secret.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// The tokens that this member has seen given. Clones share them.
#[derive(Clone)]
pub(crate) struct Tokens {
    ttl: Duration,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    by_name: HashMap<Name, Held>,
    /// By when they end.
    ends: BTreeSet<(Instant, Name)>,
}

type Name = (u64, Digest);

struct Held {
    user: String,
    ends: Instant,
}

impl Tokens {
    pub(crate) fn new(ttl: Duration) -> Tokens {
        Tokens { ttl, known: Arc::default() }
    }

    /// Told by the apply thread, in the order of the log.
    pub(crate) fn applied(&self, change: &Change, now: Instant) {
        let mut known = self.lock();
        match change {
            Change::Enabled | Change::Disabled => *known = Known::default(),
            Change::TokenGiven { user, secret_digest, index } => {
                // One of another length has no owner.
                let Ok(digest) = secret_digest.as_ref().try_into() else { return };
                known.remember((*index, digest), user.clone(), now, now + self.ttl);
            }
            Change::LoggedOut(user) => known.forget_user(user),
        }
    }

    /// Whose token it is; it lives on from now.
    pub(super) fn user(&self, token: &Token, now: Instant) -> Option<String> {
        let mut known = self.lock();
        known.forget_ended(now);
        let name = (token.index, token.secret_digest);
        let Known { by_name, ends } = &mut *known;
        let held = by_name.get_mut(&name)?;
        let until = now + self.ttl;
        if until.duration_since(held.ends) >= RESOLUTION {
            ends.remove(&(held.ends, name));
            ends.insert((until, name));
            held.ends = until;
        }
        Some(held.user.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no code panics while it holds this lock")
    }
}

impl Known {
    fn remember(&mut self, name: Name, user: String, now: Instant, ends: Instant) {
        self.forget_ended(now);
        if self.by_name.len() >= TOKENS_MAX
            && let Some((_, next)) = self.ends.pop_first()
        {
            self.by_name.remove(&next);
        }
        self.by_name.insert(name, Held { user, ends });
        self.ends.insert((ends, name));
    }

    fn forget_ended(&mut self, now: Instant) {
        while let Some((ends, name)) = self.ends.first().copied()
            && ends <= now
        {
            self.ends.remove(&(ends, name));
            self.by_name.remove(&name);
        }
    }

    fn forget_user(&mut self, user: &str) {
        self.by_name.retain(|_, held| held.user != user);
        self.ends.retain(|(_, name)| self.by_name.contains_key(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn give(tokens: &Tokens, user: &str, secret: &str, index: u64, now: Instant) {
        let secret_digest = bytes::Bytes::copy_from_slice(&digest(secret));
        tokens.applied(&Change::TokenGiven { user: user.to_owned(), secret_digest, index }, now);
    }

    fn user(tokens: &Tokens, token: &str, now: Instant) -> Option<String> {
        tokens.user(&Token::parse(token).unwrap(), now)
    }

    #[test]
    fn a_secret_has_sixteen_letters_of_its_own() {
        let (one, other) = (secret(), secret());
        assert_ne!(one, other);
        assert_eq!(one.len(), 16);
        assert!(one.bytes().all(|byte| byte.is_ascii_alphabetic()));
    }

    #[test]
    fn only_what_looks_like_a_token_is_looked_up() {
        for text in ["", ".", "a", "a.", "a.b", "a.1.2", "a.-1", "a.+1", "a.18446744073709551616"] {
            assert!(Token::parse(text).is_none(), "{text}");
        }
        assert_eq!(Token::parse("abc.17").unwrap().index, 17);
    }

    #[test]
    fn a_token_is_good_for_its_time_since_it_was_last_used() {
        let tokens = Tokens::new(TTL);
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        give(&tokens, "u", "abc", 7, start);
        assert_eq!(user(&tokens, "abc.7", at(9)), Some("u".to_owned()));
        assert_eq!(user(&tokens, "abc.8", at(9)), None);
        assert_eq!(user(&tokens, "abd.7", at(9)), None);
        assert_eq!(user(&tokens, "abc.7", at(18)), Some("u".to_owned()));
        assert_eq!(user(&tokens, "abc.7", at(28)), None);
        assert_eq!(user(&tokens, "abc.7", at(18)), None, "it is forgotten");
        assert!(tokens.lock().ends.is_empty());
    }

    #[test]
    fn who_is_changed_is_logged_out() {
        let tokens = Tokens::new(TTL);
        let now = Instant::now();
        give(&tokens, "u", "one", 1, now);
        give(&tokens, "v", "two", 2, now);
        tokens.applied(&Change::LoggedOut("u".to_owned()), now);
        assert_eq!(user(&tokens, "one.1", now), None);
        assert_eq!(user(&tokens, "two.2", now), Some("v".to_owned()));
        tokens.applied(&Change::Disabled, now);
        assert_eq!(user(&tokens, "two.2", now), None);
        assert!(tokens.lock().ends.is_empty() && tokens.lock().by_name.is_empty());
    }
}
