//! Proposing commands. The last place where randomness and clocks exist: whatever members could decide
//! differently is decided here.

use crate::{
    node::{Caller, Error},
    proto::{
        command::command,
        etcdserverpb::{
            CompactionRequest, DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest,
            LeaseGrantResponse, LeaseRevokeRequest, PutRequest, PutResponse, TxnRequest,
            TxnResponse,
        },
    },
    state_machine::Reply,
    types::Revision,
};

/// A request that changes the store, with the type of its answer.
pub trait Operation {
    type Reply;

    fn into_operation(self) -> command::Operation;

    /// The one place where a reply of the wrong kind could show; that would be our bug.
    ///
    /// `revision` is that of the key space after the command.
    fn reply(reply: Reply, revision: Revision) -> Option<Self::Reply>;
}

macro_rules! operation {
    ($request:ty => $variant:ident => $response:ty) => {
        impl Operation for $request {
            type Reply = $response;

            fn into_operation(self) -> command::Operation {
                command::Operation::$variant(self)
            }

            fn reply(reply: Reply, _: Revision) -> Option<$response> {
                match reply {
                    Reply::$variant(response) => Some(response),
                    _ => None,
                }
            }
        }
    };
}

operation!(PutRequest => Put => PutResponse);
operation!(DeleteRangeRequest => DeleteRange => DeleteRangeResponse);
operation!(TxnRequest => Txn => TxnResponse);
operation!(LeaseGrantRequest => LeaseGrant => LeaseGrantResponse);

/// The answer is the revision of the key space, for the header.
impl Operation for CompactionRequest {
    type Reply = Revision;

    fn into_operation(self) -> command::Operation {
        command::Operation::Compact(self)
    }

    fn reply(reply: Reply, revision: Revision) -> Option<Revision> {
        matches!(reply, Reply::Compact).then_some(revision)
    }
}

/// The answer is the revision of the key space, for the header.
impl Operation for LeaseRevokeRequest {
    type Reply = Revision;

    fn into_operation(self) -> command::Operation {
        command::Operation::LeaseRevoke(self)
    }

    fn reply(reply: Reply, revision: Revision) -> Option<Revision> {
        matches!(reply, Reply::Done).then_some(revision)
    }
}

/// Proposes operations and waits for their replies.
#[derive(Clone)]
pub struct Proposer {}

impl Proposer {
    /// Returns once this member has applied the command, so that the caller reads its own write here.
    ///
    /// # Errors
    /// [`Error::Rejected`] says that nothing changed. The timeout errors say that nobody knows.
    pub async fn propose<O: Operation>(
        &self,
        caller: &Caller,
        operation: O,
    ) -> Result<O::Reply, Error> {
        let _ = (caller, operation);
        unimplemented!()
    }
}
