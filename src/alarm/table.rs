//! The replicated table of alarms.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Alarm, Kind};
use crate::storage::{
    Batch, Error, Rows,
    tables::{Table, alarm_key, parse_alarm_key},
};

pub(super) fn read(rows: &dyn Rows) -> Result<BTreeSet<Alarm>, Error> {
    let mut alarms = BTreeSet::new();
    let mut cursor = rows.cursor(Table::Alarms);
    cursor.seek(&[])?;
    while let Some((key, _)) = cursor.row() {
        let parsed = parse_alarm_key(key);
        let (kind, member) = parsed.ok_or_else(|| Table::Alarms.corrupt("key"))?;
        alarms.insert(Alarm { kind: Kind(kind.cast_signed()), member });
        cursor.step()?;
    }
    Ok(alarms)
}

pub(super) fn put(batch: &mut Batch<'_>, alarm: Alarm) {
    batch.put(Table::Alarms, &key(alarm), Bytes::new());
}

pub(super) fn remove(batch: &mut Batch<'_>, alarm: Alarm) {
    batch.delete(Table::Alarms, &key(alarm));
}

fn key(alarm: Alarm) -> [u8; 12] {
    alarm_key(alarm.kind.0.cast_unsigned(), alarm.member)
}
