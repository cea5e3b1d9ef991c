//! Nodes, where a control plane runs on the cluster.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, bail};
use serde_json::Value;

use super::{Check, Outcome};
use crate::cli::output::{self, Output};

const CHECK: &str = "kubectl get nodes";

/// One for each region that has a kubeconfig.
pub(super) fn check_all(output: &Output) -> Vec<Check> {
    let folder = output.path(output::KUBECONFIG);
    let entries = fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok);
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|it| it == "json"));
    files.sort();
    if files.is_empty() {
        let outcome = Outcome::Skipped("no control plane was started on it".to_owned());
        return vec![Check { check: CHECK, region: String::new(), outcome }];
    }
    let check = |path: &std::path::PathBuf| {
        // kubeconfig.REGION.json
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let region = stem.trim_start_matches("kubeconfig.").to_owned();
        Check { check: CHECK, region, outcome: nodes(path) }
    };
    files.iter().map(check).collect()
}

fn nodes(kubeconfig: &Path) -> Outcome {
    let mut command = Command::new("kubectl");
    command.arg("--kubeconfig").arg(kubeconfig);
    command.args(["--request-timeout=10s", "get", "nodes", "--output=json"]);
    match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Outcome::Skipped("there is no kubectl".to_owned())
        }
        Err(error) => Outcome::Failed(error.to_string()),
        Ok(output) if !output.status.success() => {
            let said = String::from_utf8_lossy(&output.stderr);
            Outcome::Failed(said.lines().last().unwrap_or("kubectl failed").to_owned())
        }
        Ok(output) => ready(&output.stdout).into(),
    }
}

fn ready(nodes: &[u8]) -> anyhow::Result<String> {
    let nodes: Value = serde_json::from_slice(nodes).context("what kubectl prints")?;
    let items = nodes["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_ready = |node: &&Value| {
        let conditions = node["status"]["conditions"].as_array();
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|it| it["type"] == "Ready" && it["status"] == "True")
    };
    match (items.iter().filter(is_ready).count(), items.len()) {
        (0, count) => bail!("none of {count} nodes is Ready"),
        (ready, count) => Ok(format!("{ready} of {count} nodes are Ready")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_counts_when_it_is_ready() {
        let node = |status: &str| {
            let conditions = format!(r#"[{{"type":"Ready","status":"{status}"}}]"#);
            format!(r#"{{"status":{{"conditions":{conditions}}}}}"#)
        };
        let list = |nodes: &[String]| format!(r#"{{"items":[{}]}}"#, nodes.join(","));
        let some = list(&[node("True"), node("False")]);
        assert_eq!(ready(some.as_bytes()).unwrap(), "1 of 2 nodes are Ready");
        assert!(ready(list(&[node("Unknown")]).as_bytes()).is_err());
        assert!(ready(list(&[]).as_bytes()).is_err());
        assert!(ready(b"No resources found").is_err());
    }
}
