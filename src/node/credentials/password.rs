//! Passwords, hashed with bcrypt as etcd hashes them.

use std::{sync::Arc, thread::available_parallelism};

use bcrypt::Version;
use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::node::Error;

/// What etcd lets a password have, in bytes.
const PASSWORD_BYTES_MAX: usize = 72;

/// Stands for the password of a user that does not exist.
const NOBODY: &str = "nobody";

/// Hashes and compares. Clones share the threads' places.
#[derive(Clone)]
pub(super) struct Passwords {
    cost: u32,
    /// One for each processor, so that a flood of passwords takes no more. Whoever waits for a
    /// place has a time limit of its own, and holds nothing.
    places: Arc<Semaphore>,
}

impl Passwords {
    pub(super) fn new(cost: u32) -> Passwords {
        let places = available_parallelism().map_or(1, Into::into);
        Passwords { cost, places: Arc::new(Semaphore::new(places)) }
    }

    /// # Errors
    /// The password is too long.
    pub(super) async fn hash(&self, password: String) -> Result<String, Error> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(Error::PasswordTooLong);
        }
        let cost = self.cost;
        self.aside(move || hash(&password, cost)).await?
    }

    /// Takes as long for a user that does not exist as for a wrong password.
    pub(super) async fn is_right(
        &self,
        password: &str,
        hash_of_user: Option<Bytes>,
    ) -> Result<bool, Error> {
        let (password, cost) = (password.to_owned(), self.cost);
        self.aside(move || match hash_of_user {
            Some(expected) => is_hash_of(&expected, &password),
            None => {
                // To be compared with nothing; a failure is no success either.
                let _ = hash(NOBODY, cost);
                false
            }
        })
        .await
    }

    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| Error::Stopped)?;
        let worked = tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        });
        worked.await.map_err(|_| Error::Stopped)
    }
}

fn hash(password: &str, cost: u32) -> Result<String, Error> {
    let parts = bcrypt::hash_with_result(password, cost).map_err(|_| Error::Stopped)?;
    // The version that Go writes.
    Ok(parts.format_for_version(Version::TwoA))
}

fn is_hash_of(expected: &[u8], password: &str) -> bool {
    let expected = std::str::from_utf8(expected).ok();
    expected.is_some_and(|expected| bcrypt::verify(password, expected).unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: u32 = 4;

    #[tokio::test]
    async fn a_password_is_known_by_its_hash() {
        let passwords = Passwords::new(CHEAP);
        for password in ["", "secret", &"x".repeat(72), "with\0nothing"] {
            let hash = passwords.hash(password.to_owned()).await.unwrap();
            assert!(hash.starts_with("$2a$04$"), "{hash}");
            let hash = Some(Bytes::from(hash));
            assert!(passwords.is_right(password, hash.clone()).await.unwrap());
            assert!(!passwords.is_right("wrong", hash).await.unwrap());
        }
    }

    /// Made by `golang.org/x/crypto/bcrypt`.
    #[test]
    fn what_go_has_hashed_is_known() {
        let hash = b"$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga";
        assert!(is_hash_of(hash, "allmine"));
        assert!(!is_hash_of(hash, "allmin"));
    }

    #[tokio::test]
    async fn what_is_no_hash_fits_no_password() {
        let passwords = Passwords::new(CHEAP);
        for hash in [None, Some(Bytes::new()), Some(Bytes::from_static(b"\xff")), Some("x".into())]
        {
            assert!(!passwords.is_right("", hash).await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_long_password_is_refused_and_not_cut_short() {
        let long = "x".repeat(73);
        assert_eq!(Passwords::new(CHEAP).hash(long).await, Err(Error::PasswordTooLong));
    }
}
