//! The simulated network, as members see it.

use std::io;

use futures::future::BoxFuture;
use orrery::raft::network::{Address, Listener, Network, Stream};
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
