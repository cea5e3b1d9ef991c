//! What a run has covered.

/// How much happened in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    pub acknowledged: u64,
    pub unknown: u64,
    pub reads: u64,
    pub bounded: u64,
    pub sessions: u64,
    pub terms_led: u64,
    pub kills: u64,
    pub power_losses: u64,
    pub torn_writes: u64,
    pub cuts: u64,
    pub pauses: u64,
    pub slowed: u64,
    pub transfers: u64,
    pub compactions: u64,
    pub snapshots: u64,
    pub watchers_resumed: u64,
    pub watch_gaps: u64,
    pub leases_renewed: u64,
    pub leases_expired: u64,
}

impl Coverage {
    /// A run in which nothing was acknowledged, or in which one member led from beginning to end,
    /// says little.
    pub(crate) fn is_effective(&self) -> bool {
        self.acknowledged > 0 && self.terms_led > 1
    }

    pub(crate) fn plus(self, other: Coverage) -> Coverage {
        Coverage {
            acknowledged: self.acknowledged + other.acknowledged,
            unknown: self.unknown + other.unknown,
            reads: self.reads + other.reads,
            bounded: self.bounded + other.bounded,
            sessions: self.sessions + other.sessions,
            terms_led: self.terms_led + other.terms_led,
            kills: self.kills + other.kills,
            power_losses: self.power_losses + other.power_losses,
            torn_writes: self.torn_writes + other.torn_writes,
            cuts: self.cuts + other.cuts,
            pauses: self.pauses + other.pauses,
            slowed: self.slowed + other.slowed,
            transfers: self.transfers + other.transfers,
            compactions: self.compactions + other.compactions,
            snapshots: self.snapshots + other.snapshots,
            watchers_resumed: self.watchers_resumed + other.watchers_resumed,
            watch_gaps: self.watch_gaps + other.watch_gaps,
            leases_renewed: self.leases_renewed + other.leases_renewed,
            leases_expired: self.leases_expired + other.leases_expired,
        }
    }
}
