//! The fuzz target `frame`.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use orrery_fuzz::{
    seeds,
    targets::{self, frame},
};

fuzz_target!(init: targets::start(seeds::frame), |input: &[u8]| frame::run(input));

fuzz_mutator!(|input: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = fuzzer_mutate(input, size, max_size);
    frame::seal(&mut input[..size], seed);
    size
});
