//! A run: machines, network, clients and faults, one millisecond after the other, from one seed.

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use orrery::{node::Freshness, types::MemberId};
use rand::{
    Rng, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};
use tokio::runtime::{Builder, RngSeed, Runtime};

use super::{
    check, clients,
    coverage::Coverage,
    door::{Door, Request},
    ending,
    history::{Fate, History},
    machine::{self, Broken, Death, MEMBERS, Machine, STEP, host},
    nemesis::{Fault, Nemesis},
    network, panics, readers,
};

/// Clients find a cluster that works, at first.
const FAULTS_FROM_MS: u64 = 1000;
const FAULTS_UNTIL_MS: u64 = 7000;

/// After this much time nobody waits any more for a cluster that is left in peace.
const END_MS: u64 = 40_000;

#[derive(Debug)]
pub(crate) struct Report {
    pub coverage: Coverage,
    pub trace: Vec<String>,
}

/// What was found in a run, with what led to it.
pub(crate) struct Finding {
    pub what: String,
    pub trace: Vec<String>,
}

impl fmt::Debug for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// Runs a seed.
///
/// # Errors
/// Something is wrong.
pub(crate) fn run(seed: u64, broken: Broken) -> Result<Report, Finding> {
    panics::watch();
    let history = History::default();
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, broken, history.clone());
        let outcome = world.run();
        outcome.map(|()| world.coverage())
    }));
    let trace = std::mem::take(&mut history.book().trace);
    match outcome {
        Ok(Ok(coverage)) => Ok(Report { coverage, trace }),
        Ok(Err(what)) => Err(Finding { what, trace }),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
            Err(Finding { what: format!("panic: {text:?}"), trace })
        }
    }
}

enum Action {
    Start(usize),
    Heal(Vec<(usize, usize)>),
    Quicken((usize, usize)),
    Strike,
}

pub(crate) struct World {
    shared: clients::Shared,
    machines: Vec<Machine>,
    clients: Runtime,
    network: turmoil::Sim<'static>,
    /// For each way, how many reasons there are why nothing gets through.
    blocked: [[u32; MEMBERS]; MEMBERS],
    nemesis: Nemesis,
    random: StdRng,
    now: u64,
    /// What is to happen, by time and number.
    agenda: BTreeMap<(u64, u64), Action>,
    agenda_items: u64,
    latency_ms: u64,
    /// Terms and who led in them, with the life of the process that did.
    leaders: BTreeMap<(u64, MemberId), u64>,
    coverage: Coverage,
}

impl World {
    pub(crate) fn new(seed: u64, broken: Broken, history: History) -> World {
        let mut random = StdRng::seed_from_u64(seed);
        let latency_ms = *[2, 5, 20].choose(&mut random).unwrap();
        let mut builder = turmoil::Builder::new();
        builder
            .rng_seed(random.random())
            .tick_duration(STEP)
            .simulation_duration(Duration::from_secs(3600))
            .tcp_capacity(1024)
            .min_message_latency(Duration::from_micros(100))
            .max_message_latency(Duration::from_millis(latency_ms));
        if random.random_bool(0.3) {
            // Lost messages break connections: the simulated network sends nothing twice.
            builder.fail_rate(random.random_range(0.0001..0.002)).repair_rate(0.3);
        }
        let mut network = builder.build();
        let machines: Vec<Machine> = (0..MEMBERS)
            .map(|index| {
                let machine = Machine::new(index, random.random(), broken);
                let slot = machine.slot.clone();
                network.host(host(index), move || {
                    let slot = slot.clone();
                    async move {
                        loop {
                            let orders = slot.borrow_mut().take();
                            match orders {
                                Some(orders) => network::serve(orders).await,
                                None => tokio::time::sleep(STEP).await,
                            }
                        }
                    }
                });
                machine
            })
            .collect();
        let clients = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .rng_seed(RngSeed::from_bytes(&random.random::<[u8; 32]>()))
            .build()
            .unwrap();
        history.book().watchers = clients::watchers();
        let doors: Vec<Door> = machines.iter().map(|machine| machine.door.clone()).collect();
        let shared = clients::Shared {
            doors: doors.try_into().unwrap_or_else(|_| panic!("one for each member")),
            starts: Arc::default(),
            history,
            finishing: Arc::default(),
        };
        World {
            shared,
            machines,
            clients,
            network,
            blocked: Default::default(),
            nemesis: Nemesis::new(&mut random),
            random,
            now: 0,
            agenda: BTreeMap::new(),
            agenda_items: 0,
            latency_ms,
            leaders: BTreeMap::new(),
            coverage: Coverage::default(),
        }
    }

