//! Panics in the tasks of a simulation, which their runtimes catch: each is a finding.

use std::{
    cell::RefCell,
    panic::{set_hook, take_hook},
    sync::Once,
};

thread_local! {
    static NEWEST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on, panics are noted. A run has one thread, and its panics are that thread's.
pub(crate) fn watch() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |panic| {
            NEWEST.with(|newest| *newest.borrow_mut() = Some(panic.to_string()));
            usual(panic);
        }));
    });
    take();
}

/// The newest panic of this thread since the last call.
pub(crate) fn take() -> Option<String> {
    NEWEST.with(RefCell::take)
}
