//! Clients that would rather have an error than an answer from a member without a leader.
//!
//! They say so in the metadata, `hasleader: true`; kube-apiserver does for its watches.

use std::time::Duration;

use http::HeaderMap;
use tokio::{sync::watch, time::timeout};

use crate::types::MemberId;

/// Election timeouts that a stream outlives its leader by. A new election takes about one, and to
/// open a stream again costs more than to wait for it.
const STREAM_PATIENCE: u32 = 3;

/// Knows whether there is a leader.
#[derive(Clone)]
pub(crate) struct Leadership {
    leader: watch::Receiver<Option<MemberId>>,
    election_timeout: Duration,
}

impl Leadership {
    pub(crate) fn new(
        leader: watch::Receiver<Option<MemberId>>,
        election_timeout: Duration,
    ) -> Leadership {
        Leadership { leader, election_timeout }
    }

    pub(crate) fn has_leader(&self) -> bool {
        self.leader.borrow().is_some()
    }

    /// Resolves once there has been no leader for three election timeouts.
    pub(crate) fn lost_leader(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut leader = self.leader.clone();
        let patience = self.election_timeout * STREAM_PATIENCE;
        async move {
            while leader.wait_for(Option::is_none).await.is_ok() {
                let found = timeout(patience, leader.wait_for(Option::is_some)).await;
                if !matches!(found, Ok(Ok(_))) {
                    return;
                }
            }
            // The node is gone, and with it whoever could announce a leader.
        }
    }
}

/// Does the client ask for a leader?
pub(crate) fn is_asked(headers: &HeaderMap) -> bool {
    headers.get("hasleader").is_some_and(|value| value == "true")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    const ELECTION: Duration = Duration::from_secs(1);

    fn leadership(leader: Option<u64>) -> (watch::Sender<Option<MemberId>>, Leadership) {
        let (sender, receiver) = watch::channel(leader.map(MemberId));
        (sender, Leadership::new(receiver, ELECTION))
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_outlives_a_short_absence_of_the_leader() {
        let (sender, leadership) = leadership(Some(1));
        let lost = tokio::spawn(leadership.lost_leader());
        sender.send(None).unwrap();
        tokio::time::sleep(ELECTION * 2).await;
        sender.send(Some(MemberId(2))).unwrap();
        tokio::time::sleep(ELECTION * 10).await;
        assert!(!lost.is_finished());
        sender.send(None).unwrap();
        let since = Instant::now();
        lost.await.unwrap();
        assert_eq!(since.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_gone_has_no_leader() {
        let (sender, leadership) = leadership(Some(1));
        drop(sender);
        leadership.lost_leader().await;
    }

    #[test]
    fn only_the_word_true_asks() {
        for (value, asked) in [("true", true), ("1", false), ("True", false)] {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static("hasleader"),
                http::HeaderValue::from_static(value),
            )]);
            assert_eq!(is_asked(&headers), asked, "{value}");
        }
        assert!(!is_asked(&HeaderMap::new()));
    }
}
