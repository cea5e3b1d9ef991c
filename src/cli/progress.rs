//! A bar for what takes long, on a terminal alone.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is done sooner needs no bar.
const SHOWN_AFTER: Duration = Duration::from_secs(2);

/// How much is done between two looks at the clock.
const STEP_BYTES: u64 = 1 << 20;

pub(super) struct Progress {
    bar: ProgressBar,
    start: Instant,
    is_shown: bool,
    next: u64,
}

impl Progress {
    /// Of something that is counted in bytes.
    pub(super) fn new(what: &'static str) -> Progress {
        let style = "{msg} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
        let style = ProgressStyle::with_template(style);
        let bar =
            ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::hidden()).with_message(what);
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        Progress { bar, start: Instant::now(), is_shown: false, next: 0 }
    }

    /// May be called often: what is close to the last call is passed over.
    pub(super) fn at(&mut self, done: u64, of: u64) {
        if done < self.next {
            return;
        }
        self.next = done + STEP_BYTES;
        if !self.is_shown && self.start.elapsed() >= SHOWN_AFTER {
            // Draws nothing when standard error is no terminal.
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.is_shown = true;
        }
        self.bar.set_length(of.max(done));
        self.bar.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
