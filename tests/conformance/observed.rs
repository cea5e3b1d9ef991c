//! What an observer of an election is told.

use orrery::proto::v3electionpb::{LeaderRequest, LeaderResponse, election_client::ElectionClient};
use tokio::sync::mpsc;
use tonic::Status;

use super::auth::Connection;

/// The leaders of an election. A server may say nothing at all until there is the first.
pub(crate) fn observe(
    mut client: ElectionClient<Connection>,
    request: LeaderRequest,
) -> mpsc::Receiver<Result<LeaderResponse, Status>> {
    let (sender, leaders) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut stream = match client.observe(request).await {
            Ok(stream) => stream.into_inner(),
            Err(status) => return drop(sender.send(Err(status)).await),
        };
        while let Some(leader) = stream.message().await.transpose() {
            if sender.send(leader).await.is_err() {
                return; // the case is over
            }
        }
    });
    leaders
}
