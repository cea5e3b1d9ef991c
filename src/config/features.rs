//! Feature gates: what `--feature-gates` switches.

use std::fmt;

use super::value;

/// How far a feature has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Alpha,
    Beta,
}

/// Declares the gates once: their names, their stages, their defaults and the struct that holds
/// them.
macro_rules! gates {
    ($($(#[$doc:meta])* $field:ident $name:ident $stage:ident $default:literal,)*) => {
        /// Which features are on. `--feature-gates` and the flags that came before it set them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Features {
            $($(#[$doc])* pub $field: bool,)*
        }

        impl Default for Features {
            fn default() -> Features {
                Features { $($field: $default,)* }
            }
        }

        /// A gate by itself.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Gate {
            $($name,)*
        }

        impl Gate {
            pub(crate) const ALL: &[Gate] = &[$(Gate::$name,)*];

            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Gate::$name => stringify!($name),)*
                }
            }

            pub(crate) fn stage(self) -> Stage {
                match self {
                    $(Gate::$name => Stage::$stage,)*
                }
            }
        }

        impl Features {
            pub(crate) fn set(&mut self, gate: Gate, on: bool) {
                match gate {
                    $(Gate::$name => self.$field = on,)*
                }
            }

            pub(crate) fn is_on(&self, gate: Gate) -> bool {
                match gate {
                    $(Gate::$name => self.$field,)*
                }
            }
        }
    };
}

gates! {
    /// Leader compares the members' hashes of compactions, every `compact-hash-check-time`.
    compact_hash_check CompactHashCheck Alpha false,
    /// A lease is renewed without waiting for the applied index.
    fast_lease_keep_alive FastLeaseKeepAlive Beta true,
    /// Compare the data with the other members' before serving anything.
    initial_corrupt_check InitialCorruptCheck Alpha false,
    /// Leader replicates what is left of long leases, so that a new leader does not begin anew.
    lease_checkpoint LeaseCheckpoint Alpha false,
    /// What is left of a lease is kept on disk. Needs `lease_checkpoint`.
    lease_checkpoint_persist LeaseCheckpointPersist Alpha false,
    /// Revoking leases goes on when there are too many requests.
    priority_request PriorityRequest Alpha false,
    /// Connect to peers from the first address of `initial-advertise-peer-urls`.
    set_member_local_addr SetMemberLocalAddr Alpha false,
    /// The health service says that nothing is served while defragmenting.
    stop_grpc_service_on_defrag StopGRPCServiceOnDefrag Alpha false,
    /// About bbolt's buffers, which are not used here.
    txn_mode_write_with_shared_buffer TxnModeWriteWithSharedBuffer Beta true,
}

/// In etcd's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("missing bool value for {0}")]
    NoValue(String),
    #[error(
        "invalid value of {name}={value}, err: strconv.ParseBool: parsing {value:?}: invalid syntax"
    )]
    NotABool { name: String, value: String },
    #[error("unrecognized feature gate: {0}")]
    Unknown(String),
}

impl Gate {
    /// Whether switching it changes anything. What is left of leases is always replicated and kept
    /// on disk, a renewal does not wait for what is applied, no request is refused because there
    /// are too many, defragmentation stops nobody, and there is no bbolt.
    pub(crate) fn acts(self) -> bool {
        match self {
            Gate::CompactHashCheck | Gate::InitialCorruptCheck | Gate::SetMemberLocalAddr => true,
            Gate::FastLeaseKeepAlive
            | Gate::LeaseCheckpoint
            | Gate::LeaseCheckpointPersist
            | Gate::PriorityRequest
            | Gate::StopGRPCServiceOnDefrag
            | Gate::TxnModeWriteWithSharedBuffer => false,
        }
    }
}

impl Features {
    /// Those that are not as they are by default.
    pub(crate) fn changed(self) -> impl Iterator<Item = Gate> {
        let default = Features::default();
        let all = Gate::ALL.iter().copied();
        all.filter(move |gate| self.is_on(*gate) != default.is_on(*gate))
    }

