//! Fetching a member's state, as `etcdctl snapshot save` does.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use clap::Args;
use tonic::{
    Request,
    metadata::MetadataValue,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    cli::{
        failure::{Exit, Failure, failed},
        progress::Progress,
    },
    proto::etcdserverpb::{
        AuthenticateRequest, SnapshotRequest, auth_client::AuthClient,
        maintenance_client::MaintenanceClient,
    },
};

/// What a file that was saved whole is longer than a multiple of 512 by.
const DIGEST_BYTES: u64 = 32;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where to store the state.
    #[arg(value_name = "FILE")]
    files: Vec<String>,

    /// gRPC endpoint; exactly one.
    #[arg(long, env = "ETCDCTL_ENDPOINTS", default_value = "127.0.0.1:2379")]
    endpoints: String,

    /// Verify certificates of TLS-enabled secure servers using this CA bundle.
    #[arg(long, env = "ETCDCTL_CACERT", value_name = "FILE", default_value = "")]
    cacert: String,

    /// Identify secure client using this TLS certificate file.
    #[arg(long, env = "ETCDCTL_CERT", value_name = "FILE", default_value = "")]
    cert: String,

    /// Identify secure client using this TLS key file.
    #[arg(long, env = "ETCDCTL_KEY", value_name = "FILE", default_value = "")]
    key: String,

    /// Whom to authenticate as.
    #[arg(
        long,
        env = "ETCDCTL_USER",
        default_value = "",
        help = "username[:password] for authentication"
    )]
    user: String,

    /// Password for authentication (if this option is used, --user option shouldn't include
    /// password).
    #[arg(long, env = "ETCDCTL_PASSWORD", hide_env_values = true, default_value = "")]
    password: String,

    /// Seconds to wait for a connection.
    #[arg(long, env = "ETCDCTL_DIAL_TIMEOUT", value_parser = seconds, default_value = "2s")]
    dial_timeout: Duration,

    /// How long the command may take; without it, as long as it takes.
    #[arg(long, env = "ETCDCTL_COMMAND_TIMEOUT", value_parser = seconds)]
    command_timeout: Option<Duration>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(char::is_alphabetic).unwrap_or(text.len()));
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("invalid duration {text:?}")),
    };
    let number = number.parse::<f64>().map_err(|_| format!("invalid duration {text:?}"))?;
    Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())
}

pub(super) fn run(arguments: Arguments) -> Result<String, Failure> {
    let [file] = arguments.files.as_slice() else {
        let what = "snapshot save expects one argument <filename>";
        return Err(Failure::new(Exit::BadArguments, what));
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(failed)?;
    let saving = save(&arguments, Path::new(file));
    let version = runtime.block_on(async {
        match arguments.command_timeout {
            None => saving.await,
            Some(limit) => match tokio::time::timeout(limit, saving).await {
                Ok(saved) => saved,
                Err(_) => Err(interrupted("context deadline exceeded")),
            },
        }
    })?;
    let mut text = format!("Snapshot saved at {file}\n");
    if !version.is_empty() {
        text.push_str(&format!("Server version {version}\n"));
    }
    Ok(text)
}

fn interrupted(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Interrupted, error)
}

/// The version that the member says.
async fn save(arguments: &Arguments, file: &Path) -> Result<String, Failure> {
    let channel = connect(arguments).await?;
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
    if let Some(token) = token(arguments, channel.clone()).await? {
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

/// As clientv3 shows a status.
fn of_status(status: tonic::Status) -> Failure {
    let (code, text) = (status.code(), status.message());
    match text.starts_with("etcdserver:") {
        true => interrupted(text),
        false => interrupted(format!("rpc error: code = {code:?} desc = {text}")),
    }
}

async fn connect(arguments: &Arguments) -> Result<Channel, Failure> {
    let endpoints: Vec<&str> =
        arguments.endpoints.split(',').filter(|endpoint| !endpoint.is_empty()).collect();
    let [endpoint] = endpoints.as_slice() else {
        return Err(interrupted(format!(
            "snapshot must be requested to one selected node, not multiple [{}]",
            endpoints.join(" ")
        )));
    };
    let has_tls = [&arguments.cacert, &arguments.cert].iter().any(|file| !file.is_empty());
    let url = match endpoint.contains("://") {
        true => (*endpoint).to_owned(),
        false if has_tls => format!("https://{endpoint}"),
        false => format!("http://{endpoint}"),
    };
    let is_secure = url.starts_with("https");
    let endpoint = Endpoint::from_shared(url).map_err(interrupted)?;
    let mut endpoint = endpoint.connect_timeout(arguments.dial_timeout);
    if is_secure {
        endpoint = endpoint.tls_config(tls(arguments)?).map_err(interrupted)?;
    }
    endpoint.connect().await.map_err(|error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        interrupted(format!("{error}: {}", cause.unwrap_or_default()))
    })
}

fn tls(arguments: &Arguments) -> Result<ClientTlsConfig, Failure> {
    let read = |path: &str| {
        fs::read(path).map_err(|error| failed(format!("open {path}: {}", super::plain(&error))))
    };
    let mut config = ClientTlsConfig::new();
    if !arguments.cacert.is_empty() {
        config = config.ca_certificate(Certificate::from_pem(read(&arguments.cacert)?));
    }
    match (arguments.cert.as_str(), arguments.key.as_str()) {
        ("", "") => {}
        ("", _) => return Err(failed("empty string is passed to --cert option")),
        (_, "") => return Err(failed("empty string is passed to --key option")),
        (cert, key) => config = config.identity(Identity::from_pem(read(cert)?, read(key)?)),
    }
    Ok(config)
}

/// What a user is known by after a login; `None` without one.
async fn token(
    arguments: &Arguments,
    channel: Channel,
) -> Result<Option<MetadataValue<tonic::metadata::Ascii>>, Failure> {
    let user = arguments.user.as_str();
    if user.is_empty() {
        return Ok(None);
    }
    let (name, password) = match user.split_once(':') {
        Some((name, password)) if arguments.password.is_empty() => (name, password),
        Some(_) | None => (user, arguments.password.as_str()),
    };
    let request = AuthenticateRequest { name: name.into(), password: password.into() };
    let answer = AuthClient::new(channel).authenticate(request).await.map_err(of_status)?;
    let token = answer.into_inner().token.parse();
    token.map(Some).map_err(|_| interrupted("the token is no text"))
}
