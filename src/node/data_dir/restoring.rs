//! A data directory that is being filled: nobody starts from it before it is complete.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use super::{Error, FORMAT, IDENTITY_FILE, Ids, Owner, write};
use crate::node::Identity;

/// There from before the first change to after the last one.
const MARKER: &str = "restoring";

/// A data directory that is being filled. Dropped before [`Restoring::finish`], it leaves nothing
/// behind; interrupted, it leaves a directory that is refused.
#[derive(Debug)]
pub struct Restoring {
    path: PathBuf,
    /// Whether the directory was made here.
    made: bool,
    finished: bool,
}

impl Restoring {
    /// Makes a directory for a member. It may be there if it is empty.
    pub fn begin(path: &Path, token: &str, identity: Identity) -> Result<Restoring, Error> {
        let at = |error| Error::Io { path: path.to_owned(), error };
        let made = match fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
            Ok(true) => false,
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Ok(false) | Err(_) => return Err(Error::NotEmpty(path.to_owned())),
        };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at)?;
        let restoring = Restoring { path: path.to_owned(), made, finished: false };
        File::create_new(path.join(MARKER)).map_err(at)?;
        File::open(path).and_then(|dir| dir.sync_all()).map_err(at)?;
        let member = Ids { cluster_id: identity.cluster.0, member_id: identity.member.0 };
        let owner = Owner {
            format: FORMAT,
            incarnation: rand::random(),
            token: token.to_owned(),
            member: Some(member),
        };
        write(path, &owner).map_err(at)?;
        Ok(restoring)
    }

    /// Where the state goes.
    pub fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    /// Makes it a directory like any other. Whatever was written to it must be durable.
    pub fn finish(mut self) -> Result<(), Error> {
        let at = |error| Error::Io { path: self.path.clone(), error };
        fs::remove_file(self.path.join(MARKER)).map_err(at)?;
        File::open(&self.path).and_then(|dir| dir.sync_all()).map_err(at)?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Restoring {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // What cannot be removed keeps the marker, which goes last.
        let all =
            [fs::remove_dir_all(self.state()), fs::remove_file(self.path.join(IDENTITY_FILE))];
        let is_gone = |gone: &io::Result<()>| match gone {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if all.iter().all(is_gone) && fs::remove_file(self.path.join(MARKER)).is_ok() && self.made {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

pub(super) fn refuse(path: &Path) -> Result<(), Error> {
    match path.join(MARKER).exists() {
        true => Err(Error::Interrupted(path.to_owned())),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::{
        node::data_dir::{DataDir, Token},
        types::{ClusterId, MemberId},
    };

    const IDENTITY: Identity = Identity { cluster: ClusterId(1), member: MemberId(2) };
    const TOKEN: Token<'static> = Token { value: "t", is_set: true };

    #[test]
    fn a_member_starts_only_from_a_complete_directory() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("a/b");
        let restoring = Restoring::begin(&path, "t", IDENTITY).unwrap();
        fs::create_dir(restoring.state()).unwrap();
        let error = DataDir::open(&path, TOKEN).unwrap_err().to_string();
        assert!(error.ends_with("was interrupted; remove it and restore again"), "{error}");
        restoring.finish().unwrap();
        assert_eq!(DataDir::open(&path, TOKEN).unwrap().identity(), Some(IDENTITY));
    }

    #[test]
    fn what_fails_leaves_nothing_behind() {
        let folder = TempDir::new().unwrap();
        let (empty, new) = (folder.path().join("empty"), folder.path().join("new"));
        fs::create_dir(&empty).unwrap();
        for path in [&empty, &new] {
            let restoring = Restoring::begin(path, "t", IDENTITY).unwrap();
            fs::create_dir(restoring.state()).unwrap();
        }
        assert!(!new.exists());
        assert!(fs::read_dir(&empty).unwrap().next().is_none());
    }

    #[test]
    fn a_directory_with_something_in_it_is_refused_in_etcds_words() {
        let folder = TempDir::new().unwrap();
        let path = folder.path();
        fs::write(path.join("file"), "").unwrap();
        let error = Restoring::begin(path, "t", IDENTITY).unwrap_err().to_string();
        assert_eq!(error, format!("data-dir {path:?} not empty or could not be read"));
        assert!(path.join("file").exists());
    }
}
