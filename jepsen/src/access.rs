//! How members are reached: in plain, or with certificates and as a user.
//!
//! A process does one run, so whether it is a secure one holds for all of it, as the addresses of
//! members do. Then members want certificates of clients and of each other, and authentication is
//! on. The operator is `root` by the name in its certificate, which takes no quorum; clients come in
//! with a password, and again whenever a member does not know their token any more.

use std::{
    fs,
    future::Future,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    task::{self, Poll},
    time::Duration,
};

use anyhow::{Context, Result};
use orrery::{
    proto::authpb::{Permission, permission},
    proto::etcdserverpb::{
        AuthEnableRequest, AuthRoleAddRequest, AuthRoleGrantPermissionRequest, AuthUserAddRequest,
        AuthUserGrantRoleRequest, AuthenticateRequest, auth_client::AuthClient,
    },
    tls::{Authority, Usage},
};
use tonic::{
    Status,
    body::Body,
    codegen::{
        Service,
        http::{HeaderMap, HeaderValue, Request, Response},
    },
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Error, Identity},
};

use crate::{history::MemberIndex, world::network};

const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// More members than any run has.
const HOSTS: MemberIndex = 10;

const YEARS: u32 = 1;

/// Who the operator's certificate names, and who must be there for authentication to be on.
const ROOT: &str = "root";

/// The user that clients are; its role and its password have the same name.
const CLIENT: &str = "client";

/// Every client comes in often, and no password here is worth guessing.
const BCRYPT_COST: u32 = 4;

static SECURE: OnceLock<Secure> = OnceLock::new();

/// What is shown to members.
struct Secure {
    operator: ClientTlsConfig,
    /// Its certificate names nobody who is a user.
    client: ClientTlsConfig,
}

/// Makes certificates below a directory and has them used from now on. Gives the members' flags.
///
/// # Errors They can't be written.
pub fn secure(directory: &Path) -> Result<Vec<String>> {
    let dir = directory.join("certs");
    fs::create_dir_all(&dir)?;
    let authority = Authority::open_or_make(&dir, YEARS)?;
    let hosts: Vec<String> = (0..HOSTS).map(|at| network::address(at).to_string()).collect();
    authority.issue(&dir, "member", &hosts, Usage::Both)?;
    let shown_as = |name: &str| -> Result<ClientTlsConfig> {
        let pair = authority.issue(&dir, name, &[], Usage::Client)?;
        let identity = Identity::from_pem(fs::read(pair.cert)?, fs::read(pair.key)?);
        let trusted = Certificate::from_pem(authority.certificate());
        Ok(ClientTlsConfig::new().ca_certificate(trusted).identity(identity))
    };
    let secure = Secure { operator: shown_as(ROOT)?, client: shown_as("nobody")? };
    // A second run in this process would go on with the certificates of the first.
    SECURE.set(secure).ok().context("there was a secure run already")?;
    let file = |name: &str| dir.join(name).display().to_string();
    let flags = ["", "peer-"].into_iter().flat_map(|prefix| {
        [
            format!("--{prefix}cert-file={}", file("member.crt")),
            format!("--{prefix}key-file={}", file("member.key")),
            format!("--{prefix}trusted-ca-file={}", file("ca.crt")),
            format!("--{prefix}client-cert-auth"),
        ]
    });
    Ok(flags.chain([format!("--bcrypt-cost={BCRYPT_COST}")]).collect())
}

/// Makes the users and turns authentication on.
///
/// # Errors A member refuses.
pub async fn enable_authentication(through: MemberIndex) -> Result<()> {
    let mut auth = AuthClient::new(operator(through));
    for name in [ROOT, CLIENT].map(str::to_owned) {
        let (user, role) = (name.clone(), name.clone());
        let password = name.clone();
        let add = AuthUserAddRequest { name: name.clone(), password, ..Default::default() };
        auth.user_add(add).await?;
        auth.role_add(AuthRoleAddRequest { name }).await?;
        auth.user_grant_role(AuthUserGrantRoleRequest { user, role }).await?;
    }
    // Every key; what only root may do is left.
    let perm_type = permission::Type::Readwrite as i32;
    let perm = Some(Permission { perm_type, key: "\0".into(), range_end: "\0".into() });
    let name = CLIENT.to_owned();
    auth.role_grant_permission(AuthRoleGrantPermissionRequest { name, perm }).await?;
    auth.auth_enable(AuthEnableRequest {}).await?;
    Ok(())
}

