//! How much a read may lack.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Levels of consistency, the weakest first; docs/consistency.md says what each promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Eventual,
    /// etcd's `serializable`.
    Prefix,
    Session,
    Bounded,
    Strong,
}

impl Level {
    pub const ALL: [Level; 5] =
        [Level::Eventual, Level::Prefix, Level::Session, Level::Bounded, Level::Strong];

    pub fn name(self) -> &'static str {
        match self {
            Level::Eventual => "eventual",
            Level::Prefix => "prefix",
            Level::Session => "session",
            Level::Bounded => "bounded",
            Level::Strong => "strong",
        }
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Level, String> {
        let names = Level::ALL.map(Level::name).join(", ");
        let found = Level::ALL.into_iter().find(|level| level.name() == text);
        found.ok_or_else(|| format!("{text:?} is no level: {names}"))
    }
}
