//! The settings as given: flags and environment, or a file in their place; each value known to be
//! of its flag's kind.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf, time::Duration};

use super::{
    Error, Features, Warning, duration, file,
    flags::{self, Effect, FLAGS, Flag, OWN},
    removed::{self, Becomes, REMOVED},
    value::{self, Kind},
};

/// What a command line asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    Help,
    Version,
    Serve(RawConfig),
}

/// By which means a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Means {
    Flag,
    Variable(String),
    File,
}

#[derive(Debug, Default)]
pub(crate) struct RawConfig {
    /// Flags that were set, by whichever means.
    set: BTreeMap<&'static str, String>,
    /// Everything comes from this file.
    pub(crate) file: Option<PathBuf>,
    pub(crate) warnings: Vec<Warning>,
}

/// Between the words of a list that comes from a file, where a word may have a comma.
const WORDS: char = '\u{1f}';

/// Reads the arguments behind the program's name, in the forms that Go's `flag` package takes:
/// `--flag value`, `--flag=value`, the same with one dash, and `--flag` for what is yes or no.
pub(crate) fn read(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Asked, Error> {
    let mut raw = RawConfig::default();
    let (mut version, mut file) = (false, String::new());
    let mut arguments = arguments.into_iter().map(|argument| {
        argument.into_string().map_err(|lost| Error::NotText(lost.to_string_lossy().into_owned()))
    });
    let mut rest = None;
    while let Some(argument) = arguments.next() {
        let argument = argument?;
        let name = match argument.strip_prefix("--").or_else(|| argument.strip_prefix('-')) {
            None | Some("") if argument == "--" => break,
            None | Some("") => {
                rest = Some(argument);
                break;
            }
            Some(name) if name.starts_with(['-', '=']) => return Err(Error::BadSyntax(argument)),
            Some(name) => name,
        };
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        let mut value_of = |name: &str| match value.clone() {
            Some(value) => Ok(value),
            None => arguments.next().ok_or_else(|| Error::NoValue(name.to_owned()))?,
        };
        match name {
            "help" | "h" => return Ok(Asked::Help),
            "version" => version = yes_or_no("version", value.as_deref().unwrap_or("true"))?,
            "config-file" => file = value_of(name)?,
            _ => {
                let flag = flags::find(name).filter(|flag| flag.effect != Effect::FileOnly);
                let flag = flag.ok_or_else(|| Error::UnknownFlag(name.to_owned()))?;
                let value = match value {
                    None if flag.kind.needs_no_value() => "true".to_owned(),
                    Some(_) | None => value_of(name)?,
                };
                raw.set(flag, value, &Means::Flag)?;
            }
        }
    }
    match rest.map_or_else(|| arguments.next().transpose(), |rest| Ok(Some(rest)))? {
        Some(rest) => Err(Error::NotAFlag(rest)),
        None if version => Ok(Asked::Version),
        None => raw.complete(file, environment).map(Asked::Serve),
    }
}

impl RawConfig {
    /// Nothing set yet, and all that will be from this file.
    pub(crate) fn of_file(path: &str) -> RawConfig {
        RawConfig {
            file: Some(path.into()),
            warnings: vec![Warning::FileLoaded(path.to_owned())],
            ..RawConfig::default()
        }
    }

    pub(crate) fn set(
        &mut self,
        flag: &'static Flag,
        value: String,
        means: &Means,
    ) -> Result<(), Error> {
        // Words from a list are judged where they are read, in etcd's words for a file.
        let judged_later = matches!(flag.kind, Kind::Choice(_) | Kind::Choices(_));
        let is_judged = *means != Means::File || !judged_later;
        if is_judged && let Err(why) = value::check(flag.kind, &value) {
            return Err(match means {
                Means::Flag if flag.kind == Kind::Bool => {
                    Error::BadBool { flag: flag.name, value, why }
                }
                Means::Flag => Error::BadFlag { flag: flag.name, value, why },
                Means::Variable(variable) => {
                    Error::BadVariable { variable: variable.clone(), value, why }
                }
                Means::File if flag.kind == Kind::Urls => {
                    Error::BadUrlsInFile { key: flag.name, why }
                }
                Means::File => Error::BadInFile { key: flag.name, why },
            });
        }
        self.set.insert(flag.name, value);
        Ok(())
    }

    /// Words of a list that a file has as a list.
    pub(crate) fn set_words(&mut self, flag: &'static Flag, words: &[String]) -> Result<(), Error> {
        self.set(flag, words.join(&WORDS.to_string()), &Means::File)
    }

    /// Adds what is not on the command line: all of it from a file, which replaces the rest, or
    /// what the environment has.
    fn complete(
        mut self,
        file: String,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<RawConfig, Error> {
        let variables = variables(environment)?;
        let named = variables.get(CONFIG_FILE).filter(|_| file.is_empty());
        let path = named.cloned().unwrap_or(file);
        if path.is_empty() {
            self.read_variables(variables)?;
        } else {
            self = file::read(&path)?;
        }
        self.pass_on_removed()?;
        self.note_what_has_no_effect();
        Ok(self)
    }

    /// `ETCD_*` variables set what no flag has set; a flag and its variable together are an error,
    /// as in etcd, and a variable that belongs to no flag is only worth a warning.
    fn read_variables(&mut self, variables: BTreeMap<String, String>) -> Result<(), Error> {
        let flags = FLAGS.iter().chain(OWN).chain(REMOVED.iter().map(|removed| &removed.flag));
        let by_variable: BTreeMap<String, &'static Flag> =
            flags.map(|flag| (flag.variable(), flag)).collect();
        for (name, value) in variables {
            match by_variable.get(&name) {
                Some(flag) if self.set.contains_key(flag.name) => {
                    return Err(Error::Shadowed(name));
                }
                Some(_) if value.is_empty() => {}
                Some(flag) => self.set(flag, value, &Means::Variable(name))?,
                None if name == CONFIG_FILE => {}
                None => self.warnings.push(Warning::UnknownVariable(name)),
            }
        }
        Ok(())
    }

    /// A removed flag means what its successor means, unless that is set itself.
    fn pass_on_removed(&mut self) -> Result<(), Error> {
        let mut gates = Vec::new();
        for removed in REMOVED {
            let Some(value) = self.set.get(removed.flag.name).cloned() else { continue };
            match removed.becomes {
                Becomes::Nothing => {}
                Becomes::Flag(name) => {
                    let to = format!("--{name}");
                    self.warnings.push(Warning::Renamed { from: removed.flag.name, to });
                    let successor = flags::find(name).expect("a test looks for each");
                    if !self.is_set(name) {
                        self.set(successor, value, &Means::Flag)?;
                    }
                }
                Becomes::Gate(gate) => {
                    let on = value::bool(&value).expect(CHECKED);
                    let gate = format!("{}={on}", gate.name());
                    let to = format!("--feature-gates={gate}");
                    self.warnings.push(Warning::Renamed { from: removed.flag.name, to });
                    gates.push(gate);
                }
            }
        }
        if !gates.is_empty() {
            // What is named later wins, so the flag itself comes last.
            gates.push(self.text("feature-gates").to_owned());
            self.set.insert("feature-gates", gates.join(","));
        }
        Ok(())
    }

    fn note_what_has_no_effect(&mut self) {
        for (name, value) in &self.set {
            let flag = flags::find(name).expect(NAMED);
            let is_default = || value::same(flag.kind, value, flag.default);
            match flag.effect {
                Effect::Inert if !is_default() => self.warnings.push(Warning::NoEffect(flag.name)),
                Effect::Removed => {
                    let removed = removed::find(name).expect("it is in that table");
                    if removed.becomes == Becomes::Nothing {
                        self.warnings.push(Warning::Obsolete(flag.name));
                    }
                }
                Effect::Inert | Effect::Acts | Effect::FileOnly => {}
            }
        }
    }

    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.set.contains_key(name)
    }

    /// The value as given, or the default.
    pub(crate) fn text(&self, name: &str) -> &str {
        match self.set.get(name) {
            Some(value) => value,
            None => flags::find(name).expect(NAMED).default,
        }
    }

    /// The words of a list; none when it is empty.
    pub(crate) fn words(&self, name: &str) -> Vec<String> {
        let text = self.text(name);
        let separator = if self.file.is_some() && self.is_set(name) { WORDS } else { ',' };
        let words = text.split(separator).filter(|_| !text.is_empty());
        words.map(str::to_owned).collect()
    }

    pub(crate) fn bool(&self, name: &str) -> bool {
        value::bool(self.text(name)).expect(CHECKED)
    }

    pub(crate) fn count(&self, name: &str) -> u64 {
        value::count(self.text(name)).expect(CHECKED)
    }

    pub(crate) fn count_32(&self, name: &str) -> u32 {
        u32::try_from(self.count(name)).expect(CHECKED)
    }

    pub(crate) fn number(&self, name: &str) -> i64 {
        value::number(self.text(name)).expect(CHECKED)
    }

    pub(crate) fn duration(&self, name: &str) -> Duration {
        duration::parse(self.text(name)).expect(CHECKED)
    }

    pub(crate) fn features(&self) -> Features {
        Features::parse(self.text("feature-gates")).expect(CHECKED)
    }
}

const CHECKED: &str = "values are checked when they are set, defaults by a test";
const NAMED: &str = "asked for by its name in the table";

const CONFIG_FILE: &str = "ETCD_CONFIG_FILE";

/// Those that are etcd's, sorted by name.
fn variables(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<String, String>, Error> {
    let mut found = BTreeMap::new();
    for (name, value) in environment {
        let Ok(name) = name.into_string() else { continue };
        if name.starts_with("ETCD_") {
            let value = value.into_string().map_err(|_| Error::NotText(name.clone()))?;
            found.insert(name, value);
        }
    }
    Ok(found)
}

fn yes_or_no(flag: &'static str, value: &str) -> Result<bool, Error> {
    value::bool(value).ok_or_else(|| Error::BadBool {
        flag,
        value: value.to_owned(),
        why: "parse error".to_owned(),
    })
}

#[cfg(test)]
mod tests;
