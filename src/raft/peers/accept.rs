//! The peer port: who comes in, and who does not get further than the handshake.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    Handler, Shared,
    dial::HANDSHAKE_TIMEOUT,
    handshake::{self, Answer, Hello, Opening, Refusal},
    pages, serve,
    wire::{self, Wire},
};
use crate::{
    raft::network::{Listener, Stream},
    tls::address,
};

/// Connections that have not said who they are yet. When one more comes, the oldest is closed:
/// whoever keeps the port busy with silence does not keep members out.
const HALF_OPEN_MAX: usize = 64;

/// Pause after a failed accept: it fails again at once while the process is out of file
/// descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A member whose hello was accepted.
pub(super) struct Admitted {
    pub(super) hello: Hello,
    pub(super) wire: Wire,
}

/// Accepts connections until the members' connections are shut down.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut listener: Box<dyn Listener>,
    tls: bool,
    handler: Arc<dyn Handler>,
) {
    let mut half_open: BTreeMap<u64, AbortHandle> = BTreeMap::new();
    let mut greetings = JoinSet::new();
    let mut accepted_count = 0;
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            accepted = listener.accept_from() => match accepted {
                Ok((stream, from)) => {
                    if half_open.len() >= HALF_OPEN_MAX {
                        half_open.pop_first().inspect(|(_, oldest)| oldest.abort());
                    }
                    let (number, handler) = (accepted_count, Arc::clone(&handler));
                    let shared = Arc::clone(&shared);
                    let greeting = greetings.spawn(async move {
                        (number, greet(&shared, stream, from, tls, &*handler).await)
                    });
                    half_open.insert(number, greeting);
                    accepted_count += 1;
                }
                Err(error) => {
                    warn!("accepting a connection from a peer failed: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(greeted) = greetings.join_next() => {
                // One that was aborted has left `half_open` already.
                let Ok((number, admitted)) = greeted else { continue };
                half_open.remove(&number);
                if let Some(admitted) = admitted {
                    let connection = connect(Arc::clone(&shared), admitted, Arc::clone(&handler));
                    shared.tasks.spawn(connection);
                }
            }
        }
    }
}

/// Finds out who it is and lets members in. Others get their page, their refusal, or nothing.
async fn greet(
    shared: &Shared,
    stream: Stream,
    from: Option<SocketAddr>,
    tls: bool,
    handler: &dyn Handler,
) -> Option<Admitted> {
    let greeted = timeout(HANDSHAKE_TIMEOUT, async {
        let stream = match tls {
            false => stream,
            true => match accept_tls(shared, stream, from).await {
                Ok(stream) => stream,
                Err(error) => {
                    tell_rejected(shared, from, &error);
                    return Ok(None);
                }
            },
        };
        hear(shared, stream, handler).await
    });
    let problem = match greeted.await {
        Ok(Ok(admitted)) => return admitted,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it did not say who it is in time".to_owned(),
    };
    if let Some(unsaid) = shared.strangers.allow() {
        warn!(unsaid, "closed a connection to the peer port: {problem}");
    }
    None
}

/// In etcd's words.
fn tell_rejected(shared: &Shared, from: Option<SocketAddr>, error: &io::Error) {
    let remote_addr = from.map(|from| from.to_string()).unwrap_or_default();
    // A port scan, or a probe of a load balancer.
    if error.kind() == io::ErrorKind::UnexpectedEof {
        debug!(remote_addr, %error, "rejected connection on peer endpoint");
    } else if let Some(unsaid) = shared.strangers.allow() {
        warn!(remote_addr, %error, unsaid, "rejected connection on peer endpoint");
    }
}

async fn accept_tls(
    shared: &Shared,
    stream: Stream,
    from: Option<SocketAddr>,
) -> io::Result<Stream> {
    let no_tls = || io::Error::other("TLS is not configured");
    let tls = shared.options.tls.as_ref().ok_or_else(no_tls)?;
    let stream = TlsAcceptor::from((tls.server)()).accept(stream).await?;
    let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    if let (true, Some(certificate), Some(from)) = (tls.check_address, shown, from) {
        address::check(certificate, from.ip()).await.map_err(io::Error::other)?;
    }
    Ok(Box::new(stream))
}

async fn hear(
    shared: &Shared,
    mut stream: Stream,
    handler: &dyn Handler,
) -> io::Result<Option<Admitted>> {
    let mut received = BytesMut::with_capacity(256);
    let verdict = loop {
        if stream.read_buf(&mut received).await? == 0 {
            return Ok(None); // a port scan, or a probe of a load balancer
        }
        match handshake::opening(&mut received) {
            Opening::More => (),
            Opening::Hello(hello) => break judge(shared, &hello).map(|()| hello),
            Opening::NewerHello => break Err(Refusal::NewerFormat),
            Opening::Text => {
                pages::serve(stream, received, shared.options.identity.cluster, handler).await?;
                return Ok(None);
            }
            Opening::Garbage => return Err(io::Error::other("it is not a member's")),
        }
    };
    let answer = Answer {
        format: handshake::FORMAT,
        incarnation: shared.options.identity.incarnation,
        verdict: verdict.as_ref().map(|_| ()).map_err(Refusal::clone),
    };
    stream.write_all(&answer.encode()).await?;
    stream.flush().await?;
    match verdict {
        Ok(hello) => {
            Ok(Some(Admitted { hello, wire: Wire::new(stream, received, shared.terms()) }))
        }
        Err(refusal) => {
            stream.shutdown().await?;
            Err(io::Error::other(format!("refused a peer: {refusal}")))
        }
    }
}

fn judge(shared: &Shared, hello: &Hello) -> Result<(), Refusal> {
    let identity = &shared.options.identity;
    if hello.cluster != identity.cluster {
        Err(Refusal::WrongCluster)
    } else if hello.target != identity.member {
        Err(Refusal::WrongTarget)
    } else if hello.group != identity.group {
        Err(Refusal::WrongGroup)
    } else {
        shared.options.gate.admit(hello.member, hello.incarnation)
    }
}

/// Serves an admitted connection, in place of an older one of the same member on the same lane.
async fn connect(shared: Arc<Shared>, admitted: Admitted, handler: Arc<dyn Handler>) {
    let Admitted { hello, wire } = admitted;
    let meter = shared.meter(hello.member);
    let wire = wire.metered(&meter);
    let superseded = CancellationToken::new();
    let number = shared.incoming.enter(&hello, superseded.clone());
    shared.wake(hello.member);
    let end = tokio::select! {
        () = shared.stop.cancelled() => return,
        () = superseded.cancelled() => None,
        end = serve::run(&hello, wire, handler, shared.terms()) => Some(end),
    };
    shared.incoming.leave(&hello, number);
    match end {
        Some(error) => {
            if !matches!(error, wire::Error::Closed) {
                meter.received_failures.inc();
            }
            debug!(member = %hello.member, lane = ?hello.lane, "disconnected: {error}");
        }
        None => debug!(member = %hello.member, lane = ?hello.lane, "superseded"),
    }
}
