//! Downgrade: checking, beginning and calling off the way back to an earlier version.

use tonic::Status;
use tracing::warn;

use crate::{
    grpc::validate::{self, Invalid},
    node::Downgrades,
    proto::etcdserverpb::{DowngradeRequest, downgrade_request::DowngradeAction},
    types::Version,
};

/// The cluster's version, as the answer names it.
pub(crate) async fn downgrade(
    downgrades: &Downgrades,
    request: &DowngradeRequest,
) -> Result<String, Status> {
    let answer = match DowngradeAction::try_from(request.action) {
        Ok(DowngradeAction::Validate) => {
            downgrades.validate(validate::downgrade_target(&request.version)?).await?
        }
        Ok(DowngradeAction::Enable) => {
            let enabled = enable(downgrades, &request.version).await;
            enabled.inspect_err(|status| {
                warn!(error = status.message(), "reject downgrade request");
            })?
        }
        Ok(DowngradeAction::Cancel) => downgrades.cancel().await?,
        Err(_) => return Err(Invalid::UnknownMethod.into()),
    };
    Ok(answer.short())
}

async fn enable(downgrades: &Downgrades, target: &str) -> Result<Version, Status> {
    Ok(downgrades.enable(validate::downgrade_target(target)?).await?)
}
