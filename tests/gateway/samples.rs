//! The file of samples: requests, and what etcd answered.

use std::{fs, net::SocketAddr, path::PathBuf};

use serde_json::Value;

use super::http::{Answer, Request, ask};

/// Differ between servers by right, wherever they stand.
const VOLATILE: &[&str] = &[
    "raft_term",
    "raftTerm",
    "raftIndex",
    "raftAppliedIndex",
    "dbSize",
    "dbSizeInUse",
    "etcdserver",
    "hash",
    "blob",
    "token",
    "peerURLs",
    "clientURLs",
];

pub(crate) struct Samples {
    /// The lines of the file, block by block.
    blocks: Vec<Vec<String>>,
}

impl Samples {
    pub(crate) fn read() -> Samples {
        let text = fs::read_to_string(path()).unwrap();
        let blocks = text.split("\n\n").map(|block| block.lines().map(str::to_owned).collect());
        Samples { blocks: blocks.collect() }
    }

    /// The answer to each block that is a request.
    pub(crate) async fn ask(&self, address: SocketAddr) -> Vec<Option<String>> {
        let mut asking = Asking { address, ids: Vec::new(), token: String::new() };
        let mut answers = Vec::new();
        for block in &self.blocks {
            let lines: Vec<&str> =
                block.iter().filter_map(|line| line.strip_prefix("> ")).collect();
            answers.push(match lines.split_first() {
                Some((first, headers)) => Some(asking.ask(first, headers).await),
                None => None,
            });
        }
        answers
    }

    /// What is not as in the file.
    pub(crate) fn differing(&self, answers: &[Option<String>]) -> Vec<String> {
        let mut differing = Vec::new();
        for (block, answer) in self.blocks.iter().zip(answers) {
            let Some(answer) = answer else { continue };
            let (request, expected): (Vec<_>, Vec<_>) =
                block.iter().cloned().partition(|line| line.starts_with("> "));
            let [request, expected] = [request, expected].map(|lines| lines.join("\n"));
            if expected != *answer {
                differing.push(format!("{request}\netcd:\n{expected}\nhere:\n{answer}\n"));
            }
        }
        differing
    }

    pub(crate) fn record(&self, answers: &[Option<String>]) {
        let blocks = self.blocks.iter().zip(answers).map(|(block, answer)| match answer {
            Some(answer) => {
                let request = block.iter().filter(|line| line.starts_with("> ")).cloned();
                let lines: Vec<String> = request.chain([answer.clone()]).collect();
                lines.join("\n")
            }
            None => block.join("\n"),
        });
        let text = blocks.collect::<Vec<_>>().join("\n\n");
        fs::write(path(), format!("{}\n", text.trim_end())).unwrap();
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gateway.txt")
}

/// One server being asked.
struct Asking {
    address: SocketAddr,
    /// Of the cluster and the member, from the first header that has them.
    ids: Vec<(String, &'static str)>,
    /// The newest of an `authenticate`.
    token: String,
}

impl Asking {
    async fn ask(&mut self, first: &str, headers: &[&str]) -> String {
        let mut words = first.splitn(3, ' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let mut body = words.next().unwrap_or_default();
        let mut lines = usize::MAX;
        if let Some((count, rest)) =
            body.strip_prefix("lines=").map(|rest| rest.split_once(' ').unwrap_or((rest, "")))
        {
            (lines, body) = (count.parse().unwrap(), rest);
        }
        let headers = headers.iter().map(|header| {
            let (name, value) = header.split_once(": ").unwrap();
            (name.to_owned(), value.replace("$token", &self.token))
        });
        let request = Request { method, path, headers: headers.collect(), body, lines };
        let answer = ask(self.address, &request).await;
        self.print(&answer, lines)
    }

    fn print(&mut self, answer: &Answer, lines: usize) -> String {
        let mut page = answer.status.to_string();
        if let Some(content_type) = answer.header("content-type") {
            page += &format!(" {content_type}");
        }
        for name in ["allow", "location", "grpc-metadata-content-type", "www-authenticate"] {
            if let Some(value) = answer.header(name) {
                page += &format!("\n{name}: {value}");
            }
        }
        for line in answer.body.lines().take(lines) {
            let line = match serde_json::from_str::<Value>(line) {
                Ok(mut value) => {
                    self.blank(&mut value);
                    value.to_string()
                }
                Err(_) => line.trim_end().to_owned(),
            };
            if !line.is_empty() {
                page += &format!("\n{line}");
            }
        }
        page
    }

    /// Takes out what differs between servers by right.
    fn blank(&mut self, value: &mut Value) {
        if let Value::Object(fields) = value {
            for (id, word) in [("cluster_id", "CLUSTER"), ("member_id", "MEMBER")] {
                if let (Some(Value::String(id)), true) = (fields.get(id), self.ids.len() < 2) {
                    self.ids.push((id.clone(), word));
                }
            }
            if let Some(Value::String(token)) = fields.get("token") {
                self.token.clone_from(token);
            }
            // Of a snapshot, whose file is as large as it is.
            fields.remove("remaining_bytes");
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "message" => *text = in_short(text),
                    // A version of the server has dots, a key's has none.
                    Value::String(text) if name == "version" && text.contains('.') => {
                        *text = "VERSION".to_owned();
                    }
                    value if VOLATILE.contains(&name.as_str()) && !value.is_object() => {
                        *value = Value::String(name.to_uppercase());
                    }
                    value => self.blank(value),
                }
            }
        } else if let Value::Array(values) = value {
            values.iter_mut().for_each(|value| self.blank(value));
        } else if let Value::String(text) = value
            && let Some((_, word)) = self.ids.iter().find(|(id, _)| id == text)
        {
            (*word).clone_into(text);
        }
    }
}

/// What protojson says of a field differs from build to build of etcd on purpose, so only that it
/// says something is compared. A stream's deadline runs at both ends of etcd's own connection to
/// itself: whichever end is first words the error.
fn in_short(message: &str) -> String {
    match message {
        "stream terminated by RST_STREAM with error code: CANCEL" => "context deadline exceeded",
        _ if message.starts_with("proto:") => "proto: ...",
        _ => message,
    }
    .to_owned()
}
