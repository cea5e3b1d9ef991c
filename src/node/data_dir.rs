//! A member's data directory: taken by one process, and known to belong to one member of one
//! cluster.

mod restoring;

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::{
    node::Identity,
    types::{ClusterId, MemberId},
};

pub use restoring::Restoring;

/// Format of everything under the directory. Grows when an older program could not read it.
pub const FORMAT: u32 = 1;

/// Tells what the directory is. Names in it are on disk, so they never change.
const IDENTITY_FILE: &str = "orrery.json";
const LOCK_FILE: &str = "lock";

/// An open data directory. Nobody else can open it until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    owner: Owner,
    _lock: Flock<File>,
}

/// The identity file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    format: u32,
    /// Made with the directory, so that a member whose data was lost is not taken for itself.
    /// In hex, as are the ids: JSON's numbers are not safe beyond 53 bits.
    #[serde(with = "hex")]
    incarnation: u64,
    /// `--initial-cluster-token` of the first start.
    token: String,
    /// Unknown until the member has learned which member of which cluster it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    member: Option<Ids>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ids {
    #[serde(with = "hex")]
    cluster_id: u64,
    #[serde(with = "hex")]
    member_id: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("--data-dir {path}: {error}", path = .path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("--data-dir {path} is in use by another process", path = .0.display())]
    InUse(PathBuf),
    #[error(
        "--data-dir {path} holds data of etcd; import it with `orrery snapshot restore` into a new \
         directory",
        path = .0.display()
    )]
    OfEtcd(PathBuf),
    /// etcdutl's words.
    #[error("data-dir {0:?} not empty or could not be read")]
    NotEmpty(PathBuf),
    #[error(
        "--data-dir {path}: a restore into it was interrupted; remove it and restore again",
        path = .0.display()
    )]
    Interrupted(PathBuf),
    #[error(
        "--data-dir {path} has format {found}, and this release reads formats up to {FORMAT}; start \
         a newer release",
        path = .path.display()
    )]
    Newer { path: PathBuf, found: u64 },
    #[error("--data-dir {path}: {IDENTITY_FILE} cannot be read: {what}", path = .path.display())]
    Unreadable { path: PathBuf, what: String },
    #[error(
        "--data-dir {path} belongs to a cluster with --initial-cluster-token {found:?}, not \
         {given:?}",
        path = .path.display()
    )]
    OtherToken { path: PathBuf, found: String, given: String },
    #[error(
        "--data-dir {path} belongs to member {found_member} of cluster {found_cluster}, not to \
         member {given_member} of cluster {given_cluster}",
        path = .path.display(), found_member = .found.member, found_cluster = .found.cluster,
        given_member = .given.member, given_cluster = .given.cluster
    )]
    OtherMember { path: PathBuf, found: Identity, given: Identity },
}

/// The token that the member was started with.
#[derive(Clone, Copy, Debug)]
pub struct Token<'a> {
    pub value: &'a str,
    /// Somebody asked for this one, so another one in the directory is a mistake. A default is not
    /// held against a directory: etcd looks at the token only when a member begins.
    pub is_set: bool,
}

