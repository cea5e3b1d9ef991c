//! Reaching members as etcdctl does: its flags, its variables, its words.

use std::{fs, time::Duration};

use clap::Args;
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::{
    cli::{
        failure::{Exit, Failure, failed},
        snapshot::plain,
    },
    proto::etcdserverpb::{AuthenticateRequest, auth_client::AuthClient},
};

/// Where members are, and how to show oneself to them.
#[derive(Debug, Args)]
pub(super) struct Connection {
    /// gRPC endpoints, with commas between them.
    #[arg(long, global = true, env = "ETCDCTL_ENDPOINTS", default_value = "127.0.0.1:2379")]
    endpoints: String,

    /// Verify certificates of TLS-enabled secure servers using this CA bundle.
    #[arg(long, global = true, env = "ETCDCTL_CACERT", value_name = "FILE", default_value = "")]
    cacert: String,

    /// Identify secure client using this TLS certificate file.
    #[arg(long, global = true, env = "ETCDCTL_CERT", value_name = "FILE", default_value = "")]
    cert: String,

    /// Identify secure client using this TLS key file.
    #[arg(long, global = true, env = "ETCDCTL_KEY", value_name = "FILE", default_value = "")]
    key: String,

    /// Whom to authenticate as.
    #[arg(
        long,
        global = true,
        env = "ETCDCTL_USER",
        default_value = "",
        help = "username[:password] for authentication"
    )]
    user: String,

    /// Password for authentication (if this option is used, --user option shouldn't include
    /// password).
    #[arg(
        long,
        global = true,
        env = "ETCDCTL_PASSWORD",
        hide_env_values = true,
        default_value = ""
    )]
    password: String,

    /// Seconds to wait for a connection.
    #[arg(
        long,
        global = true,
        env = "ETCDCTL_DIAL_TIMEOUT",
        value_parser = duration,
        default_value = "2s"
    )]
    dial_timeout: Duration,

    /// How long the command may take; without it, as long as it takes.
    #[arg(long, global = true, env = "ETCDCTL_COMMAND_TIMEOUT", value_parser = duration)]
    command_timeout: Option<Duration>,
}

/// Reads `300ms`, `2s`, `5m` or `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
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

pub(super) fn interrupted(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Interrupted, error)
}

/// As clientv3 shows a status.
pub(super) fn of_status(status: tonic::Status) -> Failure {
    let (code, text) = (status.code(), status.message());
    match text.starts_with("etcdserver:") {
        true => interrupted(text),
        false => interrupted(format!("rpc error: code = {code:?} desc = {text}")),
    }
}

impl Connection {
    pub(super) fn endpoints(&self) -> Vec<&str> {
        self.endpoints.split(',').filter(|endpoint| !endpoint.is_empty()).collect()
    }

    /// Runs the command for as long as it may take.
    pub(super) async fn within_limit<T>(
        &self,
        command: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match self.command_timeout {
            None => command.await,
            Some(limit) => match tokio::time::timeout(limit, command).await {
                Ok(done) => done,
                Err(_) => Err(interrupted("context deadline exceeded")),
            },
        }
    }

    /// A connection to the first endpoint that answers.
    pub(super) async fn dial_any(&self) -> Result<Channel, Failure> {
        let mut failure = interrupted("no endpoints available");
        for endpoint in self.endpoints() {
            match self.dial(endpoint).await {
                Ok(channel) => return Ok(channel),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    pub(super) async fn dial(&self, endpoint: &str) -> Result<Channel, Failure> {
        let has_tls = [&self.cacert, &self.cert].iter().any(|file| !file.is_empty());
        let url = match endpoint.contains("://") {
            true => endpoint.to_owned(),
            false if has_tls => format!("https://{endpoint}"),
            false => format!("http://{endpoint}"),
        };
        let is_secure = url.starts_with("https");
        let endpoint = Endpoint::from_shared(url).map_err(interrupted)?;
        let mut endpoint = endpoint.connect_timeout(self.dial_timeout);
        if is_secure {
            endpoint = endpoint.tls_config(self.tls()?).map_err(interrupted)?;
        }
        endpoint.connect().await.map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            interrupted(format!("{error}: {}", cause.unwrap_or_default()))
        })
    }

    fn tls(&self) -> Result<ClientTlsConfig, Failure> {
        let read = |path: &str| {
            fs::read(path).map_err(|error| failed(format!("open {path}: {}", plain(&error))))
        };
        let mut config = ClientTlsConfig::new();
        if !self.cacert.is_empty() {
            config = config.ca_certificate(Certificate::from_pem(read(&self.cacert)?));
        }
        match (self.cert.as_str(), self.key.as_str()) {
            ("", "") => {}
            ("", _) => return Err(failed("empty string is passed to --cert option")),
            (_, "") => return Err(failed("empty string is passed to --key option")),
            (cert, key) => config = config.identity(Identity::from_pem(read(cert)?, read(key)?)),
        }
        Ok(config)
    }

    /// What a user is known by after a login; `None` without one.
    pub(super) async fn token(
        &self,
        channel: Channel,
    ) -> Result<Option<MetadataValue<Ascii>>, Failure> {
        let user = self.user.as_str();
        if user.is_empty() {
            return Ok(None);
        }
        let (name, password) = match user.split_once(':') {
            Some((name, password)) if self.password.is_empty() => (name, password),
            Some(_) | None => (user, self.password.as_str()),
        };
        let request = AuthenticateRequest { name: name.into(), password: password.into() };
        let answer = AuthClient::new(channel).authenticate(request).await.map_err(of_status)?;
        let token = answer.into_inner().token.parse();
        token.map(Some).map_err(|_| interrupted("the token is no text"))
    }
}
