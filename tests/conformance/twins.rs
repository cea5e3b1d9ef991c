//! Random programs on a server of ours and an etcd, in step, until one is answered otherwise; that
//! one is cut down to the shortest that still is, and written as a script.

use std::{
    cell::Cell,
    fmt::Write as _,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use orrery::proto::etcdserverpb::PutRequest;

use super::{
    Asked, announce, answer::Lines, members::Setup, print, program::Program, request::Request, run,
    server, server::Server, shift::in_numbers_of_the_server, shrink,
};

/// Programs that run at once: most of their time is spent waiting for silence.
const LANES: usize = 3;

/// How long to search, and from where on.
pub(crate) struct Search {
    pub etcd: PathBuf,
    pub first_seed: u64,
    pub time: Duration,
}

/// A request as it was sent, and the answer.
type Exchange = (Request, Lines);

/// What both were asked, up to where they differ.
struct Difference {
    agreed: Vec<Exchange>,
    etcd: Vec<Exchange>,
    ours: Vec<Exchange>,
}

impl Search {
    /// Runs programs of one seed after the other. Fails at the first difference.
    pub(crate) async fn run(&self) {
        announce(&format!("random programs, from seed {} on for {:?}", self.first_seed, self.time));
        let begin = Instant::now();
        let tally = Tally { next_seed: Cell::new(self.first_seed), requests: Cell::new(0) };
        let lanes = (0..LANES).map(|_| self.lane(begin, &tally));
        if let Err(found) = futures::future::try_join_all(lanes).await {
            self.report(*found).await;
        }
        let (end, requests) = (tally.next_seed.get(), tally.requests.get());
        let rate = requests as f64 / begin.elapsed().as_secs_f64();
        announce(&format!(
            "random programs: {} of seeds {} to {} with {requests} requests, {rate:.0} a second, \
             no difference",
            end - self.first_seed,
            self.first_seed,
            end - 1
        ));
    }

    /// Runs program after program on servers of its own.
    async fn lane(&self, begin: Instant, tally: &Tally) -> Result<(), Box<Found>> {
        let mut twins = Twins::start(&self.etcd).await;
        while begin.elapsed() < self.time || tally.next_seed.get() == self.first_seed {
            let seed = tally.next_seed.replace(tally.next_seed.get() + 1);
            let program = Program::new(seed);
            let name_seed = OnPanic(seed);
            if let Some(difference) = twins.differ(&program).await {
                return Err(Box::new(Found { twins, program, difference }));
            }
            drop(name_seed);
            tally.requests.set(tally.requests.get() + program.requests.len());
        }
        Ok(())
    }

    async fn report(&self, found: Found) -> ! {
        let Found { mut twins, program, difference: first } = found;
        let seed = program.seed;
        announce(&format!("seed {seed} is answered otherwise:\n{}", first.text()));
        let title = format!("Random program of seed {seed}");
        let mut smallest = first.script(&title, program.fresh);
        let shrunk = shrink::shrink(program, async |candidate| {
            let difference = twins.differ(candidate).await;
            if let Some(difference) = &difference {
                smallest = difference.script(&title, candidate.fresh);
            }
            difference.is_some()
        });
        if !shrunk.await {
            announce("the same program was answered alike when it was run again");
        }
        let folder = run::folder().join("found");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("seed_{seed}.txt"));
        fs::write(&path, &smallest).unwrap();
        panic!("seed {seed} is answered otherwise; see {}:\n{smallest}", path.display());
    }
}

/// How far all lanes have come.
struct Tally {
    next_seed: Cell<u64>,
    requests: Cell<usize>,
}

struct Found {
    twins: Twins,
    program: Program,
    difference: Difference,
}

/// Names the seed of a program that did not come to its end.
struct OnPanic(u64);

impl Drop for OnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            announce(&format!("in the random program of seed {}", self.0));
        }
    }
}

struct Twins {
    binary: PathBuf,
    etcd: Asked,
    ours: Asked,
}

impl Twins {
    async fn start(binary: &PathBuf) -> Twins {
        let mut setup = Setup::new(1);
        setup.binary.clone_from(binary);
        // Large futures, boxed so that those around them are not.
        let etcd = Box::pin(Asked::start(setup));
        let ours = Box::pin(Asked::start(Setup::new(1)));
        let (etcd, ours) = tokio::join!(etcd, ours);
        Twins { binary: binary.clone(), etcd, ours }
    }

