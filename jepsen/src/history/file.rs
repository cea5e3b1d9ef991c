//! A history as a file of JSON lines. Each line is one object with its kind as the only field; of a
//! step the fields have Jepsen's names.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Call, Ending, Fault, History, Run, Sample, Step, Watch};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Run(Run),
    Step(Step),
    Call(Box<Call>),
    Watch(Watch),
    Fault(Fault),
    Sample(Sample),
    Ending(Ending),
}

impl History {
    /// # Errors The file can't be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let file = File::create(path).with_context(|| path.display().to_string())?;
        let mut file = BufWriter::new(file);
        let mut lines = vec![Line::Run(self.run.clone())];
        lines.extend(self.steps.iter().cloned().map(Line::Step));
        lines.extend(self.calls.iter().cloned().map(|call| Line::Call(Box::new(call))));
        lines.extend(self.watches.iter().cloned().map(Line::Watch));
        lines.extend(self.faults.iter().cloned().map(Line::Fault));
        lines.extend(self.samples.iter().cloned().map(Line::Sample));
        lines.push(Line::Ending(self.ending.clone()));
        for line in lines {
            serde_json::to_writer(&mut file, &line)?;
            file.write_all(b"\n")?;
        }
        file.flush().with_context(|| path.display().to_string())
    }

    /// # Errors The file can't be read, or a line is not one of a history; the line is named.
    pub fn read(path: &Path) -> Result<History> {
        let file = File::open(path).with_context(|| path.display().to_string())?;
        let mut history = History::default();
        for (number, line) in BufReader::new(file).lines().enumerate() {
            let place = || format!("{}:{}", path.display(), number + 1);
            match serde_json::from_str(&line.with_context(place)?).with_context(place)? {
                Line::Run(run) => history.run = run,
                Line::Step(step) => history.steps.push(step),
                Line::Call(call) => history.calls.push(*call),
                Line::Watch(watch) => history.watches.push(watch),
                Line::Fault(fault) => history.faults.push(fault),
                Line::Sample(sample) => history.samples.push(sample),
                Line::Ending(ending) => history.ending = ending,
            }
        }
        Ok(history)
    }
}

#[cfg(test)]
mod tests {
    use orrery::proto::etcdserverpb::{PutRequest, PutResponse, WatchCreateRequest, WatchResponse};
    use serde_json::json;

    use super::*;
    use crate::history::{Failure, Kind, Outcome};

    #[test]
    fn what_is_written_reads_back() {
        let put = PutRequest { key: "\0key".into(), value: vec![255].into(), ..Default::default() };
        let call = |outcome| Call {
            process: 1,
            member: 2,
            began: 3,
            ended: 4,
            request: put.clone().into(),
            outcome,
        };
        let failure = Failure { code: "Unavailable".into(), message: "\"gone\"\n".into() };
        let history = History {
            steps: vec![Step {
                process: 1,
                member: 0,
                f: "cas".into(),
                key: Some("k".into()),
                value: json!([1, 2]),
                began: 1,
                ended: 2,
                kind: Kind::Info,
                result: json!(null),
                revision: 0,
                error: "timed out".into(),
            }],
            calls: vec![
                call(Outcome::Ok(PutResponse::default().into())),
                call(Outcome::Info(failure)),
            ],
            watches: vec![Watch {
                name: "all".into(),
                member: 0,
                began: 0,
                ended: 9,
                request: WatchCreateRequest { key: "\0".into(), ..Default::default() },
                received: vec![(7, WatchResponse { watch_id: 3, ..Default::default() })],
                error: String::new(),
            }],
            ..Default::default()
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        history.write(&path).unwrap();
        assert_eq!(History::read(&path).unwrap(), history);
    }

    #[test]
    fn a_line_that_is_no_history_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.jsonl");
        std::fs::write(&path, "{\"nothing\":1}\n").unwrap();
        let error = format!("{:#}", History::read(&path).unwrap_err());
        assert!(error.contains("history.jsonl:1"), "{error}");
    }
}
