//! The house rules that the compiler does not check: layers, sizes, names, and where clocks,
//! statuses and the environment may appear. ARCHITECTURE.md gives the reasons.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Each module with what it may import besides itself, lowest layer first.
const LAYERS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("proto", &[]),
    ("log", &["types"]),
    ("bbolt", &[]),
    ("storage", &["types"]),
    ("cluster", CORE_PART),
    ("lease", CORE_PART),
    ("mvcc", CORE_PART),
    ("auth", CORE_PART),
    ("alarm", CORE_PART),
    ("region", CORE_PART),
    ("state_machine", CORE),
    (
        "exchange",
        &[
            "state_machine",
            "mvcc",
            "lease",
            "auth",
            "cluster",
            "alarm",
            "bbolt",
            "storage",
            "types",
            "proto",
        ],
    ),
    ("watch", CORE),
    ("tls", &[]),
    ("telemetry", &["types"]),
    (
        "raft",
        &[
            "state_machine",
            "watch",
            "storage",
            "log",
            "cluster",
            "types",
            "proto",
            "tls",
            "telemetry",
        ],
    ),
    (
        "node",
        &[
            "raft",
            "exchange",
            "state_machine",
            "watch",
            "mvcc",
            "lease",
            "auth",
            "cluster",
            "alarm",
            "region",
            "storage",
            "log",
            "types",
            "proto",
            "tls",
            "telemetry",
        ],
    ),
    ("grpc", EDGE),
    (
        "http",
        &[
            "grpc",
            "node",
            "proto",
            "types",
            "state_machine",
            "mvcc",
            "lease",
            "auth",
            "cluster",
            "alarm",
            "watch",
            "tls",
            "telemetry",
        ],
    ),
    ("cli", ALL),
    ("config", ALL),
    ("main", ALL),
    ("lib", ALL),
];

const CORE_PART: &[&str] = &["storage", "types", "proto"];
const CORE: &[&str] =
    &["mvcc", "lease", "auth", "cluster", "alarm", "region", "storage", "types", "proto"];
/// Of the core, the edge imports the error enums.
const EDGE: &[&str] = &[
    "node",
    "proto",
    "types",
    "state_machine",
    "mvcc",
    "lease",
    "auth",
    "cluster",
    "alarm",
    "region",
    "watch",
    "tls",
    "telemetry",
];
/// Stands for every module.
const ALL: &[&str] = &["*"];

/// Modules that every member must run to the same bytes.
const DETERMINISTIC: &[&str] =
    &["types", "cluster", "lease", "mvcc", "auth", "alarm", "region", "state_machine"];
/// Files of those modules that are the leader's own and so may have a clock.
const NOT_REPLICATED: &[&str] = &["src/lease/expiry.rs"];
/// What would make members differ.
const NONDETERMINISTIC: &[&str] =
    &["Instant::now", "SystemTime", "rand::", "tokio::", "env::", "HashMap", "HashSet"];

/// A word, the only places that may have it, and what to say elsewhere.
const PLACES: &[(&str, &[&str], &str)] = &[
    ("rocksdb::", &["src/storage"], "only `storage` names RocksDB"),
    ("openraft::", &["src/raft"], "only `raft` names openraft"),
    ("env::", &["src/config"], "only `config` reads the environment"),
    ("super::super", &[], "name the module from `crate::`"),
    ("#[allow(", &[], "`#[expect(..., reason = \"...\")]` says why, and ends with its reason"),
    (
        ".unwrap()",
        &[],
        "outside tests, return the error or `expect` with the reason why there is none",
    ),
    ("FIXME", &[], "fix it, or open an issue"),
    ("dbg!", &[], "a leftover"),
    ("todo!", &[], "a leftover"),
];

/// Ways to make a gRPC status.
const STATUS: &[&str] = &[
    "new",
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
    "with_details",
    "with_metadata",
    "from_error",
];
const STATUS_FILE: &str = "src/grpc/status.rs";
/// `node::Status` is another thing: what a member knows of itself.
const OTHER_STATUS: &str = "src/node";

