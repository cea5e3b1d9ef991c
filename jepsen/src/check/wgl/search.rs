//! The search for an order, depth first with an explicit stack.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{Answer, Model, Proof, Timed};
use crate::history::Nanos;

/// Configurations to remember, of about 250 bytes each: a quarter of a gigabyte.
const CONFIGURATIONS_MAX: usize = 1_000_000;

/// Configurations between two looks at the clock.
const BETWEEN_LOOKS: usize = 1024;

/// Which operations of a kind are done, a bit each.
type Bits = Box<[u64]>;

pub(super) struct Search<'a, M: Model> {
    model: &'a M,
    operations: &'a [Timed<M::Operation>],
    /// Places of the operations of known outcome, in the order in which they began.
    known: Vec<usize>,
    /// Places of the others, likewise. They are used up rather than done.
    open: Vec<usize>,
    /// What led nowhere: for what was done and the state after it, the smallest sets of open
    /// operations that had been used up.
    seen: HashMap<(Bits, M::State), Vec<Bits>>,
    remembered: usize,
    longest: Option<Deepest>,
}

/// One operation put into the order, and what can be tried in place of the next.
struct Frame<State> {
    state: State,
    /// The state before, if an open operation was put last.
    before_open: Option<State>,
    done: Bits,
    used: Bits,
    /// Of the known operations, how many are done from the first on without a gap.
    gapless: usize,
    /// What to try next, the last first.
    choices: Vec<(Choice, State)>,
    /// What was put into the order to get here.
    placed: Option<usize>,
    depth: usize,
}

#[derive(Clone, Copy)]
enum Choice {
    Known(usize),
    Open(usize),
}

struct Deepest {
    depth: usize,
    proof: Proof,
}

