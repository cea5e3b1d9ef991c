//! Builds that are broken on purpose: the simulation must find each of them.

use std::{collections::BTreeSet, io, path::Path, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures::{executor::block_on, future::BoxFuture};
use orrery::{
    log::{FaultyFiles, File, Files, Log},
    proto::peer,
    raft::{
        PAYLOAD_BYTES_MAX,
        frame::{self, Decoder, Frame},
        message::{
            AppendReply, ConfirmReply, Message, Reply, Request, VacancyReply, VoteReply,
            VoteRequest,
        },
        network::{Address, Listener, Network, Stream},
        peers::Lane,
    },
};
use prost::Message as _;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, copy_bidirectional, duplex};

use super::{machine::log_options, network::Card};

/// The same log on another disk, as a build would leave it that never writes a vote.
pub(crate) fn without_vote(files: &FaultyFiles, seed: u64) -> FaultyFiles {
    let (old, old_writer) = Log::open(Arc::new(files.clone()), log_options()).unwrap();
    let state = old.state();
    let entries = old.entries(0..u64::MAX, usize::MAX).unwrap();
    let disk = FaultyFiles::new(seed);
    let (new, writer) = Log::open(Arc::new(disk.clone()), log_options()).unwrap();
    if let Some(purged) = state.purged {
        new.purge(purged);
    }
    if !entries.is_empty() {
        new.append(entries, Box::new(|result| result.unwrap()));
    }
    new.save_committed(state.committed);
    drop((old, new));
    block_on(writer.run());
    block_on(old_writer.run());
    disk
}

/// Files that say that they are synced, and are not.
pub(crate) struct NoSync(pub Arc<dyn Files>);

struct NoSyncFile(Arc<dyn File>);

