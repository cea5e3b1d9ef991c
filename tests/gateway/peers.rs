//! The etcd that ours is held against.

use std::{env, fs, io::Write as _, path::PathBuf};

/// Says something that must be seen although the test passes, which captures what it prints.
pub(crate) fn announce(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// `ETCD`, or the one in the cache.
pub(crate) fn etcd() -> Option<PathBuf> {
    let cached = || {
        let peers = PathBuf::from(env::var_os("HOME")?).join(".cache/orrery/peers");
        let folders = fs::read_dir(peers).ok()?.filter_map(Result::ok);
        folders.map(|folder| folder.path().join("etcd")).find(|binary| binary.is_file())
    };
    env::var_os("ETCD").filter(|named| !named.is_empty()).map(PathBuf::from).or_else(cached)
}
