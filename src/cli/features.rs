//! Which of etcd's features are on, for those who look.

use crate::{
    config::{Config, Gate, Stage},
    http::Feature,
};

/// All of etcd's, by name, and the two that stand for a stage.
pub(super) fn of(config: &Config) -> Vec<Feature> {
    let stage = |stage| match stage {
        Stage::Alpha => "ALPHA",
        Stage::Beta => "BETA",
    };
    let whole = [("AllAlpha", Stage::Alpha), ("AllBeta", Stage::Beta)].map(|(name, of)| Feature {
        name,
        stage: stage(of),
        enabled: false,
    });
    let gates = Gate::ALL.iter().map(|gate| Feature {
        name: gate.name(),
        stage: stage(gate.stage()),
        enabled: config.features.is_on(*gate),
    });
    whole.into_iter().chain(gates).collect()
}
