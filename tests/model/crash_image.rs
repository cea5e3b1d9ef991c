//! A directory as a crash of the process that works in it would leave it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Copies a directory in which RocksDB works; what it keeps in memory is not in the copy.
pub(crate) fn take_image(from: &Path, to: &Path) {
    loop {
        // RocksDB compacts in the background: a copy counts if nothing has changed meanwhile.
        let before = listing(from);
        if let (Ok(before), Ok(()), Ok(after)) = (before, copy(from, to), listing(from))
            && before == after
        {
            return;
        }
        let _ = fs::remove_dir_all(to); // made anew
    }
}

/// Every file that matters, with its size.
fn listing(folder: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, metadata) = (entry.path(), entry.metadata()?);
        if metadata.is_dir() {
            found.extend(listing(&path)?);
        } else if !entry.file_name().to_string_lossy().starts_with("LOG") {
            found.push((path, metadata.len()));
        }
    }
    found.sort();
    Ok(found)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for (path, _) in listing(from)? {
        let copied = to.join(path.strip_prefix(from).expect("it is inside"));
        fs::create_dir_all(copied.parent().expect("it has a name"))?;
        fs::copy(&path, copied)?;
    }
    Ok(())
}