impl DataDir {
    /// Takes the directory, making it (for its owner alone) if it is not there.
    ///
    /// # Errors
    /// A directory that is refused is left as it was.
    pub fn open(path: &Path, token: Token<'_>) -> Result<DataDir, Error> {
        let at = |error| Error::Io { path: path.to_owned(), error };
        refuse_etcd(path)?;
        restoring::refuse(path)?;
        check(path, token)?;
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at)?;
        let lock = take(path)?;
        // Once more under the lock: another process may have made the directory's identity
        // meanwhile.
        let owner = match check(path, token)? {
            Some(owner) => owner,
            None => {
                let incarnation = rand::random();
                let token = token.value.to_owned();
                let owner = Owner { format: FORMAT, incarnation, token, member: None };
                write(path, &owner).map_err(at)?;
                owner
            }
        };
        Ok(DataDir { path: path.to_owned(), owner, _lock: lock })
    }

    /// Whether a member that knows its cluster lives there. Looks only; a directory that cannot be
    /// opened is refused when it is opened.
    pub fn holds_member(path: &Path) -> bool {
        matches!(read(path), Ok(Some(Owner { member: Some(_), .. })))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the Raft log goes.
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Where the state goes.
    pub fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    /// Where snapshots are received and prepared.
    pub fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    /// Made with the directory: another number is another life of the member.
    pub fn incarnation(&self) -> u64 {
        self.owner.incarnation
    }

    /// `None` until [`DataDir::bind`].
    pub fn identity(&self) -> Option<Identity> {
        self.owner.member.map(|ids| Identity {
            cluster: ClusterId(ids.cluster_id),
            member: MemberId(ids.member_id),
        })
    }

    /// Notes whose data this is, durably, or checks it if it has been noted before.
    pub fn bind(&mut self, identity: Identity) -> Result<(), Error> {
        let path = &self.path;
        match self.identity() {
            Some(found) if found == identity => Ok(()),
            Some(found) => Err(Error::OtherMember { path: path.clone(), found, given: identity }),
            None => {
                let member = Ids { cluster_id: identity.cluster.0, member_id: identity.member.0 };
                let owner = Owner { member: Some(member), ..self.owner.clone() };
                write(path, &owner).map_err(|error| Error::Io { path: path.clone(), error })?;
                self.owner = owner;
                Ok(())
            }
        }
    }
}

/// etcd keeps its log in `member/wal` and its store in `member/snap/db`.
fn refuse_etcd(path: &Path) -> Result<(), Error> {
    let member = path.join("member");
    if member.join("wal").exists() || member.join("snap/db").exists() {
        return Err(Error::OfEtcd(path.to_owned()));
    }
    Ok(())
}

/// The directory's owner, if it has one that this start may be.
fn check(path: &Path, token: Token<'_>) -> Result<Option<Owner>, Error> {
    let Some(owner) = read(path)? else { return Ok(None) };
    if token.is_set && token.value != owner.token {
        return Err(Error::OtherToken {
            path: path.to_owned(),
            found: owner.token,
            given: token.value.to_owned(),
        });
    }
    Ok(Some(owner))
}

fn read(path: &Path) -> Result<Option<Owner>, Error> {
    /// All that can be relied on in the file of a newer release.
    #[derive(Deserialize)]
    struct AnyFormat {
        format: u64,
    }

    let text = match std::fs::read_to_string(path.join(IDENTITY_FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::Io { path: path.to_owned(), error }),
    };
    let unreadable = |error: serde_json::Error| Error::Unreadable {
        path: path.to_owned(),
        what: error.to_string(),
    };
    let AnyFormat { format } = serde_json::from_str(&text).map_err(unreadable)?;
    if format > u64::from(FORMAT) {
        return Err(Error::Newer { path: path.to_owned(), found: format });
    }
    serde_json::from_str(&text).map(Some).map_err(unreadable)
}

/// Replaces the identity file as a whole: after a crash there is the old one or the new one.
fn write(dir: &Path, owner: &Owner) -> io::Result<()> {
    let beside = dir.join(format!("{IDENTITY_FILE}.new"));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    let text = serde_json::to_string_pretty(owner)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&beside, dir.join(IDENTITY_FILE))?;
    File::open(dir)?.sync_all()?;
    // The directory itself may be new as well.
    match dir.canonicalize()?.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// The lock is the kernel's, so it ends with the process, however that ends.
fn take(path: &Path) -> Result<Flock<File>, Error> {
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path.join(LOCK_FILE))
        .map_err(|error| Error::Io { path: path.to_owned(), error })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        nix::errno::Errno::EWOULDBLOCK => Error::InUse(path.to_owned()),
        error => Error::Io { path: path.to_owned(), error: error.into() },
    })
}

mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(id: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{id:x}"))
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::unix::fs::PermissionsExt};

    use tempfile::TempDir;

    use super::*;

    const DEFAULT: Token<'static> = Token { value: "etcd-cluster", is_set: false };

    fn identity(cluster: u64, member: u64) -> Identity {
        Identity { cluster: ClusterId(cluster), member: MemberId(member) }
    }

    /// Every path below the directory with its content.
    fn tree(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(tree(&path));
                found.insert(path, Vec::new());
            } else {
                let content = std::fs::read(&path).unwrap();
                found.insert(path, content);
            }
        }
        found
    }

    /// Refused with these words (`DIR` stands for the directory), and nothing touched.
    #[track_caller]
    fn refuses(path: &Path, token: Token<'_>, message: &str) {
        let before = tree(path);
        let error = DataDir::open(path, token).unwrap_err().to_string();
        assert_eq!(error.replace(&path.display().to_string(), "DIR"), message);
        assert_eq!(tree(path), before);
    }

    #[test]
    fn a_directory_keeps_its_identity() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a/default.orrery");
        let mut dir = DataDir::open(&path, DEFAULT).unwrap();
        let incarnation = dir.incarnation();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(dir.identity(), None);
        assert!(!DataDir::holds_member(&path));
        dir.bind(identity(u64::MAX, 7)).unwrap();
        drop(dir);
        assert!(DataDir::holds_member(&path));
        let mut dir = DataDir::open(&path, DEFAULT).unwrap();
        assert_eq!(dir.incarnation(), incarnation);
        assert_eq!(dir.identity(), Some(identity(u64::MAX, 7)));
        dir.bind(identity(u64::MAX, 7)).unwrap();
        let error = dir.bind(identity(1, 8)).unwrap_err().to_string();
        let words = "belongs to member 7 of cluster ffffffffffffffff, not to member 8 of cluster 1";
        assert!(error.ends_with(words), "{error}");
    }

    #[test]
    fn two_directories_are_two_incarnations() {
        let (one, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let one = DataDir::open(one.path(), DEFAULT).unwrap();
        let other = DataDir::open(other.path(), DEFAULT).unwrap();
        assert_ne!(one.incarnation(), other.incarnation());
    }

    #[test]
    fn a_directory_in_use_is_refused_until_it_is_free() {
        let folder = TempDir::new().unwrap();
        let open = DataDir::open(folder.path(), DEFAULT).unwrap();
        refuses(folder.path(), DEFAULT, "--data-dir DIR is in use by another process");
        drop(open);
        DataDir::open(folder.path(), DEFAULT).unwrap();
    }

    #[test]
    fn data_of_etcd_is_refused_with_the_command_that_imports_it() {
        for inside in ["member/wal", "member/snap/db"] {
            let folder = TempDir::new().unwrap();
            std::fs::create_dir_all(folder.path().join(inside)).unwrap();
            refuses(
                folder.path(),
                DEFAULT,
                "--data-dir DIR holds data of etcd; import it with `orrery snapshot restore` into \
                 a new directory",
            );
        }
    }

    #[test]
    fn another_cluster_or_a_newer_format_is_refused() {
        let folder = TempDir::new().unwrap();
        let path = folder.path();
        drop(DataDir::open(path, Token { value: "one", is_set: true }).unwrap());
        refuses(
            path,
            Token { value: "two", is_set: true },
            "--data-dir DIR belongs to a cluster with --initial-cluster-token \"one\", not \"two\"",
        );
        drop(DataDir::open(path, DEFAULT).unwrap());
        std::fs::write(path.join(IDENTITY_FILE), r#"{"format": 2, "shape": "new"}"#).unwrap();
        refuses(
            path,
            DEFAULT,
            "--data-dir DIR has format 2, and this release reads formats up to 1; start a newer \
             release",
        );
    }

    #[test]
    fn what_is_not_readable_or_no_directory_is_refused() {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join(IDENTITY_FILE), "{").unwrap();
        let words = "--data-dir DIR: orrery.json cannot be read: EOF while parsing an object at \
                     line 1 column 1";
        refuses(folder.path(), DEFAULT, words);
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = DataDir::open(&file, DEFAULT).unwrap_err().to_string();
        assert!(error.ends_with("file: Not a directory (os error 20)"), "{error}");
    }
}