impl<'a, M: Model> Search<'a, M> {
    pub(super) fn new(model: &'a M, operations: &'a [Timed<M::Operation>]) -> Search<'a, M> {
        let places = |is_known: bool| {
            let mut places: Vec<usize> = (0..operations.len())
                .filter(|at| operations[*at].ended.is_some() == is_known)
                .collect();
            places.sort_by_key(|at| (operations[*at].began, operations[*at].ended));
            places
        };
        Search {
            model,
            operations,
            known: places(true),
            open: places(false),
            seen: HashMap::new(),
            remembered: 0,
            longest: None,
        }
    }

    pub(super) fn run(mut self, limit: Duration) -> Answer {
        let began = Instant::now();
        let mut tried = 0_usize;
        let mut stack = vec![Frame {
            state: self.model.initial(),
            before_open: None,
            done: bits(self.known.len()),
            used: bits(self.open.len()),
            gapless: 0,
            choices: Vec::new(),
            placed: None,
            depth: 0,
        }];
        self.open_up(&mut stack);
        while let Some(top) = stack.last_mut() {
            if top.depth == self.known.len() {
                return Answer::Linearizable;
            }
            let Some((choice, state)) = top.choices.pop() else {
                stack.pop();
                continue;
            };
            let next = self.follow(top, choice, state);
            if self.is_hopeless(&next) {
                continue;
            }
            tried += 1;
            if tried.is_multiple_of(BETWEEN_LOOKS) && began.elapsed() > limit {
                return Answer::Unknown(format!("not decided after {limit:?}, {tried} tries"));
            }
            if self.remembered > CONFIGURATIONS_MAX {
                return Answer::Unknown(format!("not decided after {tried} tries, memory is full"));
            }
            stack.push(next);
            self.open_up(&mut stack);
        }
        let deepest =
            self.longest.expect("the first frame had nowhere to go, so one is the deepest");
        Answer::Violated(deepest.proof)
    }

    /// Finds the choices of the frame on top of the stack.
    fn open_up(&mut self, stack: &mut [Frame<M::State>]) {
        let top = stack.last_mut().expect("it is called after a push");
        while top.gapless < self.known.len() && has(&top.done, top.gapless) {
            top.gapless += 1;
        }
        let (candidates, horizon) = self.candidates(top);
        let Some(stuck) = candidates.iter().copied().min_by_key(|at| self.ended(*at)) else {
            return;
        };
        top.choices = self.choices(top, &candidates, horizon);
        let depth = top.depth;
        if self.longest.as_ref().is_none_or(|longest| depth > longest.depth) {
            let proof = Proof {
                longest: stack.iter().filter_map(|frame| frame.placed).collect(),
                state: format!("{:?}", stack[stack.len() - 1].state),
                stuck: self.known[stuck],
                next: candidates.iter().map(|at| self.known[*at]).collect(),
            };
            self.longest = Some(Deepest { depth, proof });
        }
    }

    /// Known operations that may be next: nothing that is not done was over when they began. With
    /// them, the moment at which the first that is not done was over.
    fn candidates(&self, frame: &Frame<M::State>) -> (Vec<usize>, Nanos) {
        let mut horizon = Nanos::MAX;
        let mut found = Vec::new();
        for at in frame.gapless..self.known.len() {
            if self.operations[self.known[at]].began > horizon {
                break;
            }
            if !has(&frame.done, at) {
                horizon = horizon.min(self.ended(at));
                found.push(at);
            }
        }
        (found, horizon)
    }

    /// What to try next, the last first: a read that fits, and then nothing else; otherwise the
    /// known operations and, only when those lead nowhere, the open ones.
    fn choices(
        &self,
        frame: &Frame<M::State>,
        candidates: &[usize],
        horizon: Nanos,
    ) -> Vec<(Choice, M::State)> {
        let mut known = Vec::new();
        for at in candidates {
            let place = self.known[*at];
            let Some(state) = self.makes_sense(frame, place) else { continue };
            if self.model.is_read(&self.operations[place].operation) {
                return vec![(Choice::Known(*at), state)];
            }
            known.push((Choice::Known(*at), state));
        }
        let mut choices = self.open_choices(frame, horizon);
        choices.extend(known.into_iter().rev());
        choices
    }

    /// Open operations that may be next and change something. Of those that do the same, the one
    /// that began first stands for all.
    fn open_choices(&self, frame: &Frame<M::State>, horizon: Nanos) -> Vec<(Choice, M::State)> {
        let mut alike: Vec<&M::Operation> = Vec::new();
        let mut found = Vec::new();
        for (at, place) in self.open.iter().enumerate() {
            let timed = &self.operations[*place];
            if timed.began > horizon {
                break;
            }
            if has(&frame.used, at) || alike.contains(&&timed.operation) {
                continue;
            }
            alike.push(&timed.operation);
            if let Some(state) = self.makes_sense(frame, *place)
                && state != frame.state
            {
                found.push((Choice::Open(at), state));
            }
        }
        found
    }

    /// The state after the operation, if it fits; but nothing when the last one put was an open one
    /// that makes no difference to it, for then that one might as well be left out.
    fn makes_sense(&self, frame: &Frame<M::State>, place: usize) -> Option<M::State> {
        let operation = &self.operations[place].operation;
        let state = self.model.apply(&frame.state, operation)?;
        let without = frame.before_open.as_ref().and_then(|it| self.model.apply(it, operation));
        (without.as_ref() != Some(&state)).then_some(state)
    }

    fn follow(&self, from: &Frame<M::State>, choice: Choice, state: M::State) -> Frame<M::State> {
        let mut next = Frame {
            state,
            before_open: None,
            done: from.done.clone(),
            used: from.used.clone(),
            gapless: from.gapless,
            choices: Vec::new(),
            placed: None,
            depth: from.depth,
        };
        match choice {
            Choice::Known(at) => {
                put(&mut next.done, at);
                next.placed = Some(self.known[at]);
                next.depth += 1;
            }
            Choice::Open(at) => {
                put(&mut next.used, at);
                next.placed = Some(self.open[at]);
                next.before_open = Some(from.state.clone());
            }
        }
        next
    }

    /// Whether one that could do all that this can was looked at before; else this is remembered.
    fn is_hopeless(&mut self, frame: &Frame<M::State>) -> bool {
        let key = (frame.done.clone(), frame.state.clone());
        let smallest = self.seen.entry(key).or_default();
        if smallest.iter().any(|used| is_within(used, &frame.used)) {
            return true;
        }
        let before = smallest.len();
        smallest.retain(|used| !is_within(&frame.used, used));
        smallest.push(frame.used.clone());
        self.remembered = self.remembered + smallest.len() - before;
        false
    }

    fn ended(&self, at: usize) -> Nanos {
        self.operations[self.known[at]].ended.unwrap_or(Nanos::MAX)
    }
}

fn bits(len: usize) -> Bits {
    vec![0; len.div_ceil(64)].into()
}

fn has(bits: &Bits, at: usize) -> bool {
    bits[at / 64] >> (at % 64) & 1 == 1
}

fn put(bits: &mut Bits, at: usize) {
    bits[at / 64] |= 1 << (at % 64);
}

fn is_within(small: &Bits, large: &Bits) -> bool {
    small.iter().zip(large).all(|(small, large)| small & !large == 0)
}