/// Where a member listens for clients.
pub(crate) fn client_url(member: MemberIndex) -> String {
    format!("{}://{}:2379", scheme(), network::address(member))
}

/// Where a member listens for others.
pub(crate) fn peer_url(member: MemberIndex) -> String {
    format!("{}://{}:2380", scheme(), network::address(member))
}

fn scheme() -> &'static str {
    if SECURE.get().is_some() { "https" } else { "http" }
}

/// A client's connection, made when it is needed, and made again when it was lost.
pub(crate) fn client(member: MemberIndex) -> Connection {
    let secure = SECURE.get();
    let token = secure.map(|_| Token::default());
    Connection { channel: channel(member, secure.map(|secure| &secure.client)), token }
}

/// The same for whoever looks after the members.
pub(crate) fn operator(member: MemberIndex) -> Channel {
    channel(member, SECURE.get().map(|secure| &secure.operator))
}

fn channel(member: MemberIndex, tls: Option<&ClientTlsConfig>) -> Channel {
    let endpoint = Endpoint::from_shared(client_url(member)).expect("an address makes a URL");
    let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
    let endpoint = match tls {
        Some(tls) => endpoint.tls_config(tls.clone()).expect("we made these certificates"),
        None => endpoint,
    };
    endpoint.connect_lazy()
}

/// A channel whose requests carry a token, where that is asked for. Clones share the token.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    channel: Channel,
    token: Option<Token>,
}

#[derive(Clone, Debug, Default)]
struct Token(Arc<Mutex<Option<HeaderValue>>>);

impl Token {
    fn held(&self) -> std::sync::MutexGuard<'_, Option<HeaderValue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token, which is asked for when there is none.
    async fn get(&self, channel: &Channel) -> Result<HeaderValue, Status> {
        if let Some(token) = self.held().clone() {
            return Ok(token);
        }
        let (name, password) = (CLIENT.to_owned(), CLIENT.to_owned());
        let mut auth = AuthClient::new(channel.clone());
        let answer = auth.authenticate(AuthenticateRequest { name, password }).await;
        // What this is for was not sent, whatever became of the password.
        let answer = answer
            .map_err(|status| Status::unauthenticated(format!("not come in: {status}")))?
            .into_inner();
        let token = HeaderValue::try_from(answer.token);
        let token = token.map_err(|error| Status::unauthenticated(error.to_string()))?;
        *self.held() = Some(token.clone());
        Ok(token)
    }
}

/// A member that was restarted does not know the tokens that it gave; locks and elections say so
/// with another code.
fn has_ended(answer: &HeaderMap) -> bool {
    let text = answer.get("grpc-message").map(|text| String::from_utf8_lossy(text.as_bytes()));
    text.is_some_and(|text| text.replace("%20", " ").contains("invalid auth token"))
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> Poll<Result<(), Error>> {
        self.channel.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The one that is ready is used; its clone must become so first.
        let clone = self.channel.clone();
        let mut channel = std::mem::replace(&mut self.channel, clone);
        let token = self.token.clone();
        Box::pin(async move {
            let Some(token) = token else { return channel.call(request).await };
            match token.get(&channel).await {
                Ok(value) => request.headers_mut().insert("token", value),
                Err(status) => return Ok(status.into_http()),
            };
            let response = channel.call(request).await?;
            if has_ended(response.headers()) {
                *token.held() = None;
            }
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_a_member_does_not_know_is_seen_in_its_answer() {
        let ended = Status::unauthenticated("etcdserver: invalid auth token");
        let of_a_lock = Status::unknown("etcdserver: invalid auth token");
        let other = Status::unauthenticated("etcdserver: permission denied");
        let seen =
            [ended, of_a_lock, other].map(|status| has_ended(status.into_http::<Body>().headers()));
        assert_eq!(seen, [true, true, false]);
    }

    #[test]
    fn certificates_are_made_and_the_flags_name_them() {
        let directory = tempfile::TempDir::new().unwrap();
        let flags = secure(directory.path()).unwrap();
        let files = flags.iter().filter_map(|flag| flag.split_once("-file=")).map(|pair| pair.1);
        let there: Vec<bool> = files.map(|file| Path::new(file).exists()).collect();
        assert_eq!(there, [true; 6]);
        assert!(client_url(0).starts_with("https://"));
    }
}
