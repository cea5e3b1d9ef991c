//! The fuzz target `log_files`.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use orrery_fuzz::{
    seeds,
    targets::{self, log_files},
};

fuzz_target!(init: targets::start(seeds::log_files), |input: &[u8]| log_files::run(input));

fuzz_mutator!(|input: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let size = fuzzer_mutate(input, size, max_size);
    log_files::seal(&mut input[..size], seed);
    size
});
