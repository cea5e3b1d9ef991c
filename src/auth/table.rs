//! The rows: users and roles in etcd's own encoding, and the state of authentication.

use bytes::Bytes;
use prost::Message;

use crate::{
    proto::authpb::{Role, User},
    storage::{
        Batch, Error, Rows,
        tables::{MetaKey, Table},
    },
};

/// Whether authentication is enabled, and how often users, roles or permissions have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pub enabled: bool,
    /// 1 in a store that nobody has touched, as in etcd.
    pub revision: u64,
}

impl State {
    const UNTOUCHED: State = State { enabled: false, revision: 1 };

    pub fn read(rows: &dyn Rows) -> Result<State, Error> {
        let Some(row) = rows.get(Table::Meta, &MetaKey::Auth.key())? else {
            return Ok(State::UNTOUCHED);
        };
        State::decode(&row).ok_or_else(|| Table::Meta.corrupt("state of authentication"))
    }

    pub fn put(self, batch: &mut Batch<'_>) {
        batch.put(Table::Meta, &MetaKey::Auth.key(), self.encode());
    }

    fn encode(self) -> Vec<u8> {
        [&[u8::from(self.enabled)], &self.revision.to_be_bytes()[..]].concat()
    }

    fn decode(row: &[u8]) -> Option<State> {
        let (enabled, revision) = row.split_first()?;
        let enabled = match enabled {
            0 => false,
            1 => true,
            _ => return None,
        };
        Some(State { enabled, revision: u64::from_be_bytes(revision.try_into().ok()?) })
    }
}

pub fn user(rows: &dyn Rows, name: &str) -> Result<Option<User>, Error> {
    get(rows, Table::Users, name)
}

pub fn role(rows: &dyn Rows, name: &str) -> Result<Option<Role>, Error> {
    get(rows, Table::Roles, name)
}

/// All users, by name.
pub fn users(rows: &dyn Rows) -> Result<Vec<User>, Error> {
    all(rows, Table::Users)
}

/// All roles, by name.
pub fn roles(rows: &dyn Rows) -> Result<Vec<Role>, Error> {
    all(rows, Table::Roles)
}

pub fn put_user(batch: &mut Batch<'_>, user: &User) {
    batch.put(Table::Users, &user.name, user.encode_to_vec());
}

pub fn put_role(batch: &mut Batch<'_>, role: &Role) {
    batch.put(Table::Roles, &role.name, role.encode_to_vec());
}

pub fn remove_user(batch: &mut Batch<'_>, name: &str) {
    batch.delete(Table::Users, name.as_bytes());
}

pub fn remove_role(batch: &mut Batch<'_>, name: &str) {
    batch.delete(Table::Roles, name.as_bytes());
}

fn get<M: Message + Default>(
    rows: &dyn Rows,
    table: Table,
    name: &str,
) -> Result<Option<M>, Error> {
    rows.get(table, name.as_bytes())?.map(|row| decode(table, row)).transpose()
}

fn all<M: Message + Default>(rows: &dyn Rows, table: Table) -> Result<Vec<M>, Error> {
    let mut cursor = rows.cursor(table);
    cursor.seek(&[])?;
    let mut found = Vec::new();
    while let Some((_, row)) = cursor.row() {
        found.push(decode(table, Bytes::copy_from_slice(row))?);
        cursor.step()?;
    }
    Ok(found)
}

fn decode<M: Message + Default>(table: Table, row: Bytes) -> Result<M, Error> {
    M::decode(row).map_err(|error| table.corrupt(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_comes_back_as_it_was_written() {
        for state in [State::UNTOUCHED, State { enabled: true, revision: u64::MAX }] {
            assert_eq!(State::decode(&state.encode()), Some(state));
        }
        for row in [&[][..], &[1], &[2, 0, 0, 0, 0, 0, 0, 0, 1], &[0; 10]] {
            assert_eq!(State::decode(row), None, "{row:?}");
        }
    }
}