const BANNED_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc", "mod"];
const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_COLUMNS_MAX: usize = 100;

#[test]
fn the_house_is_tidy() {
    let mut faults = Vec::new();
    for folder in ["src", "tests", "benches", "fuzz/src"] {
        visit(Path::new(folder), &mut |path, text| faults.extend(check(path, text)));
    }
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

/// What is wrong with one file, as `path:line: what`.
fn check(path: &Path, text: &str) -> Vec<String> {
    let mut faults = Faults { path: path.to_owned(), text, found: Vec::new() };
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    if BANNED_NAMES.contains(&name.as_ref()) {
        faults.add(0, format!("`{name}` says nothing; name the file by what it is about"));
    }
    if !text.starts_with("//!") {
        faults.add(0, "a file starts by saying what it is for (`//! ...`)".into());
    }
    if text.lines().count() > FILE_LINES_MAX {
        faults.add(0, format!("over {FILE_LINES_MAX} lines; which two things is it about?"));
    }
    check_lines(text, &mut faults);
    check_functions(text, &mut faults);
    // Tests come last in a file, and may reach anywhere.
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    if path.starts_with("src") && !is_tests(path) {
        check_layers(code, &mut faults);
        check_words(code, &mut faults);
    }
    faults.found
}

/// Whether the file is a module for tests only, or a part of one, by how its parent declares it.
fn is_tests(path: &Path) -> bool {
    let Some((name, folder)) = path.file_stem().zip(path.parent()) else { return false };
    let name = name.to_string_lossy();
    let parent = folder.with_extension("rs");
    let Ok(text) = std::fs::read_to_string(&parent) else { return name == "tests" };
    let declarations = ["mod", "pub(crate) mod", "pub(super) mod"];
    let is_declared_for_tests =
        |declaration: &&str| text.contains(&format!("#[cfg(test)]\n{declaration} {name};"));
    declarations.iter().any(is_declared_for_tests) || is_tests(&parent)
}

struct Faults<'a> {
    path: PathBuf,
    text: &'a str,
    found: Vec<String>,
}

impl Faults<'_> {
    fn add(&mut self, at: usize, what: String) {
        let line = self.text[..at].matches('\n').count() + 1;
        self.found.push(format!("{}:{line}: {what}", self.path.display()));
    }

    /// The module that the file is, or is a part of.
    fn module(&self) -> String {
        let first = self.path.components().nth(1).map(|part| part.as_os_str().to_string_lossy());
        first.unwrap_or_default().trim_end_matches(".rs").to_owned()
    }
}

fn check_lines(text: &str, faults: &mut Faults<'_>) {
    let mut at = 0;
    for line in text.lines() {
        // A text that a test expects to the letter is not broken.
        let is_text = line.contains('"');
        if line.chars().count() > LINE_COLUMNS_MAX && !is_text {
            faults.add(at, format!("over {LINE_COLUMNS_MAX} columns"));
        }
        at += line.len() + 1;
    }
}

/// Counts from the line with `fn` to the brace at its indentation, which is where rustfmt puts it.
fn check_functions(text: &str, faults: &mut Faults<'_>) {
    let lines: Vec<&str> = text.lines().collect();
    let mut at = 0;
    for (number, line) in lines.iter().enumerate() {
        let indent = &line[..line.len() - line.trim_start().len()];
        if starts_function(line.trim_start()) {
            let end = format!("{indent}}}");
            let length = lines[number..].iter().position(|line| *line == end);
            // One that ends in `;` or on its own line has no such brace of its own, or a short way.
            let is_declared = lines[number..]
                .iter()
                .take_while(|line| !line.ends_with('{'))
                .any(|line| line.ends_with(';'));
            if !is_declared && length.is_some_and(|length| length + 1 > FUNCTION_LINES_MAX) {
                faults.add(at, format!("a function over {FUNCTION_LINES_MAX} lines"));
            }
        }
        at += line.len() + 1;
    }
}

