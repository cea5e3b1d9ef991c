//! The replicated account.

use prost::Message;

use super::Account;
use crate::{
    proto::region as wire,
    storage::{
        Batch, Error, Rows,
        tables::{MetaKey, Table},
    },
};

/// `None` before there is an account.
///
/// # Errors
/// The store can't be read.
pub fn read(rows: &dyn Rows) -> Result<Option<Account>, Error> {
    let Some(row) = rows.get(Table::Meta, &MetaKey::Account.key())? else { return Ok(None) };
    let message = wire::Account::decode(row.as_ref()).ok();
    let account = message.and_then(|message| Account::from_wire(&message).ok());
    account.map(Some).ok_or_else(|| Table::Meta.corrupt("the account of regions"))
}

pub fn put(batch: &mut Batch<'_>, account: &Account) {
    batch.put(Table::Meta, &MetaKey::Account.key(), account.to_wire().encode_to_vec());
}
