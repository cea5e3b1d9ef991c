//! What can't be done with regions: etcd has no such thing, so the words are its own.

use tonic::Code;

use crate::region::Rejection;

pub(super) fn code(rejection: &Rejection) -> Code {
    match rejection {
        Rejection::NoLocations
        | Rejection::BadName(_)
        | Rejection::NamedTwice(_)
        | Rejection::DuplicatePriority { .. }
        | Rejection::MissingPriority { .. }
        | Rejection::NotNamed(_) => Code::InvalidArgument,
        Rejection::UnknownRegion { .. } | Rejection::NotInAccount(_) => Code::NotFound,
        Rejection::NoAccount
        | Rejection::TwoRegions { .. }
        | Rejection::VoterWithoutRegion(_)
        | Rejection::NoVoter(_)
        | Rejection::Offline(_)
        | Rejection::LastOnline(_)
        | Rejection::NobodyReady(_) => Code::FailedPrecondition,
        Rejection::NotTaken(_) | Rejection::Changed => Code::Aborted,
    }
}