    /// Runs the program on both, to its end or the first difference.
    async fn differ(&mut self, program: &Program) -> Option<Difference> {
        if program.fresh {
            let mut fresh = Twins::start(&self.binary).await;
            return fresh.run(&program.requests).await;
        }
        tokio::join!(begin(&mut self.etcd.server), begin(&mut self.ours.server));
        self.run(&program.requests).await
    }

    async fn run(&mut self, requests: &[Request]) -> Option<Difference> {
        let mut agreed = Vec::new();
        for request in requests.iter().map(Some).chain([None]) {
            let (etcd, ours) = tokio::join!(
                play(&mut self.etcd.server, request),
                play(&mut self.ours.server, request)
            );
            if etcd != ours {
                return Some(Difference { agreed, etcd, ours });
            }
            agreed.extend(etcd);
        }
        None
    }
}

/// Makes the beginning of the case newer than any compaction, so that no answer depends on what
/// was run before.
async fn begin(server: &mut Server) {
    let put = PutRequest { key: Bytes::from_static(b"a"), ..PutRequest::default() };
    server.answer(Request::Put(put)).await;
    server.begin_case().await;
}

/// Asks one thing, or at the end nothing, with what has come on streams so far where the answer or
/// what comes then would depend on it.
async fn play(server: &mut Server, request: Option<&Request>) -> Vec<Exchange> {
    let streams = match request {
        None | Some(Request::Compact(_)) => server.streams(),
        Some(Request::Cancel { stream, .. } | Request::Progress { stream }) => vec![stream.clone()],
        Some(_) => Vec::new(),
    };
    let mut exchanges = Vec::new();
    for stream in &streams {
        exchanges.extend(server.settle(stream).await);
    }
    if let Some(request) = request {
        let numbered = in_numbers_of_the_server(request.clone(), server.frame);
        let answer = server.answer(numbered).await;
        exchanges.push((request.clone(), comparable(request, answer)));
    }
    if let Some(Request::Progress { stream }) = request {
        exchanges.push(server.progress(stream).await);
    }
    // The answer to a cancel tells the revision when it was made: before anything else is changed.
    if let Some(Request::Cancel { stream, .. }) = request {
        exchanges.extend(server.settle(stream).await);
    }
    exchanges
}

/// Without what may differ: etcd has the keys of a lease in no order, and time goes on.
fn comparable(request: &Request, mut answer: Lines) -> Lines {
    if !matches!(request, Request::TimeToLive(_)) {
        return answer;
    }
    answer.sort();
    for line in &mut answer {
        let words: Vec<&str> = line.split(' ').collect();
        if let ["id", id, "ttl", ttl, "granted", granted] = words[..]
            && let (Ok(left), Ok(all)) = (ttl.parse::<i64>(), granted.parse::<i64>())
            && (0..=server::MOST_ELAPSED).contains(&(all - left))
        {
            *line = format!("id {id} ttl {all} granted {all}");
        }
    }
    answer
}

impl Difference {
    /// What differs.
    fn text(&self) -> String {
        format!("etcd:\n{}\nours:\n{}", text(&self.etcd), text(&self.ours))
    }

    /// All of it, with etcd's answers; what ours are is told in front.
    fn script(&self, title: &str, fresh: bool) -> String {
        let condition = if fresh { "fresh\n" } else { "" };
        let mut script = String::from("Ours ends with:\n");
        for line in text(&self.ours).lines() {
            let _ = writeln!(script, "    {line}");
        }
        let etcd = text(&self.agreed) + &text(&self.etcd);
        let _ = write!(script, "\n=== {title}\n{condition}\n{etcd}");
        if self.etcd.len() < self.ours.len() {
            for stream in self.ours.iter().filter_map(|(request, _)| stream(request)) {
                let _ = writeln!(script, "> silence stream={stream}");
            }
        }
        script
    }
}

fn stream(request: &Request) -> Option<&String> {
    match request {
        Request::Events { stream, .. } | Request::Next { stream } => Some(stream),
        _ => None,
    }
}

fn text(exchanges: &[Exchange]) -> String {
    let lines = exchanges.iter().flat_map(|(request, answer)| {
        print::lines(request).into_iter().chain(answer.iter().cloned())
    });
    lines.map(|line| line + "\n").collect()
}