    fn run(&mut self) -> Result<(), String> {
        self.note(format!("{:?}, latency up to {} ms", self.nemesis, self.latency_ms));
        for index in 0..MEMBERS {
            let after = self.random.random_range(1..100);
            self.plan(after, Action::Start(index));
        }
        let mut work = Vec::new();
        for client in 0..4 {
            let client = clients::work(self.shared.clone(), client, self.random.random());
            work.push(self.clients.spawn(client));
        }
        for client in 0..2 {
            let client = readers::read(self.shared.clone(), client, self.random.random());
            work.push(self.clients.spawn(client));
        }
        for client in 0..2 {
            let client = clients::keep_leases(self.shared.clone(), client, self.random.random());
            work.push(self.clients.spawn(client));
        }
        for index in 0..clients::watchers().len() {
            self.clients.spawn(clients::watch(self.shared.clone(), index, self.random.random()));
        }
        self.plan(FAULTS_FROM_MS, Action::Strike);
        while self.now < FAULTS_UNTIL_MS {
            self.step()?;
        }
        self.leave_in_peace();
        let outcome = Arc::new(Mutex::new(None));
        let (told, shared) = (outcome.clone(), self.shared.clone());
        self.clients.spawn(async move {
            let ended = ending::wait(shared, work).await;
            *told.lock().unwrap() = Some(ended);
        });
        while outcome.lock().unwrap().is_none() {
            self.step()?;
            if self.now >= END_MS {
                return Err("the clients did not come to an end".to_owned());
            }
        }
        let last = outcome.lock().unwrap().take().expect("it is there")?;
        self.note(format!("all agree at {last}"));
        let book = self.shared.history.book();
        check::check(&book, last)
    }

    /// All members, for a run without faults of its own.
    pub(crate) fn start(&mut self) {
        (0..MEMBERS).for_each(|index| self.act(Action::Start(index)));
    }

    pub(crate) fn shared(&self) -> clients::Shared {
        self.shared.clone()
    }

