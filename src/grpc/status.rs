//! Our errors as gRPC statuses: the one place that knows both.

use tonic::Status;

use crate::node;

impl From<node::Error> for Status {
    fn from(error: node::Error) -> Status {
        Status::unknown(error.to_string())
    }
}
