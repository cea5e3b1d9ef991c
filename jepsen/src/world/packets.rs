//! Packets between members on their way through the harness: held back, reordered, sent twice. The
//! kernel's own emulation is not in every kernel; this needs only its queue.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddrV4},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nfq::{Message, Queue, Verdict};
use rand::{Rng, SeedableRng, rngs::StdRng};
use socket2::{Domain, Protocol, Socket, Type};

use super::network::QUEUE;

/// Packets that wait at once; more than a run's members have under way.
const WAITING_MAX: u32 = 65_536;

/// How exactly delays are kept.
const TICK: Duration = Duration::from_micros(200);

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Treatment {
    pub delay: Duration,
    /// Up to so much more, at random: packets overtake each other.
    pub jitter: Duration,
    /// Of a hundred packets, so many are sent twice.
    pub twice_percent: u32,
}

/// The thread that holds packets; it ends with this.
#[derive(Debug)]
pub struct Packets {
    treatment: Arc<Mutex<Treatment>>,
    handled: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Packets {
    /// # Errors The kernel has no such queue, or somebody else has it.
    pub fn start(seed: u64) -> Result<Packets> {
        let mut queue = Queue::open().context("NFQUEUE")?;
        queue.bind(QUEUE).context("NFQUEUE")?;
        queue.set_queue_max_len(QUEUE, WAITING_MAX).context("NFQUEUE")?;
        queue.set_nonblocking(true);
        // Raw sockets take whole packets, which is how one is sent a second time.
        let raw = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(IPPROTO_RAW)))?;
        let (treatment, handled) = (Arc::new(Mutex::default()), Arc::new(AtomicU64::new(0)));
        let stop = Arc::new(AtomicBool::new(false));
        let mut post = Post {
            queue,
            raw,
            random: StdRng::seed_from_u64(seed),
            waiting: BinaryHeap::new(),
            treatment: treatment.clone(),
            handled: handled.clone(),
        };
        let stopped = stop.clone();
        let thread = thread::Builder::new().name("packets".to_owned()).spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                post.take();
                post.pass_on();
                thread::sleep(TICK);
            }
        })?;
        Ok(Packets { treatment, handled, stop, thread: Some(thread) })
    }

    pub fn treat(&self, treatment: Treatment) {
        *self.treatment.lock().unwrap_or_else(PoisonError::into_inner) = treatment;
    }

    /// Packets that have come by.
    pub fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }
}

impl Drop for Packets {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// `IPPROTO_RAW`: the packet comes with its header.
const IPPROTO_RAW: i32 = 255;

struct Post {
    queue: Queue,
    raw: Socket,
    random: StdRng,
    waiting: BinaryHeap<Reverse<Waiting>>,
    treatment: Arc<Mutex<Treatment>>,
    handled: Arc<AtomicU64>,
}

impl Post {
    fn take(&mut self) {
        let treatment = *self.treatment.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match self.queue.recv() {
                Ok(message) => self.keep(message, treatment),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The kernel dropped some because the queue was full: loss, as in any network.
                Err(_) => return,
            }
        }
    }

    fn keep(&mut self, message: Message, treatment: Treatment) {
        let number = self.handled.fetch_add(1, Ordering::Relaxed);
        if self.random.random_range(0..100) < treatment.twice_percent {
            self.send_copy(&message);
        }
        let jitter = treatment.jitter.mul_f64(self.random.random_range(0.0..1.0));
        let due = Instant::now() + treatment.delay + jitter;
        self.waiting.push(Reverse(Waiting { due, number, message }));
    }

    fn pass_on(&mut self) {
        let now = Instant::now();
        while self.waiting.peek().is_some_and(|Reverse(next)| next.due <= now) {
            let Some(Reverse(mut next)) = self.waiting.pop() else { return };
            next.message.set_verdict(Verdict::Accept);
            // An error means that the packet is gone already.
            let _ = self.queue.verdict(next.message);
        }
    }

    fn send_copy(&self, message: &Message) {
        let packet = message.get_payload();
        if let Some(to) = packet.get(16..20).and_then(|octets| <[u8; 4]>::try_from(octets).ok()) {
            let to = SocketAddrV4::new(Ipv4Addr::from(to), 0);
            // A copy that can't be sent is one fault less.
            let _ = self.raw.send_to(packet, &to.into());
        }
    }
}

struct Waiting {
    due: Instant,
    number: u64,
    message: Message,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Waiting) -> bool {
        (self.due, self.number) == (other.due, other.number)
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Waiting) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Waiting) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}