fn starts_function(line: &str) -> bool {
    let mut rest = line;
    loop {
        let words = ["pub(crate) ", "pub(super) ", "pub ", "const ", "async ", "unsafe "];
        match words.iter().find_map(|word| rest.strip_prefix(word)) {
            Some(after) => rest = after,
            None => return rest.starts_with("fn "),
        }
    }
}

fn check_layers(code: &str, faults: &mut Faults<'_>) {
    let module = faults.module();
    let Some((_, may_import)) = LAYERS.iter().find(|(name, _)| *name == module) else {
        let what = format!("`{module}` has no layer: add it to LAYERS and ARCHITECTURE.md");
        return faults.add(0, what);
    };
    for (at, target) in imports(code) {
        // Only modules have layers; a type that stands in lib.rs itself does not.
        let is_module = LAYERS.iter().any(|(name, _)| *name == target);
        let allowed = *may_import == ALL || may_import.contains(&target);
        if is_module && target != module && !allowed {
            faults.add(at, format!("`{module}` may not import `{target}`"));
        }
    }
}

fn check_words(code: &str, faults: &mut Faults<'_>) {
    let path = faults.path.clone();
    let module = faults.module();
    if DETERMINISTIC.contains(&module.as_str()) && !is_at(&path, NOT_REPLICATED) {
        for word in NONDETERMINISTIC {
            for at in occurrences(code, word) {
                faults.add(at, format!("`{word}` in a module that must be deterministic"));
            }
        }
    }
    for (word, places, what) in PLACES {
        if !is_at(&path, places) {
            for at in occurrences(code, word) {
                faults.add(at, format!("`{word}`: {what}"));
            }
        }
    }
    if !is_at(&path, &[STATUS_FILE, OTHER_STATUS]) {
        for constructor in STATUS {
            for at in occurrences(code, &format!("Status::{constructor}(")) {
                faults.add(at, format!("statuses are made in {STATUS_FILE} only"));
            }
        }
    }
}

/// Whether a file is one of these, or in one of these folders or their module's own file.
fn is_at(path: &Path, places: &[&str]) -> bool {
    places.iter().any(|place| path.starts_with(place) || path == Path::new(&format!("{place}.rs")))
}

/// Where a word stands by itself, not within a longer one's end, and not in a comment.
fn occurrences(code: &str, word: &str) -> Vec<usize> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let stands = |at: &usize| {
        let line = code[..*at].rsplit('\n').next().unwrap_or_default();
        let is_end = word.starts_with(is_word) && code[..*at].ends_with(is_word);
        !is_end && !line.trim_start().starts_with("//")
    };
    code.match_indices(word).map(|(at, _)| at).filter(stands).collect()
}

/// Where a module is named after `crate::`, alone or as a group (`crate::{a, b::C}`).
fn imports(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for at in occurrences(code, "crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(heads(group).into_iter().map(|name| (at, name))),
            None => found.push((at, head(rest))),
        }
    }
    found
}

