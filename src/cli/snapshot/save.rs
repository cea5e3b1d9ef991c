//! Fetching a member's state, as `etcdctl snapshot save` does.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use clap::Args;
use tonic::{Request, transport::Channel};

use crate::{
    cli::{
        client::{Connection, interrupted, of_status},
        failure::{Exit, Failure, failed},
        progress::Progress,
    },
    proto::etcdserverpb::{SnapshotRequest, maintenance_client::MaintenanceClient},
};

/// What a file that was saved whole is longer than a multiple of 512 by.
const DIGEST_BYTES: u64 = 32;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where to store the state.
    #[arg(value_name = "FILE")]
    files: Vec<String>,

    #[command(flatten)]
    connection: Connection,
}

pub(super) fn run(arguments: Arguments) -> Result<String, Failure> {
    let [file] = arguments.files.as_slice() else {
        let what = "snapshot save expects one argument <filename>";
        return Err(Failure::new(Exit::BadArguments, what));
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(failed)?;
    let saving = save(&arguments, Path::new(file));
    let version = runtime.block_on(arguments.connection.within_limit(saving))?;
    let mut text = format!("Snapshot saved at {file}\n");
    if !version.is_empty() {
        text.push_str(&format!("Server version {version}\n"));
    }
    Ok(text)
}

/// The version that the member says.
async fn save(arguments: &Arguments, file: &Path) -> Result<String, Failure> {
    let channel = connect(&arguments.connection).await?;
    let part = file.with_added_extension("part");
    let written = write(arguments, channel, &part).await;
    let (version, bytes) = match written {
        Ok(written) => written,
        Err(failure) => {
            // What was begun is of no use; if it cannot be removed, its name says so.
            let _ = fs::remove_file(&part);
            return Err(failure);
        }
    };
    if bytes % 512 != DIGEST_BYTES {
        let _ = fs::remove_file(&part);
        return Err(interrupted(format!("sha256 checksum not found [bytes: {bytes}]")));
    }
    let renamed = fs::rename(&part, file).and_then(|()| {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    });
    let (from, to) = (part.display(), file.display());
    renamed.map_err(|error| interrupted(format!("could not rename {from} to {to} ({error})")))?;
    Ok(version)
}

async fn write(
    arguments: &Arguments,
    channel: Channel,
    part: &Path,
) -> Result<(String, u64), Failure> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(part);
    let mut file = file.map_err(|error| {
        interrupted(format!("could not open {} ({})", part.display(), super::plain(&error)))
    })?;
    let mut request = Request::new(SnapshotRequest {});
    if let Some(token) = arguments.connection.token(channel.clone()).await? {
        request.metadata_mut().insert("token", token);
    }
    let answer = MaintenanceClient::new(channel).snapshot(request).await;
    let mut stream = answer.map_err(of_status)?.into_inner();
    let (mut version, mut bytes) = (String::new(), 0);
    let mut progress = Progress::new("saving");
    let unwritten = |error: io::Error| interrupted(format!("could not write snapshot: {error}"));
    while let Some(message) = stream.message().await.map_err(of_status)? {
        version = message.version;
        file.write_all(&message.blob).map_err(unwritten)?;
        bytes += message.blob.len() as u64;
        progress.at(bytes, bytes + message.remaining_bytes);
    }
    file.sync_all().map_err(|error| interrupted(format!("could not fsync snapshot: {error}")))?;
    Ok((version, bytes))
}

async fn connect(connection: &Connection) -> Result<Channel, Failure> {
    match connection.endpoints().as_slice() {
        [endpoint] => connection.dial(endpoint).await,
        endpoints => Err(interrupted(format!(
            "snapshot must be requested to one selected node, not multiple [{}]",
            endpoints.join(" ")
        ))),
    }
}
