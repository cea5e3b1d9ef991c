//! The fuzz target `log_damage`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orrery_fuzz::{
    seeds,
    targets::{self, log_damage},
};

fuzz_target!(init: targets::start(seeds::log_damage), |input: &[u8]| log_damage::run(input));