impl Files for NoSync {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.0.list(dir)
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(NoSyncFile(self.0.open(path)?)))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(NoSyncFile(self.0.create(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }

    fn random(&self) -> u64 {
        self.0.random()
    }
}

impl File for NoSyncFile {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn allocate(&self, size: u64) -> io::Result<()> {
        self.0.allocate(size)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.0.truncate(size)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A network that tells members what they would like to hear.
pub(crate) struct Flattery(pub Card, pub Lie);

/// What the network says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Entries are stored before anybody has them, as in a build that takes the leader's own word
    /// for that of a quorum.
    Stored,
    /// Whoever wants to succeed a leader is to, and is elected, as in a build that asks nobody.
    Elected,
    /// Whoever was the leader is it still, as in a build that reads without asking a quorum.
    Confirmed,
    /// A question for the read index is answered with the answer to the one before, as in a build
    /// that counts the age of its state from when it was told of it.
    Echoed,
}

impl Network for Flattery {
    fn dial<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Stream>> {
        Box::pin(async {
            let far = self.0.dial(address).await?;
            let (near, end) = duplex(64 << 10);
            match self.1 {
                Lie::Stored => {
                    tokio::spawn(flatter(near, far, Lane::Replication, Flatterer::default()))
                }
                Lie::Elected => tokio::spawn(flatter(near, far, Lane::Urgent, Answers(elect))),
                Lie::Confirmed => tokio::spawn(flatter(near, far, Lane::Urgent, Answers(confirm))),
                Lie::Echoed => tokio::spawn(flatter(near, far, Lane::Urgent, Echo::default())),
            };
            Ok(Box::new(end) as Stream)
        })
    }

    fn bind<'a>(&'a self, address: &'a Address) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        self.0.bind(address)
    }
}

/// Of the words that begin a connection: how long they are without the last part, and where the
/// length of that part stands.
const HELLO: (usize, usize) = (12, 10);
const ANSWER: (usize, usize) = (21, 19);
const LANE_AT: usize = 44;
const CHECKSUM_BYTES: usize = 4;

/// Comes between a member and another on one lane.
trait Liar {
    fn request(&mut self, frame: Frame, to_near: &mut BytesMut, to_far: &mut BytesMut);
    fn reply(&mut self, frame: Frame, to_near: &mut BytesMut);
}

async fn flatter(
    mut near: DuplexStream,
    mut far: Stream,
    lane: Lane,
    mut flatterer: impl Liar,
) -> io::Result<()> {
    let hello = first_words(&mut near, HELLO).await?;
    far.write_all(&hello).await?;
    let answer = first_words(&mut far, ANSWER).await?;
    near.write_all(&answer).await?;
    if hello[LANE_AT] != lane as u8 {
        return copy_bidirectional(&mut near, &mut far).await.map(drop);
    }
    let decoder = || Decoder::new(BytesMut::new(), PAYLOAD_BYTES_MAX);
    let (mut requests, mut replies) = (decoder(), decoder());
    loop {
        let (mut to_near, mut to_far) = (BytesMut::new(), BytesMut::new());
        let read = tokio::select! {
            read = near.read_buf(requests.space()) => read?,
            read = far.read_buf(replies.space()) => read?,
        };
        while let Some(frame) = requests.decode().map_err(io::Error::other)? {
            flatterer.request(frame, &mut to_near, &mut to_far);
        }
        while let Some(frame) = replies.decode().map_err(io::Error::other)? {
            flatterer.reply(frame, &mut to_near);
        }
        near.write_all(&to_near).await?;
        far.write_all(&to_far).await?;
        if read == 0 {
            return Ok(());
        }
    }
}

async fn first_words(
    from: &mut (impl AsyncRead + Unpin),
    (size, length_at): (usize, usize),
) -> io::Result<Vec<u8>> {
    let mut words = vec![0; size];
    from.read_exact(&mut words).await?;
    let length = u16::from_le_bytes([words[length_at], words[length_at + 1]]);
    words.resize(size + usize::from(length) + CHECKSUM_BYTES, 0);
    from.read_exact(&mut words[size..]).await?;
    Ok(words)
}

#[derive(Default)]
struct Flatterer {
    /// The stream on which the other side has accepted something, so that what follows will do.
    accepted: Option<u64>,
    honest: BTreeSet<u64>,
    flattered: BTreeSet<u64>,
}

impl Liar for Flatterer {
    fn request(&mut self, frame: Frame, to_near: &mut BytesMut, to_far: &mut BytesMut) {
        let Frame { group, kind, id, payload } = frame;
        frame::encode(to_far, group, kind, id, |out| out.extend_from_slice(&payload));
        let Ok(Message::Request(Request::Append(request))) = Message::decode(kind, payload) else {
            return;
        };
        if self.accepted != Some(id >> 32) || !self.honest.is_empty() {
            self.honest.insert(id);
            return;
        }
        self.flattered.insert(id);
        let last = request.entries.last().map(|entry| entry.id).or(request.prev);
        let reply = Message::Reply(Reply::Append(AppendReply::Accepted(last)));
        frame::encode(to_near, group, reply.kind(), id, |out| reply.encode(out));
    }

    fn reply(&mut self, frame: Frame, to_near: &mut BytesMut) {
        let Frame { group, kind, id, payload } = frame;
        if self.flattered.remove(&id) {
            return;
        }
        self.honest.remove(&id);
        frame::encode(to_near, group, kind, id, |out| out.extend_from_slice(&payload));
        if let Ok(Message::Reply(Reply::Append(AppendReply::Accepted(_)))) =
            Message::decode(kind, payload)
        {
            self.accepted = Some(id >> 32);
        }
    }
}

/// Answers some requests in place of who was asked.
struct Answers(fn(&Request) -> Option<Reply>);

impl Liar for Answers {
    fn request(&mut self, frame: Frame, to_near: &mut BytesMut, to_far: &mut BytesMut) {
        let Frame { group, kind, id, payload } = frame;
        let answer = match Message::decode(kind, payload.clone()) {
            Ok(Message::Request(request)) => self.0(&request),
            _ => None,
        };
        match answer.map(Message::Reply) {
            Some(reply) => frame::encode(to_near, group, reply.kind(), id, |out| reply.encode(out)),
            None => frame::encode(to_far, group, kind, id, |out| out.extend_from_slice(&payload)),
        }
    }

    fn reply(&mut self, frame: Frame, to_near: &mut BytesMut) {
        let Frame { group, kind, id, payload } = frame;
        frame::encode(to_near, group, kind, id, |out| out.extend_from_slice(&payload));
    }
}

/// Tells whoever wants to succeed a leader that it is to, and has the vote, whatever its log is
/// like.
fn elect(request: &Request) -> Option<Reply> {
    match *request {
        Request::Vote(VoteRequest { vote, last, leadership_transfer: true, .. }) => {
            Some(Reply::Vote(VoteReply { vote, granted: true, last }))
        }
        Request::Vacancy(_) => Some(Reply::Vacancy(VacancyReply { vacant: true, last: None })),
        _ => None,
    }
}

/// Tells whoever asks that it still leads.
fn confirm(request: &Request) -> Option<Reply> {
    matches!(request, Request::Confirm(_)).then_some(Reply::Confirm(ConfirmReply { held: true }))
}

/// Answers each question for the read index with what the last one was answered with.
#[derive(Default)]
struct Echo {
    last: Option<Bytes>,
    /// Questions whose answers are only kept, and those that are handed on as well.
    echoed: BTreeSet<u64>,
    first: BTreeSet<u64>,
}

impl Liar for Echo {
    fn request(&mut self, frame: Frame, to_near: &mut BytesMut, to_far: &mut BytesMut) {
        let Frame { group, kind, id, payload } = frame;
        frame::encode(to_far, group, kind, id, |out| out.extend_from_slice(&payload));
        let Ok(Message::Request(Request::Call(call))) = Message::decode(kind, payload) else {
            return;
        };
        let call = peer::Request::decode(call).ok().and_then(|call| call.request);
        if !matches!(call, Some(peer::request::Request::ReadIndex(_))) {
            return;
        }
        let Some(last) = &self.last else {
            self.first.insert(id);
            return;
        };
        self.echoed.insert(id);
        let reply = Message::Reply(Reply::Call(last.clone()));
        frame::encode(to_near, group, reply.kind(), id, |out| reply.encode(out));
    }

    fn reply(&mut self, frame: Frame, to_near: &mut BytesMut) {
        let Frame { group, kind, id, payload } = frame;
        let is_echoed = self.echoed.remove(&id);
        if !is_echoed {
            frame::encode(to_near, group, kind, id, |out| out.extend_from_slice(&payload));
        }
        if (self.first.remove(&id) || is_echoed)
            && let Ok(Message::Reply(Reply::Call(answer))) = Message::decode(kind, payload)
        {
            self.last = Some(answer);
        }
    }
}
