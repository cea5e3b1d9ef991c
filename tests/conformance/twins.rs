//! Random programs on a server of ours and an etcd, in step, until one is answered otherwise; that
//! one is cut down to the shortest that still is, and written as a script.

use std::{
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
        let begin = Instant::now();
        let mut twins = Twins::start(&self.etcd).await;
        let (mut programs, mut requests, mut seed) = (0_u64, 0, self.first_seed);
        announce(&format!("random programs, from seed {seed} on for {:?}", self.time));
        while programs == 0 || begin.elapsed() < self.time {
            let program = Program::new(seed);
            let name_seed = OnPanic(seed);
            if let Some(difference) = twins.differ(&program).await {
                self.report(&mut twins, program, difference).await;
            }
            drop(name_seed);
            (programs, requests, seed) =
                (programs + 1, requests + program.requests.len(), seed + 1);
        }
        let rate = requests as f64 / begin.elapsed().as_secs_f64();
        announce(&format!(
            "random programs: {programs} of seeds {} to {} with {requests} requests, {rate:.0} a \
             second, no difference",
            self.first_seed,
            seed - 1
        ));
    }

    async fn report(&self, twins: &mut Twins, program: Program, first: Difference) -> ! {
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
        let (etcd, ours) = tokio::join!(Asked::start(setup), Asked::start(Setup::new(1)));
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
