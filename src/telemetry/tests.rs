//! The shape of a log line.

use std::sync::{Arc, Mutex};

use tracing::{debug, error, info, info_span, warn};

use super::*;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// What `log` writes at that level, line by line.
fn written(level: Level, log: impl FnOnce()) -> Vec<String> {
    let lines = Lines::default();
    let writer = lines.clone();
    tracing::subscriber::with_default(subscriber(level, Format::Json, move || writer.clone()), log);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_line_has_the_shape_of_zaps() {
    let lines = written(Level::Info, || {
        let span = info_span!("member", member = "8e9e05c52164694d", term = 2);
        let _inside = span.enter();
        warn!(data_dir = "/a \"b\"", bytes = 7u64, secure = true, "slow\nline");
    });
    let [line] = lines.as_slice() else { panic!("{lines:?}") };
    assert!(line.starts_with(r#"{"level":"warn","ts":""#), "{line}");
    let value: Value = serde_json::from_str(line).unwrap();
    assert_eq!(value["msg"], "slow\nline");
    assert_eq!(value["data-dir"], "/a \"b\"");
    assert_eq!(value["bytes"], 7);
    assert_eq!(value["secure"], true);
    assert_eq!(value["member"], "8e9e05c52164694d");
    assert_eq!(value["term"], 2);
    let caller = value["caller"].as_str().unwrap();
    let line = caller.strip_prefix("telemetry/tests.rs:").unwrap();
    assert!(line.parse::<u32>().is_ok(), "{caller}");
}

#[test]
fn a_console_gets_the_same_in_columns() {
    let mut fields = Map::new();
    let line = |fields: &Map<String, Value>| {
        line::line(Format::Console, "info", "now", "a/b.rs:1", "hello", fields)
    };
    assert_eq!(line(&fields), "now\tinfo\ta/b.rs:1\thello\n");
    fields.insert("a".to_owned(), 1.into());
    fields.insert("b".to_owned(), "x".into());
    assert_eq!(line(&fields), "now\tinfo\ta/b.rs:1\thello\t{\"a\": 1, \"b\": \"x\"}\n");
}

#[test]
fn levels_have_zaps_names() {
    assert_eq!(Level::parse(""), Some(Level::Info));
    assert_eq!(Level::parse("WARN"), Some(Level::Warn));
    assert_eq!(Level::parse("panic"), Some(Level::Fatal));
    assert_eq!(Level::parse("loud"), None);
}

#[test]
fn an_output_that_cannot_be_opened_is_named() {
    let outputs = vec![Output::File("/no/such/file".into())];
    let options = Options { level: Level::Info, format: Format::Json, outputs };
    let error = Sinks::open(&options).err().unwrap().to_string();
    assert_eq!(
        error,
        "open sink \"/no/such/file\": open /no/such/file: No such file or directory (os error 2)"
    );
}

#[test]
fn the_time_is_in_utc_with_microseconds() {
    let now = now();
    let shape: String = now.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000000Z", "{now}");
}

#[test]
fn a_field_never_hides_a_part_of_the_line() {
    let lines = written(Level::Info, || info!(level = 9, caller = "me", "hello"));
    let value: Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(value["level"], "info");
    assert_eq!(value["level_"], 9);
    assert_eq!(value["caller_"], "me");
}

#[test]
fn a_level_leaves_out_what_is_less_serious() {
    let logged = |level: Level| {
        let log = || {
            error!("e");
            warn!("w");
            info!("i");
            debug!("d");
            info!(target: "h2::codec", "library");
            warn!(target: "h2::codec", "library");
        };
        let levels = written(level, log).into_iter().map(|line| {
            let value: Value = serde_json::from_str(&line).unwrap();
            format!("{}:{}", value["level"].as_str().unwrap(), value["msg"].as_str().unwrap())
        });
        levels.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(logged(Level::Debug), "error:e warn:w info:i debug:d warn:library");
    assert_eq!(logged(Level::Info), "error:e warn:w info:i warn:library");
    assert_eq!(logged(Level::Error), "error:e");
    assert_eq!(logged(Level::Fatal), "");
}

#[test]
fn callers_are_the_last_folder_and_the_file() {
    assert_eq!(line::caller("src/raft/core.rs", 7), "raft/core.rs:7");
    assert_eq!(line::caller("src/main.rs", 7), "orrery/main.rs:7");
    assert_eq!(line::caller("/a/h2-0.4/src/codec/mod.rs", 7), "codec/mod.rs:7");
}

/// Runs this test again in a process of its own, which panics on another thread.
#[test]
fn a_panic_anywhere_is_a_fatal_line_and_ends_the_process() {
    const CHILD: &str = "ORRERY_TEST_PANICS";
    if std::env::var_os(CHILD).is_some() {
        let options =
            Options { level: Level::Fatal, format: Format::Json, outputs: vec![Output::Stderr] };
        start(&options, None).unwrap();
        let _ = std::thread::spawn(|| panic!("boom {}", 7)).join();
        println!("still there");
        return;
    }
    let name = "telemetry::tests::a_panic_anywhere_is_a_fatal_line_and_ends_the_process";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .env_remove("RUST_BACKTRACE")
        .output()
        .unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
    assert_eq!(signal, Some(nix::sys::signal::Signal::SIGABRT as i32));
    assert!(!String::from_utf8_lossy(&output.stdout).contains("still there"));
    let line: Value = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(line["level"], "fatal");
    assert_eq!(line["msg"], "panic: boom 7");
    assert!(line["caller"].as_str().unwrap().starts_with("telemetry/tests.rs:"), "{line}");
}
