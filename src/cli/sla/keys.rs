//! The keys that probers write: registers with one writer each.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::{Rng, seq::IndexedRandom};

/// What all keys of probes begin with.
pub(crate) const PREFIX: &str = "orrery-sla/";

/// A key that nobody writes at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Free {
    pub(crate) key: usize,
    /// What is to be written next.
    pub(crate) counter: u64,
}

/// All keys of a run, by their places in the order in which they were made.
#[derive(Debug)]
pub(crate) struct Keys {
    run: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    made: usize,
    /// Keys of each region that wait for their next write, the longest first.
    free: Vec<std::collections::VecDeque<Free>>,
    /// Keys that are written at times: what is read.
    active: Vec<usize>,
}

impl Keys {
    /// `run` tells the keys of one run from those of others.
    pub(crate) fn new(run: &str, regions: usize) -> Keys {
        let free = vec![std::collections::VecDeque::new(); regions];
        let state = State { made: 0, free, active: Vec::new() };
        Keys { run: run.to_owned(), state: Mutex::new(state) }
    }

    pub(crate) fn name(&self, key: usize) -> String {
        format!("{PREFIX}{}/{key:09}", self.run)
    }

    pub(crate) fn made(&self) -> usize {
        self.lock().made
    }

    /// A key for a write from a region: of those that are free the one that has been for the
    /// longest, once the region has `wanted` of them, so that many keys are written in turns.
    pub(crate) fn take(&self, region: usize, wanted: usize) -> Free {
        let mut state = self.lock();
        let waiting = state.free.get(region).map_or(0, std::collections::VecDeque::len);
        if waiting >= wanted.max(1)
            && let Some(free) = state.free[region].pop_front()
        {
            return free;
        }
        let key = state.made;
        state.made += 1;
        state.active.push(key);
        Free { key, counter: 1 }
    }

    /// The write was acknowledged: the key may be written again.
    pub(crate) fn acknowledged(&self, region: usize, written: Free) {
        let next = Free { counter: written.counter + 1, ..written };
        if let Some(free) = self.lock().free.get_mut(region) {
            free.push_back(next);
        }
    }

    /// Nobody knows whether it was written: the key is left as it is, for good.
    pub(crate) fn retire(&self, written: Free) {
        self.lock().active.retain(|key| *key != written.key);
    }

    /// A key to read; `None` before the first write.
    pub(crate) fn any(&self, random: &mut impl Rng) -> Option<usize> {
        self.lock().active.choose(random).copied()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What is held is whole at every moment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_written_by_one_at_a_time_and_in_order() {
        let keys = Keys::new("a", 2);
        let first = keys.take(0, 1);
        let second = keys.take(0, 1);
        assert_ne!(first.key, second.key);
        keys.acknowledged(0, first);
        assert_eq!(keys.take(1, 1).counter, 1, "another region has keys of its own");
        assert_eq!(keys.take(0, 1), Free { key: first.key, counter: 2 });
    }

    #[test]
    fn a_key_of_unknown_state_is_neither_written_nor_read_again() {
        let keys = Keys::new("a", 1);
        let written = keys.take(0, 1);
        keys.retire(written);
        assert_eq!(keys.any(&mut rand::rng()), None);
        assert_ne!(keys.take(0, 1).key, written.key);
    }
}
