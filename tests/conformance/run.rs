//! Running scripts against a target and comparing the answers.

use std::{env, fs, path::PathBuf};

use super::{
    answer::Lines,
    machine::Machine,
    script::{Case, Exchange, Script},
    server::Server,
    shift::in_numbers_of_the_server,
};

/// What came of some scripts on one target.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub cases: usize,
    pub exchanges: usize,
    /// Cases that the target has no part in, or is too old for.
    pub skipped: usize,
    pub differences: Vec<String>,
}

impl Outcome {
    /// Says what was done, and fails if anything was answered otherwise.
    #[track_caller]
    pub(crate) fn check(&self, target: &str) {
        let Outcome { cases, exchanges, skipped, differences } = self;
        super::announce(&format!(
            "conformance of {target}: {cases} cases with {exchanges} exchanges, {skipped} cases \
             skipped, {} differences",
            differences.len()
        ));
        assert!(*cases > 0, "no case ran");
        assert!(differences.is_empty(), "{target}:\n{}", differences.join("\n"));
    }

    fn compare(&mut self, script: &Script, case: &Case, exchange: &Exchange, answer: &Lines) {
        self.exchanges += 1;
        if *answer != exchange.answer {
            self.differences.push(format!(
                "{}:{} ({})\n{}\nexpected:\n  {}\nanswered:\n  {}\n",
                script.name,
                exchange.line,
                case.title,
                exchange.text.join("\n"),
                exchange.answer.join("\n  "),
                answer.join("\n  ")
            ));
        }
    }
}

/// All scripts; `ORRERY_CONFORMANCE=put,txn` names some.
pub(crate) fn scripts() -> Vec<Script> {
    let only = env::var("ORRERY_CONFORMANCE").unwrap_or_default();
    let wanted = |path: &PathBuf| {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        path.extension().is_some_and(|extension| extension == "txt")
            && (only.is_empty() || only.split(',').any(|wanted| wanted == name))
    };
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).filter(wanted).collect();
    paths.sort();
    paths.iter().map(|path| Script::read(path)).collect()
}

pub(crate) fn folder() -> PathBuf {
    // Asked when it runs: a build that is kept may come from another checkout, gone since.
    PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("tests/conformance")
}

/// Each case on a state machine of its own.
pub(crate) fn on_state_machines(scripts: &[Script]) -> Outcome {
    let mut outcome = Outcome::default();
    for script in scripts {
        for (case, exchanges) in script.cases() {
            let mut machine = Machine::new();
            let answers: Option<Vec<Lines>> = match case.edge {
                true => None,
                false => {
                    let answer = |exchange: &&Exchange| machine.answer(exchange.request.clone());
                    exchanges.iter().map(answer).collect()
                }
            };
            let Some(answers) = answers else {
                outcome.skipped += 1;
                continue;
            };
            outcome.cases += 1;
            for (exchange, answer) in exchanges.iter().zip(&answers) {
                outcome.compare(script, case, exchange, answer);
            }
        }
    }
    outcome
}

/// What happens between the exchanges of a case.
pub(crate) trait Between {
    async fn exchange(&mut self, server: &mut Server, case: &[&Exchange], next: usize);
}

/// Nothing happens.
pub(crate) struct Peace;

impl Between for Peace {
    async fn exchange(&mut self, _: &mut Server, _: &[&Exchange], _: usize) {}
}

/// The cases of one kind, one after the other on one server: those that need a fresh store, of
/// which there may be one only, or the others. Answers are handed to `told`.
pub(crate) async fn on_server(
    server: &mut Server,
    script: &Script,
    case: &Case,
    exchanges: &[&Exchange],
    between: &mut impl Between,
    mut told: impl FnMut(&Exchange, Lines),
) -> bool {
    if case.since.is_some_and(|since| since > server.minor) {
        return false;
    }
    if case.fresh {
        assert_eq!(server.frame.base, 0, "{}: {} needs a store", script.name, case.title);
    } else {
        server.begin_case().await;
    }
    for (number, exchange) in exchanges.iter().enumerate() {
        between.exchange(server, exchanges, number).await;
        let request = in_numbers_of_the_server(exchange.request.clone(), server.frame);
        let answer = server.answer(request).await;
        told(exchange, answer);
    }
    true
}

impl Outcome {
    /// Runs one case and compares.
    pub(crate) async fn run(
        &mut self,
        server: &mut Server,
        script: &Script,
        (case, exchanges): (&Case, &[&Exchange]),
        between: &mut impl Between,
    ) {
        let mut answers = Vec::new();
        let told = |exchange: &Exchange, answer| answers.push((exchange.line, answer));
        if !on_server(server, script, case, exchanges, between, told).await {
            self.skipped += 1;
            return;
        }
        self.cases += 1;
        for (exchange, (_, answer)) in exchanges.iter().zip(&answers) {
            self.compare(script, case, exchange, answer);
        }
    }
}