    /// Reads `Name=true,Name=false`. `AllAlpha` and `AllBeta` set those of their stage that are not
    /// named, wherever in the list they stand.
    pub(crate) fn parse(text: &str) -> Result<Features, Error> {
        let mut given = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim(), value.trim()),
                None => return Err(Error::NoValue(part.trim().to_owned())),
            };
            let on = value::bool(value).ok_or_else(|| Error::NotABool {
                name: name.to_owned(),
                value: value.to_owned(),
            })?;
            given.push((name, on));
        }
        let mut features = Features::default();
        for (stage, all) in [(Stage::Alpha, "AllAlpha"), (Stage::Beta, "AllBeta")] {
            let Some((_, on)) = given.iter().rev().find(|(name, _)| *name == all) else { continue };
            let of_stage = Gate::ALL.iter().filter(|gate| gate.stage() == stage);
            of_stage.for_each(|gate| features.set(*gate, *on));
        }
        for (name, on) in given {
            match Gate::ALL.iter().find(|gate| gate.name() == name) {
                Some(gate) => features.set(*gate, on),
                None if name == "AllAlpha" || name == "AllBeta" => {}
                None => return Err(Error::Unknown(name.to_owned())),
            }
        }
        Ok(features)
    }

    /// One line for each gate, as etcd's help has them.
    pub(crate) fn help() -> Vec<String> {
        let line = |name: &str, stage: Stage, default: bool| {
            let stage = match stage {
                Stage::Alpha => "ALPHA",
                Stage::Beta => "BETA",
            };
            format!("{name}=true|false ({stage} - default={default})")
        };
        let features = Features::default();
        let mut lines: Vec<String> = Gate::ALL
            .iter()
            .map(|gate| line(gate.name(), gate.stage(), features.is_on(*gate)))
            .collect();
        lines.push(line("AllAlpha", Stage::Alpha, false));
        lines.push(line("AllBeta", Stage::Beta, false));
        lines.sort();
        lines
    }
}

/// What is changed, as the flag has it.
impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gates: Vec<String> =
            self.changed().map(|gate| format!("{}={}", gate.name(), self.is_on(gate))).collect();
        f.write_str(&gates.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn on(text: &str, names: &[&str]) {
        let features = Features::parse(text).unwrap();
        let on = Gate::ALL.iter().filter(|gate| features.is_on(**gate)).map(|gate| gate.name());
        assert_eq!(on.collect::<Vec<_>>(), names, "{text:?}");
    }

    #[track_caller]
    fn refuses(text: &str, words: &str) {
        assert_eq!(Features::parse(text).unwrap_err().to_string(), words);
    }

    #[test]
    fn gates_have_etcds_names_and_defaults() {
        let lines = Features::help();
        assert_eq!(
            lines,
            [
                "AllAlpha=true|false (ALPHA - default=false)",
                "AllBeta=true|false (BETA - default=false)",
                "CompactHashCheck=true|false (ALPHA - default=false)",
                "FastLeaseKeepAlive=true|false (BETA - default=true)",
                "InitialCorruptCheck=true|false (ALPHA - default=false)",
                "LeaseCheckpoint=true|false (ALPHA - default=false)",
                "LeaseCheckpointPersist=true|false (ALPHA - default=false)",
                "PriorityRequest=true|false (ALPHA - default=false)",
                "SetMemberLocalAddr=true|false (ALPHA - default=false)",
                "StopGRPCServiceOnDefrag=true|false (ALPHA - default=false)",
                "TxnModeWriteWithSharedBuffer=true|false (BETA - default=true)",
            ]
        );
    }

    #[test]
    fn gates_are_switched_one_by_one_or_by_their_stage() {
        let beta = ["FastLeaseKeepAlive", "TxnModeWriteWithSharedBuffer"];
        on("", &beta);
        on("FastLeaseKeepAlive=false", &["TxnModeWriteWithSharedBuffer"]);
        on(" InitialCorruptCheck = T ,AllBeta=0", &["InitialCorruptCheck"]);
        on("FastLeaseKeepAlive=true,AllBeta=false", &["FastLeaseKeepAlive"]);
        on("AllBeta=false,FastLeaseKeepAlive=true", &["FastLeaseKeepAlive"]);
        let all = Features::parse("AllAlpha=true").unwrap();
        assert!(Gate::ALL.iter().all(|gate| all.is_on(*gate)));
    }

    #[test]
    fn wrong_gates_are_refused_in_etcds_words() {
        refuses("Foo=true", "unrecognized feature gate: Foo");
        refuses("InitialCorruptCheck", "missing bool value for InitialCorruptCheck");
        refuses(
            "InitialCorruptCheck=x",
            "invalid value of InitialCorruptCheck=x, err: strconv.ParseBool: parsing \"x\": \
             invalid syntax",
        );
    }
}
