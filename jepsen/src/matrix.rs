//! Many runs: which there are, which have no result yet, and the summary of all.

pub mod summary;

use std::{fs, path::Path};

use anyhow::{Context, Result};

use crate::{nemesis::Nemesis, server::Kind, workload::Workload};
use summary::Cell;

/// One run of the matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub server: Kind,
    pub workload: Workload,
    pub nemesis: Nemesis,
    pub members: usize,
    pub seconds: u64,
    pub seed: u64,
}

/// Seconds that a cell's clients and nemesis are at work.
const SECONDS: u64 = 60;

/// Every third cell has five members.
const LARGE_EVERY: usize = 3;

/// Of the cells, so many are run with etcd, too.
const REFERENCES: usize = 12;

/// How often each workload and each nemesis is in the matrix, at least.
const TIMES: usize = 3;

/// The cells: each nemesis so often, each time under another workload, and so each workload too.
/// First come those that etcd runs as well, each right before its reference, so that the two
/// stand beside each other in time; of the rest, too, any beginning has many kinds.
pub fn cells() -> Vec<Plan> {
    let own = own_cells();
    // What etcd has no match for is left out: its binary takes no preloaded clock.
    let compared = own.iter().filter(|cell| cell.nemesis != Nemesis::Clock);
    let compared: Vec<&Plan> = compared.step_by(LARGE_EVERY).take(REFERENCES).collect();
    let pairs = compared
        .iter()
        .flat_map(|cell| [(*cell).clone(), Plan { server: Kind::Etcd, ..(*cell).clone() }]);
    let alone = own.iter().filter(|cell| !compared.contains(cell)).cloned();
    pairs.chain(alone).collect()
}

fn own_cells() -> Vec<Plan> {
    let nemeses: Vec<Nemesis> =
        Nemesis::every().iter().copied().filter(|nemesis| *nemesis != Nemesis::None).collect();
    let workloads: Vec<Workload> =
        Workload::ALL.into_iter().filter(|workload| !workload.must_fail()).collect();
    let mut cells = Vec::new();
    for time in 0..TIMES {
        for (number, nemesis) in nemeses.iter().enumerate() {
            let workload =
                workloads[(number + time * (workloads.len() / TIMES + 1)) % workloads.len()];
            let place = cells.len();
            cells.push(Plan {
                server: Kind::Orrery,
                workload,
                nemesis: *nemesis,
                members: if place % LARGE_EVERY == LARGE_EVERY - 1 { 5 } else { 3 },
                seconds: SECONDS,
                seed: place as u64 + 1,
            });
        }
    }
    cells
}

impl Plan {
    /// The arguments of `jepsen run` for it.
    pub fn arguments(&self, out: &Path) -> Vec<String> {
        let server = self.server.name();
        let numbers = [
            ("--members", self.members as u64),
            ("--seconds", self.seconds),
            ("--seed", self.seed),
        ];
        let mut arguments: Vec<String> =
            ["run", "--server", server, "--workload", self.workload.name(), "--nemesis"]
                .map(str::to_owned)
                .into();
        arguments.push(self.nemesis.name());
        for (flag, number) in numbers {
            arguments.extend([flag.to_owned(), number.to_string()]);
        }
        arguments.extend(["--out".to_owned(), out.display().to_string()]);
        arguments
    }

    /// A name for its directory and its result.
    pub fn name(&self) -> String {
        let server = self.server.name();
        let (workload, nemesis) = (self.workload.name(), self.nemesis.name());
        format!("{server}-{workload}-{nemesis}-{}-{}", self.seed, self.members)
    }

    fn is_done(&self, cells: &[Cell]) -> bool {
        cells.iter().any(|cell| {
            cell.server.starts_with(self.server.name())
                && cell.workload == self.workload.name()
                && cell.nemesis == self.nemesis.name()
                && (cell.seed, cell.members) == (self.seed, self.members)
        })
    }
}

/// The plans without a result among those in the directory.
///
/// # Errors The results can't be read.
pub fn left(results: &Path) -> Result<Vec<Plan>> {
    let done = Cell::read_all(results).context("results")?;
    Ok(cells().into_iter().filter(|plan| !plan.is_done(&done)).collect())
}

/// Writes the summary of all results.
///
/// # Errors Results can't be read, or the summary can't be written.
pub fn summarize(results: &Path, summary: &Path) -> Result<()> {
    let cells = Cell::read_all(results).context("results")?;
    fs::write(summary, summary::results_markdown(&cells))?;
    fs::write(results.join("index.html"), summary::index_html(&cells))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_matrix_has_everything_often_enough() {
        let cells = cells();
        let own: Vec<&Plan> = cells.iter().filter(|cell| cell.server == Kind::Orrery).collect();
        let (mut workloads, mut nemeses) = (BTreeMap::new(), BTreeMap::new());
        for cell in &own {
            *workloads.entry(cell.workload).or_insert(0) += 1;
            *nemeses.entry(cell.nemesis).or_insert(0) += 1;
        }
        let wanted = Workload::ALL.iter().filter(|workload| !workload.must_fail()).count();
        assert_eq!((workloads.len(), nemeses.len()), (wanted, Nemesis::every().len() - 1));
        assert!(workloads.values().chain(nemeses.values()).all(|times| *times >= TIMES));
        assert!(own.len() >= 60);
        assert!(own.iter().filter(|cell| cell.members == 5).count() * 3 >= own.len());
        assert!(cells.len() - own.len() >= 10);
    }
}