/// The first name of each path in a group, up to the group's closing brace.
fn heads(group: &str) -> Vec<&str> {
    let (mut names, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            ',' | '}' if depth == 0 => {
                names.push(head(group[start..at].trim()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            '}' => depth -= 1,
            _ => (),
        }
    }
    names.retain(|name| !name.is_empty()); // a trailing comma
    names
}

fn head(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

fn visit(folder: &Path, check: &mut dyn FnMut(&Path, &str)) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        // A folder with its own build, such as another language's, goes by its own rules.
        if path.is_dir() && !path.join("go.mod").exists() {
            visit(&path, check);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            check(&path, &fs::read_to_string(&path).unwrap());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fault that the checker finds in this code at that path; none for `None`.
    #[track_caller]
    fn finds(path: &str, code: &str, fault: Option<&str>) {
        let found = check(Path::new(path), &format!("//! A file.\n{code}\n"));
        match (found.as_slice(), fault) {
            ([], None) => (),
            ([one], Some(fault)) => assert!(one.ends_with(fault), "{one}"),
            _ => panic!("{path}: expected {fault:?}, found {found:?}"),
        }
    }

    #[test]
    fn imports_upward_and_sideways_are_found() {
        finds("src/mvcc/range.rs", "use crate::storage::Storage;", None);
        let sideways = Some("range.rs:2: `mvcc` may not import `lease`");
        finds("src/mvcc/range.rs", "use crate::lease::Lease;", sideways);
        finds("src/mvcc/range.rs", "use crate::{\n types::{A, B},\n lease,\n};", sideways);
        finds("src/mvcc/range.rs", "fn f(lease: crate::lease::Lease) {}", sideways);
        finds("src/raft.rs", "use crate::node::Node;", Some("`raft` may not import `node`"));
        finds("src/grpc/kv.rs", "use crate::raft::Raft;", Some("`grpc` may not import `raft`"));
        finds("src/cli/serve.rs", "use crate::{grpc, node, raft};", None);
        let nameless = "`shiny` has no layer: add it to LAYERS and ARCHITECTURE.md";
        finds("src/shiny.rs", "", Some(nameless));
        finds("src/mvcc.rs", "#[cfg(test)]\nuse crate::raft::Raft;", None);
    }

    #[test]
    fn what_members_could_do_differently_is_found() {
        let fault = "in a module that must be deterministic";
        for code in ["let now = Instant::now();", "use std::collections::HashMap;", "rand::rng();"]
        {
            finds("src/state_machine/apply.rs", code, Some(fault));
            finds("src/lease.rs", code, Some(fault));
            finds("src/lease/expiry.rs", code, None);
            finds("src/node.rs", code, None);
        }
        finds("src/mvcc.rs", "// no HashMap here", None);
        finds("src/mvcc.rs", "let brand = brand::new();", None);
    }

    #[test]
    fn words_out_of_place_are_found() {
        finds("src/storage.rs", "use rocksdb::DB;", None);
        finds("src/mvcc.rs", "use rocksdb::DB;", Some("only `storage` names RocksDB"));
        finds("src/node.rs", "use openraft::Raft;", Some("only `raft` names openraft"));
        finds("src/tls.rs", "std::env::var(X)", Some("only `config` reads the environment"));
        finds("src/config/raw.rs", "std::env::vars_os()", None);
        finds("src/tls.rs", "env!(X)", None);
        let unwrap =
            "outside tests, return the error or `expect` with the reason why there is none";
        finds("src/tls.rs", "read(path).unwrap();", Some(unwrap));
        finds("src/tls.rs", "read(path).unwrap_or(0);", None);
        finds("src/tls.rs", "#[cfg(test)]\nread(path).unwrap();", None);
        let allow = "`#[expect(..., reason = \"...\")]` says why, and ends with its reason";
        finds("src/tls.rs", "#[allow(dead_code)]", Some(allow));
        finds("src/node.rs", "use super::super::x;", Some("name the module from `crate::`"));
        let status = Some("statuses are made in src/grpc/status.rs only");
        finds("src/grpc/kv.rs", "Err(Status::internal(text))", status);
        finds("src/http.rs", "tonic::Status::new(code, text)", status);
        finds("src/grpc/status.rs", "Status::new(code, text)", None);
        finds("src/grpc/kv.rs", "MemberStatus::new()", None);
    }

    #[test]
    fn files_that_are_too_long_or_say_nothing_are_found() {
        let function =
            |lines: usize| format!("pub(crate) async fn f() {{\n{}}}", "    x;\n".repeat(lines));
        finds("src/node.rs", &function(68), None);
        finds("src/node.rs", &function(69), Some("a function over 70 lines"));
        finds("src/node.rs", &"x;\n".repeat(498), None);
        finds("src/node.rs", &"x;\n".repeat(500), Some("which two things is it about?"));
        finds("src/node.rs", &"x".repeat(101), Some("over 100 columns"));
        let name = "`utils` says nothing; name the file by what it is about";
        finds("src/node/utils.rs", "", Some(name));
        let unsaid = check(Path::new("src/node.rs"), "use std::fs;\n");
        assert!(unsaid[0].contains("a file starts by saying what it is for"), "{unsaid:?}");
    }
}