    /// Who leads, as its own machine believes.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leads = |index: &usize| {
            let believed = self.machines[*index].leadership();
            believed.is_some_and(|(_, leader)| leader == machine::id(*index))
        };
        (0..MEMBERS).find(leads)
    }

    /// Has a client do its work, while time goes by.
    pub(crate) fn carry_out<T: Send + 'static>(
        &mut self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let work = self.clients.spawn(work);
        while !work.is_finished() {
            self.step().unwrap();
        }
        self.clients.block_on(work).unwrap()
    }

    fn note(&self, text: String) {
        self.shared.history.note(|| text);
    }

    fn plan(&mut self, after: u64, action: Action) {
        self.agenda_items += 1;
        self.agenda.insert((self.now + after, self.agenda_items), action);
    }

    pub(crate) fn step(&mut self) -> Result<(), String> {
        self.now += 1;
        self.shared.history.set_ms(self.now);
        while let Some(entry) = self.agenda.first_entry().filter(|it| it.key().0 <= self.now) {
            let action = entry.remove();
            self.act(action);
        }
        self.network.step().map_err(|error| format!("the network: {error}"))?;
        self.clients.block_on(async { tokio::time::sleep(STEP).await });
        if let Some(panic) = panics::take() {
            return Err(format!("a client: {panic}"));
        }
        let mut order: [usize; MEMBERS] = std::array::from_fn(|index| index);
        order.shuffle(&mut self.random);
        for index in order {
            self.machines[index].step(self.now);
            if let Some(panic) = panics::take() {
                return Err(format!("m{}: {panic}", index + 1));
            }
            self.look_after(index)?;
        }
        Ok(())
    }

    /// Notes who leads, and whether a member has ended by itself.
    fn look_after(&mut self, index: usize) -> Result<(), String> {
        let (machine, history) = (&self.machines[index], &self.shared.history);
        if let Some((term, leader)) = machine.leadership()
            && leader == machine::id(index)
        {
            // openraft tells leaders of the same term apart by their ids, so there may be several
            // in a term, but each of them only once: a vote outlives the process that gave it.
            let known = *self.leaders.entry((term, leader)).or_insert_with(|| {
                history.note(|| format!("m{leader} leads in term {term}"));
                machine.life()
            });
            if known != machine.life() {
                return Err(format!("m{leader} was made the leader of term {term} twice"));
            }
        }
        let Some(reason) = self.machines[index].ended() else { return Ok(()) };
        if !self.machines[index].is_failing {
            return Err(format!("m{} ended by itself: {reason}", index + 1));
        }
        self.coverage.torn_writes += 1;
        let down_ms = self.random.random_range(1..500);
        self.die(index, Death::PowerLoss, down_ms);
        Ok(())
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Start(index) => {
                if !self.machines[index].is_up() {
                    self.note(format!("m{} starts", index + 1));
                    self.shared.starts[index].fetch_add(1, Ordering::Relaxed);
                    self.machines[index].start(self.now);
                }
            }
            Action::Heal(ways) => {
                self.note(format!("healed {ways:?}"));
                self.block(&ways, false);
            }
            Action::Quicken(pair) => self.set_latency(pair, self.latency_ms),
            Action::Strike => {
                let fault = self.nemesis.next(&mut self.random);
                self.note(format!("{fault:?}"));
                self.strike(fault);
                let pause = self.nemesis.pause(&mut self.random);
                self.plan(pause, Action::Strike);
            }
        }
    }

    fn strike(&mut self, fault: Fault) {
        match fault {
            Fault::Die { members, death, down_ms } => {
                for index in members {
                    let apart = self.random.random_range(0..=down_ms / 2);
                    self.die(index, death, down_ms + apart);
                }
            }
            Fault::PowerAt { member, operation } => {
                if self.machines[member].is_up() {
                    self.machines[member].fail_at(operation);
                }
            }
            Fault::Cut { ways, for_ms } => self.cut(ways, for_ms),
            Fault::Pause { member, for_ms } => {
                if self.machines[member].is_up() {
                    self.coverage.pauses += 1;
                    self.machines[member].still_until = Some(self.now + for_ms);
                }
            }
            Fault::Slow { pair, latency_ms, for_ms } => {
                self.coverage.slowed += 1;
                self.set_latency(pair, latency_ms);
                self.plan(for_ms, Action::Quicken(pair));
            }
            Fault::Transfer { to, deaf_ms } => {
                let leaders = self.machines.iter().filter_map(Machine::leadership).max();
                let Some((_, leader)) = leaders else { return };
                self.coverage.transfers += 1;
                let from = usize::try_from(leader.0 - 1).unwrap();
                self.ask(from, Request::MoveLeader(machine::id(to)));
                if let Some(for_ms) = deaf_ms {
                    let others = (0..MEMBERS).filter(|other| *other != from);
                    self.cut(others.map(|other| (other, from)).collect(), for_ms);
                }
            }
            Fault::Compact { keep } => {
                // The watcher of everything must stay able to tell the whole history.
                let revision = self.shared.history.book().watchers[0].next - 1 - keep;
                if revision > 1 {
                    self.coverage.compactions += 1;
                    let member = self.random.random_range(0..MEMBERS);
                    self.ask(member, Request::Compact(revision));
                }
            }
        }
    }

    fn cut(&mut self, ways: Vec<(usize, usize)>, for_ms: u64) {
        self.coverage.cuts += 1;
        self.block(&ways, true);
        self.plan(for_ms, Action::Heal(ways));
    }

    fn ask(&self, member: usize, request: Request) {
        let shared = self.shared.clone();
        self.clients.spawn(async move {
            let text = format!("m{} {request:?}", member + 1);
            let answer = shared.call(member, request).await;
            shared.history.note(|| format!("{text} -> {answer:?}"));
        });
    }

    fn die(&mut self, index: usize, death: Death, down_ms: u64) {
        if !self.machines[index].is_up() {
            return;
        }
        self.note(format!("m{} dies: {death:?}", index + 1));
        self.coverage.snapshots += self.machines[index].snapshots();
        match death {
            Death::Kill => self.coverage.kills += 1,
            Death::PowerLoss => {
                self.coverage.power_losses += 1;
                // Nobody closes connections on its behalf: the others must notice.
                let others = (0..MEMBERS).filter(|other| *other != index);
                let ways: Vec<_> =
                    others.flat_map(|other| [(index, other), (other, index)]).collect();
                self.block(&ways, true);
                self.plan(down_ms, Action::Heal(ways));
            }
        }
        self.machines[index].die(death);
        self.plan(down_ms, Action::Start(index));
    }

    pub(crate) fn block(&mut self, ways: &[(usize, usize)], block: bool) {
        for (from, to) in ways.iter().copied() {
            let reasons = &mut self.blocked[from][to];
            match block {
                true => {
                    *reasons += 1;
                    self.network.partition_oneway(host(from), host(to));
                }
                false => {
                    *reasons -= 1;
                    if *reasons == 0 {
                        self.network.repair_oneway(host(from), host(to));
                    }
                }
            }
        }
    }

    fn set_latency(&self, (one, other): (usize, usize), latency_ms: u64) {
        let latency = Duration::from_millis(latency_ms);
        self.network.set_link_max_message_latency(host(one), host(other), latency);
    }

    /// Ends all faults at once.
    fn leave_in_peace(&mut self) {
        self.note("left in peace".to_owned());
        for action in std::mem::take(&mut self.agenda).into_values() {
            match action {
                Action::Start(_) | Action::Heal(_) | Action::Quicken(_) => self.act(action),
                Action::Strike => {}
            }
        }
        self.network.set_fail_rate(0.0);
        for machine in &mut self.machines {
            machine.still_until = None;
            machine.fail_no_more();
        }
    }

    fn coverage(&self) -> Coverage {
        let book = self.shared.history.book();
        let count = |number: usize| number as u64;
        let fates = |wanted: fn(&Fate) -> bool| {
            count(book.writes.iter().filter(|write| wanted(&write.fate)).count())
        };
        let reads = |wanted: fn(&Freshness) -> bool| {
            count(book.reads.iter().filter(|read| wanted(&read.freshness)).count())
        };
        let snapshots: u64 = self.machines.iter().map(Machine::snapshots).sum();
        Coverage {
            acknowledged: fates(|fate| matches!(fate, Fate::Done(..))),
            unknown: fates(|fate| matches!(fate, Fate::Unknown)),
            reads: count(book.reads.len()),
            bounded: reads(|freshness| matches!(freshness, Freshness::Within(_))),
            sessions: reads(|freshness| matches!(freshness, Freshness::AtLeast(_))),
            terms_led: count(self.leaders.len()),
            snapshots: self.coverage.snapshots + snapshots,
            watchers_resumed: book.watchers.iter().map(|watcher| watcher.resumed).sum(),
            watch_gaps: book.watchers.iter().map(|watcher| count(watcher.gaps.len())).sum(),
            leases_renewed: book.leases.values().map(|lease| count(lease.renewed.len())).sum(),
            leases_expired: count(book.watchers[0].expiries()),
            ..self.coverage
        }
    }
}
