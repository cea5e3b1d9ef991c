//! How much a read may lack.

/// Levels of consistency, the weakest first; docs/consistency.md says what each promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
