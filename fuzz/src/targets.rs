//! One module for each target: what it does with an input, and what must hold then.
//!
//! A broken expectation is a panic, which the engine takes for a finding.

pub mod frame;
pub mod log_damage;
pub mod log_files;
pub mod request;

use crate::{memory, seeds};

/// What a target does before its first input.
pub fn start(seeds: fn() -> Vec<Vec<u8>>) {
    memory::lift_on_panic();
    seeds::provide(seeds);
}

/// Takes settings off the front of an input; zeros when there are no more.
pub(crate) struct Settings<'a>(pub(crate) &'a [u8]);

impl Settings<'_> {
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(crate) fn number(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }
}
