//! Scripts as files: cases, their exchanges, and the prose between them, which is kept when answers
//! are recorded.

use std::{fs, path::Path};

use super::request::{self, Request};

/// A file, block by block.
pub(crate) struct Script {
    pub name: String,
    pub blocks: Vec<Block>,
}

pub(crate) enum Block {
    Case(Case),
    Exchanges(Vec<Exchange>),
    Prose(Vec<String>),
}

/// The head of a case; the exchanges of the blocks that follow are its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Case {
    pub title: String,
    /// Oldest etcd that answers so, as minor version of 3.
    pub since: Option<u32>,
    /// Needs a store that has never been written.
    pub fresh: bool,
    /// Decided before the state machine.
    pub edge: bool,
}

#[derive(Debug)]
pub(crate) struct Exchange {
    /// Where it stands in the file, from 1.
    pub line: usize,
    pub text: Vec<String>,
    pub request: Request,
    pub answer: Vec<String>,
}

impl Script {
    pub(crate) fn read(path: &Path) -> Script {
        let text = fs::read_to_string(path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        Script::parse(name, &text).unwrap_or_else(|fault| panic!("{}:{fault}", path.display()))
    }

    pub(crate) fn parse(name: String, text: &str) -> Result<Script, String> {
        let mut blocks = Vec::new();
        let lines: Vec<&str> = text.lines().collect();
        let mut at = 0;
        for block in lines.split(|line| line.trim().is_empty()) {
            if let Some(first) = block.first() {
                let number = at + 1;
                blocks.push(match first {
                    first if first.starts_with("===") => {
                        Block::Case(case(block).map_err(|fault| format!("{number}: {fault}"))?)
                    }
                    first if first.starts_with('>') => Block::Exchanges(exchanges(block, number)?),
                    _ => Block::Prose(block.iter().map(ToString::to_string).collect()),
                });
            }
            at += block.len() + 1;
        }
        Ok(Script { name, blocks })
    }

    /// The cases with their exchanges.
    pub(crate) fn cases(&self) -> Vec<(&Case, Vec<&Exchange>)> {
        let mut cases: Vec<(&Case, Vec<&Exchange>)> = Vec::new();
        for block in &self.blocks {
            match block {
                Block::Case(case) => cases.push((case, Vec::new())),
                Block::Exchanges(exchanges) => {
                    let (_, of_case) = cases.last_mut().expect("a case before its exchanges");
                    of_case.extend(exchanges);
                }
                Block::Prose(_) => (),
            }
        }
        cases
    }

    /// The file again, with other answers: one for each exchange, in order. An exchange without one
    /// keeps what it has.
    pub(crate) fn with_answers(&self, answers: &[(usize, Vec<String>)]) -> String {
        let mut text = String::new();
        for (number, block) in self.blocks.iter().enumerate() {
            if number > 0 {
                text.push('\n');
            }
            match block {
                Block::Case(case) => text.push_str(&case.text()),
                Block::Prose(lines) => lines.iter().for_each(|line| push(&mut text, line)),
                Block::Exchanges(exchanges) => {
                    for exchange in exchanges {
                        let new = answers.iter().find(|(line, _)| *line == exchange.line);
                        let answer = new.map_or(&exchange.answer, |(_, answer)| answer);
                        exchange.text.iter().chain(answer).for_each(|line| push(&mut text, line));
                    }
                }
            }
        }
        text
    }
}

impl Case {
    fn text(&self) -> String {
        let mut text = format!("=== {}\n", self.title);
        if let Some(minor) = self.since {
            push(&mut text, &format!("since 3.{minor}"));
        }
        for (name, holds) in [("fresh", self.fresh), ("edge", self.edge)] {
            if holds {
                push(&mut text, name);
            }
        }
        text
    }
}

fn push(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn case(block: &[&str]) -> Result<Case, String> {
    let mut case = Case { title: block[0][3..].trim().to_owned(), ..Case::default() };
    for line in &block[1..] {
        match line.trim() {
            "fresh" => case.fresh = true,
            "edge" => case.edge = true,
            other => {
                let minor = other.strip_prefix("since 3.").and_then(|minor| minor.parse().ok());
                case.since = Some(minor.ok_or_else(|| format!("{other:?} is no condition"))?);
            }
        }
    }
    Ok(case)
}

fn exchanges(block: &[&str], first_line: usize) -> Result<Vec<Exchange>, String> {
    let mut exchanges: Vec<Exchange> = Vec::new();
    let mut at = 0;
    while at < block.len() {
        let is_more = |line: &&&str| line.starts_with(">  ");
        let more = block[at + 1..].iter().take_while(is_more).count();
        let text: Vec<String> = block[at..=at + more].iter().map(ToString::to_string).collect();
        let answer = block[at + more + 1..].iter().take_while(|line| !line.starts_with('>'));
        let answer: Vec<String> = answer.map(ToString::to_string).collect();
        let line = first_line + at;
        let lines: Vec<&str> = text.iter().map(|line| &line[1..]).collect();
        let request = request::parse(&lines).map_err(|fault| format!("{line}: {fault}"))?;
        at += text.len() + answer.len();
        exchanges.push(Exchange { line, text, request, answer });
    }
    Ok(exchanges)
}

#[test]
fn a_script_reads_as_it_is_written() {
    let text = "Prose.\n\n=== A title\nsince 3.6\nedge\n\n> put a 1\nrev 2\n> txn\n>   if empty\n\
                >   then range a\nfailed\nrev 2\n";
    let script = Script::parse("name".to_owned(), text).unwrap();
    assert_eq!(script.with_answers(&[]), text);
    let cases = script.cases();
    assert_eq!(cases.len(), 1);
    let (case, exchanges) = &cases[0];
    assert_eq!((case.since, case.fresh, case.edge), (Some(6), false, true));
    assert_eq!(exchanges.iter().map(|exchange| exchange.line).collect::<Vec<_>>(), [7, 9]);
    assert_eq!(exchanges[1].answer, ["failed", "rev 2"]);
    let recorded = script.with_answers(&[(7, vec!["rev 9".to_owned()])]);
    assert_eq!(recorded, text.replacen("rev 2", "rev 9", 1));
}
