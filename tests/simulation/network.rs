//! The simulated network, as members see it.

use std::io;

use futures::future::BoxFuture;
use orrery::raft::network::{Address, Listener, Network, Stream};
use tokio::{
    io::{DuplexStream, copy_bidirectional, duplex},
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use turmoil::net::{TcpListener, TcpStream};

/// Connections between turmoil's hosts, which are named by host name.
pub(crate) struct Simulated;

impl Network for Simulated {
    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            let (host, port) = tcp(address)?;
            Ok(Box::new(TcpStream::connect((host, port)).await?) as Stream)
        })
    }

    fn bind<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let (_, port) = tcp(address)?;
            let listener = TcpListener::bind(("0.0.0.0", port)).await?;
            Ok(Box::new(SimulatedPort(listener)) as Box<dyn Listener>)
        })
    }
}

fn tcp(address: &Address) -> io::Result<(&str, u16)> {
    match address {
        Address::Tcp { host, port } => Ok((host, *port)),
        Address::Unix(_) => Err(io::ErrorKind::Unsupported.into()),
    }
}

struct SimulatedPort(TcpListener);

impl Listener for SimulatedPort {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async { Ok(Box::new(self.0.accept().await?.0) as Stream) })
    }

    fn local(&self) -> io::Result<Address> {
        let local = self.0.local_addr()?;
        Ok(Address::Tcp { host: local.ip().to_string(), port: local.port() })
    }
}

/// Bytes that a connection holds between a member and its card, as a kernel does.
const SOCKET_BYTES: usize = 64 << 10;

/// Dials, accepted connections and orders that wait. A member has three lanes to two others.
const QUEUED: usize = 64;

/// A member's end of its network card. Members run in runtimes of their own, so that one can stand
/// still while its card, a host of the simulated network, goes on as a kernel would.
pub(crate) struct Card(mpsc::Sender<Order>);

/// The host's end.
pub(crate) struct Orders {
    received: mpsc::Receiver<Order>,
    /// The member is gone.
    gone: CancellationToken,
}

pub(crate) enum Order {
    Dial(String, u16, oneshot::Sender<io::Result<DuplexStream>>),
    Bind(u16, oneshot::Sender<io::Result<mpsc::Receiver<DuplexStream>>>),
}

impl Card {
    /// A card for a member that lives until it is `gone`.
    pub(crate) fn new(gone: CancellationToken) -> (Card, Orders) {
        let (sender, received) = mpsc::channel(QUEUED);
        (Card(sender), Orders { received, gone })
    }

    async fn ask<T>(
        &self,
        order: impl FnOnce(oneshot::Sender<io::Result<T>>) -> Order,
    ) -> io::Result<T> {
        let (sender, answer) = oneshot::channel();
        self.0.send(order(sender)).await.map_err(io::Error::other)?;
        answer.await.map_err(io::Error::other)?
    }
}

impl Network for Card {
    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async move {
            let (host, port) = tcp(address)?;
            let stream = self.ask(|answer| Order::Dial(host.to_owned(), port, answer)).await?;
            Ok(Box::new(stream) as Stream)
        })
    }

    fn bind<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let (_, port) = tcp(address)?;
            let accepted = self.ask(|answer| Order::Bind(port, answer)).await?;
            Ok(Box::new(CardPort { accepted, address: address.clone() }) as Box<dyn Listener>)
        })
    }
}

struct CardPort {
    accepted: mpsc::Receiver<DuplexStream>,
    address: Address,
}

impl Listener for CardPort {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async {
            let stream = self.accepted.recv().await;
            Ok(Box::new(stream.ok_or(io::ErrorKind::NotConnected)?) as Stream)
        })
    }

    fn local(&self) -> io::Result<Address> {
        Ok(self.address.clone())
    }
}

/// The card: carries out a member's orders until the member is gone, and then closes everything.
///
/// Each task waits for the end by itself: so they end in the order in which they began, and not in
/// that in which the member's ends of the connections happen to be dropped.
pub(crate) async fn serve(Orders { mut received, gone }: Orders) {
    let mut work = JoinSet::new();
    while let Some(Some(order)) = gone.run_until_cancelled(received.recv()).await {
        let gone = gone.clone();
        work.spawn(async move {
            match order {
                Order::Dial(host, port, answer) => {
                    gone.run_until_cancelled(dial(host, port, answer)).await;
                }
                Order::Bind(port, answer) => accept(port, answer, gone).await,
            }
        });
        while work.try_join_next().is_some() {}
    }
    // The next process finds the port free.
    work.shutdown().await;
}

async fn dial(host: String, port: u16, answer: oneshot::Sender<io::Result<DuplexStream>>) {
    match TcpStream::connect((host, port)).await {
        Ok(stream) => {
            let (near, far) = duplex(SOCKET_BYTES);
            if answer.send(Ok(far)).is_ok() {
                carry(near, stream).await;
            }
        }
        Err(error) => drop(answer.send(Err(error))),
    }
}

async fn accept(
    port: u16,
    answer: oneshot::Sender<io::Result<mpsc::Receiver<DuplexStream>>>,
    gone: CancellationToken,
) {
    let listener = match TcpListener::bind(("0.0.0.0", port)).await {
        Ok(listener) => listener,
        Err(error) => return drop(answer.send(Err(error))),
    };
    let (sender, accepted) = mpsc::channel(QUEUED);
    if answer.send(Ok(accepted)).is_err() {
        return;
    }
    let mut connections = JoinSet::new();
    while let Some(Ok((stream, _))) = gone.run_until_cancelled(listener.accept()).await {
        let (near, far) = duplex(SOCKET_BYTES);
        if sender.send(far).await.is_err() {
            return;
        }
        let gone = gone.clone();
        connections.spawn(async move {
            gone.run_until_cancelled(carry(near, stream)).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(mut near: DuplexStream, mut far: TcpStream) {
    // However it ends, both sides find their connection closed.
    let _ = copy_bidirectional(&mut near, &mut far).await;
}
