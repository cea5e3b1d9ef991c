//! Making a data directory of what was saved.

use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use clap::Args;
use sha2::{Digest, Sha256};

use super::plain;
use crate::{
    cli::{
        failure::{Exit, Failure, failed},
        member::founders,
        progress::Progress,
    },
    cluster::ids,
    config::{ClusterState, Founding, Url},
    exchange::{self, Bump, LeftBehind, Restored, Source},
    node::{Identity, data_dir::Restoring},
    raft,
    storage::{Place, Storage},
    telemetry,
    types::MemberId,
};

/// Behind the file, as in what etcdctl saves.
const DIGEST_BYTES: u64 = 32;

/// Sizes of files without a digest are multiples of this.
const SECTOR_BYTES: u64 = 512;

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// A file that was saved, or a data directory of etcd, which is only read.
    #[arg(value_name = "FILE")]
    files: Vec<String>,

    /// Path to the output data directory.
    #[arg(long, value_name = "DIR", default_value = "")]
    data_dir: String,

    /// Accepted as by etcdutl; the Raft log stays in the data directory.
    #[arg(long, value_name = "DIR", default_value = "")]
    wal_dir: String,

    /// Where the log of a data directory of etcd is, if etcd ran with --wal-dir.
    #[arg(long, value_name = "DIR")]
    source_wal_dir: Option<PathBuf>,

    /// Initial cluster configuration for restore bootstrap.
    #[arg(long, value_name = "NAME=URL,...", default_value = "default=http://localhost:2380")]
    initial_cluster: String,

    /// Initial cluster token for the cluster during restore bootstrap.
    #[arg(long, value_name = "TOKEN", default_value = "etcd-cluster")]
    initial_cluster_token: String,

    /// List of this member's peer URLs to advertise to the rest of the cluster.
    #[arg(long, value_name = "URL,...", default_value = "http://localhost:2380")]
    initial_advertise_peer_urls: String,

    /// Human-readable name for this member.
    #[arg(long, default_value = "default")]
    name: String,

    /// Ignore the file's integrity hash (required if it was copied from a data directory).
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    skip_hash_check: bool,

    /// Accepted as by etcdutl; means nothing here.
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    initial_memory_map_size: u64,

    /// How much to increase the latest revision after restore.
    #[arg(long, value_name = "N", default_value_t = 0)]
    bump_revision: u64,

    /// Mark the latest revision after restore as the point of compaction (required if
    /// --bump-revision > 0, disallowed otherwise).
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
          default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    mark_compacted: bool,
}

/// What is wrong with the command line is known before anything is written, and what fails later
/// leaves nothing behind.
pub(super) fn run(arguments: Arguments) -> Result<String, Failure> {
    let [file] = arguments.files.as_slice() else {
        let what = "snapshot restore requires exactly one argument";
        return Err(Failure::new(Exit::BadArguments, what));
    };
    if (arguments.bump_revision > 0) != arguments.mark_compacted {
        let what = "--mark-compacted required if --revision-bump > 0";
        return Err(Failure::new(Exit::BadArguments, what));
    }
    let (identity, restored) = cluster(&arguments)?;
    let data_dir = match arguments.data_dir.as_str() {
        "" => PathBuf::from(format!("{}.orrery", arguments.name)),
        path => PathBuf::from(path),
    };
    if !arguments.wal_dir.is_empty() && Path::new(&arguments.wal_dir).exists() {
        return Err(failed(format!("wal-dir {:?} exists", arguments.wal_dir)));
    }
    let left = left_behind(file, arguments.source_wal_dir.clone());
    let token = arguments.initial_cluster_token.as_str();
    let restoring = Restoring::begin(&data_dir, token, identity).map_err(failed)?;
    say("restoring snapshot", file, &data_dir);
    let source = match &left {
        Some(left) => Source::DataDir(left),
        None => {
            verify(file, arguments.skip_hash_check)?;
            Source::File(Path::new(file))
        }
    };
    let bump = arguments.mark_compacted.then_some(Bump(arguments.bump_revision));
    fill(source, &restoring, bump, &restored).map_err(failed)?;
    restoring.finish().map_err(failed)?;
    say("restored snapshot", file, &data_dir);
    Ok(String::new())
}

