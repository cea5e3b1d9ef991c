//! One direction of a connection: bytes arrive as late as the way is long, in order.

use std::{collections::VecDeque, io};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::Instant,
};

use super::{fault::Link, timer::Timer};

/// Bytes on their way in one direction of one connection; more wait in the sender's kernel. Over
/// the longest way of the built-in matrix, 171 ms, this carries 98 MB/s.
pub(super) const FLIGHT_BYTES_MAX: usize = 16 << 20;

/// Pieces on their way, so that many small ones cost no more than few large ones.
const FLIGHT_PARCELS_MAX: usize = 64 << 10;

/// What is read at a time.
const READ_BYTES: usize = 64 << 10;

/// What was read at one time.
struct Parcel {
    due: Instant,
    bytes: Bytes,
}

/// What is on its way.
struct Flight {
    parcels: VecDeque<Parcel>,
    bytes: usize,
    /// When the last byte that was read is due, before which nothing later may be.
    last_due: Instant,
    /// The sender has nothing more to say; the receiver learns it then.
    end_due: Option<Instant>,
}

impl Flight {
    fn new() -> Flight {
        let last_due = Instant::now();
        Flight { parcels: VecDeque::new(), bytes: 0, last_due, end_due: None }
    }

    /// When what leaves now arrives.
    fn due(&mut self, link: &Link) -> Instant {
        self.last_due = self.last_due.max(Instant::now() + link.delay());
        self.last_due
    }

    fn push(&mut self, bytes: Bytes, link: &Link) {
        if !bytes.is_empty() {
            let due = self.due(link);
            self.bytes += bytes.len();
            self.parcels.push_back(Parcel { due, bytes });
        }
    }

    fn has_room(&self) -> bool {
        self.bytes < FLIGHT_BYTES_MAX && self.parcels.len() < FLIGHT_PARCELS_MAX
    }

    /// When something is to happen next.
    fn next_due(&self) -> Option<Instant> {
        self.parcels.front().map(|parcel| parcel.due).or(self.end_due)
    }

    fn written(&mut self, count: usize) {
        self.bytes -= count;
        if self.parcels.front().is_some_and(|parcel| parcel.bytes.is_empty()) {
            self.parcels.pop_front();
        }
    }
}

/// Carries bytes until the sender ends, and the receiver has been told; `early` is what the sender
/// has said already. A sender that breaks off ends for the receiver as one that is done.
///
/// # Errors
/// The receiver takes no more.
pub(super) async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    early: Bytes,
    mut link: Link,
    timer: Timer,
) -> io::Result<()> {
    let (mut flight, mut buffer) = (Flight::new(), BytesMut::new());
    flight.push(early, &link);
    loop {
        let is_open = !link.is_cut();
        let next = flight.next_due().filter(|_| is_open);
        let is_due = next.is_some_and(|due| due <= Instant::now());
        if is_due && flight.parcels.is_empty() {
            return to.shutdown().await;
        }
        if buffer.capacity() - buffer.len() < READ_BYTES / 16 {
            buffer.reserve(READ_BYTES);
        }
        // Not borrowed, so that reading may add to it.
        let mut first = match flight.parcels.front_mut() {
            Some(parcel) if is_due => std::mem::take(&mut parcel.bytes),
            Some(_) | None => Bytes::new(),
        };
        let event = tokio::select! {
            read = from.read_buf(&mut buffer), if flight.end_due.is_none() && flight.has_room() => {
                Event::Read(read.unwrap_or(0))
            }
            written = to.write_buf(&mut first), if is_due => Event::Written(written?),
            () = timer.until(next.unwrap_or(flight.last_due)), if next.is_some() && !is_due => {
                Event::Moved
            }
            () = link.changed() => Event::Moved,
        };
        if is_due && let Some(parcel) = flight.parcels.front_mut() {
            parcel.bytes = first;
        }
        match event {
            Event::Read(0) => flight.end_due = Some(flight.due(&link)),
            Event::Read(_) => flight.push(buffer.split().freeze(), &link),
            Event::Written(0) => return Err(io::ErrorKind::WriteZero.into()),
            Event::Written(count) => flight.written(count),
            Event::Moved => {}
        }
    }
}

enum Event {
    /// So many bytes have left.
    Read(usize),
    /// So many bytes have arrived.
    Written(usize),
    /// Time has gone on, or faults have changed.
    Moved,
}
