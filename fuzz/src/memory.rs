//! A bound on what decoding may allocate: what asks for more ends the run as a finding.

use std::{alloc::System, panic};

use cap::Cap;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Runs `decode`, which may at no time hold more than this many bytes beyond what is held now.
pub(crate) fn bounded<T>(bytes_max: usize, decode: impl FnOnce() -> T) -> T {
    let limit = ALLOCATOR.allocated() + bytes_max;
    ALLOCATOR.set_limit(limit).expect("the limit is above what is allocated");
    let result = decode();
    ALLOCATOR.set_limit(usize::MAX).expect("there is no greater number");
    result
}

/// Lifts the bound when an expectation is broken, so that there is room to say so.
pub fn lift_on_panic() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        ALLOCATOR.set_limit(usize::MAX).expect("there is no greater number");
        report(info);
    }));
}