/// Who the member is, and its cluster: with the ids that etcd would compute.
fn cluster(arguments: &Arguments) -> Result<(Identity, Restored), Failure> {
    let token = arguments.initial_cluster_token.clone();
    let founding = Founding::parse(&arguments.initial_cluster, ClusterState::New, token);
    let founding = founding.map_err(failed)?;
    let advertised = arguments.initial_advertise_peer_urls.split(',');
    let mut advertised: Vec<Url> = advertised
        .map(Url::parse_advertised)
        .collect::<Result<_, _>>()
        .map_err(|error| failed(format!("--initial-advertise-peer-urls: {error}")))?;
    advertised.sort();
    founding.check(&arguments.name, &advertised).map_err(failed)?;
    let members = founders(&founding);
    let own = members.iter().find(|member| member.name == arguments.name);
    let own = own.ok_or_else(|| failed("--name is not in --initial-cluster"))?;
    let voters = || members.iter().map(|member| MemberId(member.id));
    let cluster = ids::cluster_id(voters());
    let identity = Identity { cluster, member: MemberId(own.id) };
    let membership = raft::founding_membership(voters());
    Ok((identity, Restored { cluster, members: members.clone(), membership }))
}

fn left_behind(path: &str, wal: Option<PathBuf>) -> Option<LeftBehind> {
    let left = exchange::find(Path::new(path))?;
    Some(LeftBehind { wal: wal.unwrap_or(left.wal), ..left })
}

fn fill(
    source: Source<'_>,
    restoring: &Restoring,
    bump: Option<Bump>,
    restored: &Restored,
) -> Result<(), exchange::Error> {
    let storage = Storage::open(Place::Directory(&restoring.state()))?;
    let mut progress = Progress::new("restoring");
    exchange::restore(source, &storage, bump, restored, &mut |done, of| progress.at(done, of))?;
    Ok(())
}

/// Compares the file with the digest behind it.
fn verify(path: &str, skip: bool) -> Result<(), Failure> {
    let unreadable = |error: std::io::Error| failed(format!("open {path}: {}", plain(&error)));
    let mut file = File::open(path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    let has_digest = bytes % SECTOR_BYTES == DIGEST_BYTES;
    if skip {
        return Ok(());
    }
    if !has_digest {
        return Err(failed("snapshot missing hash but --skip-hash-check=false"));
    }
    let length = bytes - DIGEST_BYTES;
    file.seek(SeekFrom::Start(length)).map_err(unreadable)?;
    let mut expected = [0; DIGEST_BYTES as usize];
    file.read_exact(&mut expected).map_err(unreadable)?;
    file.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    let mut progress = Progress::new("verifying");
    let (mut digest, mut done) = (Sha256::new(), 0);
    let mut file = BufReader::new(file.take(length));
    let mut part = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut part).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        digest.update(&part[..read]);
        done += read as u64;
        progress.at(done, length);
    }
    let found: [u8; DIGEST_BYTES as usize] = digest.finalize().into();
    match found == expected {
        true => Ok(()),
        false => {
            let numbers =
                |bytes: &[u8]| bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(" ");
            let (expected, found) = (numbers(&expected), numbers(&found));
            Err(failed(format!("expected sha256 [{expected}], got [{found}]")))
        }
    }
}

/// A line in the form of etcdutl's, for those who look for it.
fn say(what: &str, path: &str, data_dir: &Path) {
    let fields = serde_json::json!({ "path": path, "data-dir": data_dir.to_string_lossy() });
    eprintln!("{}\tinfo\t{what}\t{fields}", telemetry::now());
}
