//! Alarms: what is wrong with which member, known to all of them.
//!
//! They stay until somebody deactivates them, also those of members that have been removed, as in
//! etcd. While one is active the state machine refuses commands.

mod table;

use std::collections::BTreeSet;

use crate::{
    proto::etcdserverpb::{AlarmMember, AlarmType},
    storage::{self, Batch, Rows},
    types::MemberId,
};

/// A number of etcd's `AlarmType`, or one that a later etcd may give a meaning: clients may
/// activate any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(i32);

impl Kind {
    pub const NO_SPACE: Kind = Kind(AlarmType::Nospace as i32);
    pub const CORRUPT: Kind = Kind(AlarmType::Corrupt as i32);

    /// `None` for the number that stands for no alarm, or for all of them.
    pub fn from_wire(raw: i32) -> Option<Kind> {
        (raw != AlarmType::None as i32).then_some(Kind(raw))
    }

    /// As etcd prints it: the name, or the number of what has none.
    pub fn name(self) -> String {
        match AlarmType::try_from(self.0) {
            Ok(kind) => kind.as_str_name().to_owned(),
            Err(_) => self.0.to_string(),
        }
    }
}

/// One active alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Alarm {
    pub kind: Kind,
    /// Whom it is about; 0 when nobody knows which member is to blame.
    pub member: MemberId,
}

impl Alarm {
    pub fn to_wire(self) -> AlarmMember {
        AlarmMember { member_id: self.member.0, alarm: self.kind.0 }
    }
}

/// The alarms that are active at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms(BTreeSet<Alarm>);

impl Alarms {
    pub fn read(rows: &dyn Rows) -> Result<Alarms, storage::Error> {
        Ok(Alarms(table::read(rows)?))
    }

    pub fn contains(&self, alarm: Alarm) -> bool {
        self.0.contains(&alarm)
    }

    /// Whether any member has an alarm of this kind.
    pub fn has(&self, kind: Kind) -> bool {
        self.0.iter().any(|alarm| alarm.kind == kind)
    }

    /// By kind, then by member.
    pub fn iter(&self) -> impl Iterator<Item = Alarm> + '_ {
        self.0.iter().copied()
    }

    /// Those of one kind, or all of them.
    pub fn list(&self, kind: Option<Kind>) -> Vec<AlarmMember> {
        let wanted = |alarm: &Alarm| kind.is_none_or(|kind| alarm.kind == kind);
        self.iter().filter(wanted).map(Alarm::to_wire).collect()
    }

    /// Activates an alarm; to do so twice changes nothing.
    pub fn activate(&mut self, batch: &mut Batch<'_>, alarm: Alarm) {
        if self.0.insert(alarm) {
            table::put(batch, alarm);
        }
    }

    /// Whether it was active.
    pub fn deactivate(&mut self, batch: &mut Batch<'_>, alarm: Alarm) -> bool {
        let was_active = self.0.remove(&alarm);
        if was_active {
            table::remove(batch, alarm);
        }
        was_active
    }
}
