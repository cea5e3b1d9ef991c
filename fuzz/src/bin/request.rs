//! The fuzz target `request`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use orrery_fuzz::{
    seeds,
    targets::{self, request},
};

fuzz_target!(init: targets::start(seeds::request), |input: &[u8]| request::run(input));
