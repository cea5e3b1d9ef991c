//! Lines as aks-engine writes them: a level, the seconds since the start, a text.

use std::time::Instant;

pub(crate) struct Log {
    start: Instant,
    is_silent: bool,
}

impl Log {
    pub(crate) fn start() -> Log {
        Log { start: Instant::now(), is_silent: false }
    }

    #[cfg(test)]
    pub(crate) fn silent() -> Log {
        Log { is_silent: true, ..Log::start() }
    }

    pub(crate) fn info(&self, text: &str) {
        self.line("INFO", text);
    }

    pub(crate) fn warn(&self, text: &str) {
        self.line("WARN", text);
    }

    fn line(&self, level: &str, text: &str) {
        if !self.is_silent {
            eprintln!("{level}[{:04}] {text}", self.start.elapsed().as_secs());
        }
    }
}
