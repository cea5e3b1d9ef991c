//! Those who watch: one watcher per name, which goes on at another member when its stream ends, and
//! whoever looks at all members now and then.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream};
use orrery::proto::etcdserverpb::{
    WatchCreateRequest, WatchRequest, WatchResponse, watch_client::WatchClient,
    watch_request::RequestUnion,
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin,
    client::channel,
    history::{MemberIndex, MemberState, Sample, Watch},
    recorder::Recorder,
    workload::Shared,
};

/// A stream that is silent for so long is given up: members tell their progress each second.
const SILENCE_MAX: Duration = Duration::from_secs(4);

const PAUSE: Duration = Duration::from_millis(100);

const SAMPLE_EVERY: Duration = Duration::from_millis(250);

/// A watcher that wants to see everything that its request names.
pub struct Observer {
    pub name: String,
    pub recorder: Recorder,
    pub shared: Arc<Shared>,
    /// Where it begins, and how many it may go round.
    pub member: MemberIndex,
    pub members: usize,
    pub request: WatchCreateRequest,
    /// Whether what it has seen may be compacted.
    pub is_record: bool,
}

impl Observer {
    /// Watches until it has seen the revision that `last` names in the end.
    pub async fn run(mut self, mut last: watch::Receiver<Option<i64>>) {
        loop {
            let done = |last: &Option<i64>, next: i64| last.is_some_and(|last| next > last);
            if done(&last.borrow(), self.request.start_revision) {
                return;
            }
            let watched = self.watch_once(&mut last).await;
            self.recorder.history().watches.push(watched);
            self.member = (self.member + 1) % self.members;
            sleep(PAUSE).await;
        }
    }

    /// One stream, until it ends or all has been seen.
    async fn watch_once(&mut self, last: &mut watch::Receiver<Option<i64>>) -> Watch {
        let mut watched = Watch {
            name: self.name.clone(),
            member: self.member,
            began: self.recorder.now(),
            ended: 0,
            request: self.request.clone(),
            received: Vec::new(),
            error: String::new(),
        };
        let create = RequestUnion::CreateRequest(self.request.clone());
        let create = WatchRequest { request_union: Some(create) };
        let requests = stream::iter([create]).chain(stream::pending());
        let mut client = WatchClient::new(channel(self.member));
        client = client.max_decoding_message_size(usize::MAX);
        let opened = timeout(SILENCE_MAX, client.watch(requests)).await;
        let opened = match opened {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(status.to_string()),
            Err(_) => Err("no answer".to_owned()),
        };
        match opened {
            Ok(mut responses) => loop {
                if last.borrow().is_some_and(|last| self.request.start_revision > last) {
                    break;
                }
                let next = tokio::select! {
                    next = timeout(SILENCE_MAX, responses.message()) => next,
                    Ok(()) = last.changed() => continue,
                };
                match next {
                    Ok(Ok(Some(response))) => {
                        self.see(&response);
                        let at = self.recorder.now();
                        let canceled = response.canceled;
                        watched.received.push((at, response));
                        if canceled {
                            watched.error = "canceled".to_owned();
                            break;
                        }
                    }
                    Ok(Ok(None)) => watched.error = "the stream ended".to_owned(),
                    Ok(Err(status)) => watched.error = status.to_string(),
                    Err(_) => watched.error = format!("silent for {SILENCE_MAX:?}"),
                }
                if !watched.error.is_empty() {
                    break;
                }
            },
            Err(error) => watched.error = error,
        }
        watched.ended = self.recorder.now();
        watched
    }

    /// What comes next is above what has been seen.
    fn see(&mut self, response: &WatchResponse) {
        let next = &mut self.request.start_revision;
        if let Some(newest) = response.events.last().and_then(|event| event.kv.as_ref()) {
            // More of the revision may follow in another fragment.
            *next = (*next).max(newest.mod_revision + i64::from(!response.fragment));
        } else if !response.created && !response.canceled {
            let revision = response.header.as_ref().map_or(0, |header| header.revision);
            *next = (*next).max(revision + 1);
        }
        if response.canceled {
            *next = (*next).max(response.compact_revision);
        }
        if self.is_record {
            self.shared.record(*next - 1);
        }
    }
}

/// Looks at every member again and again.
pub async fn sample(recorder: Recorder, members: usize, stop: CancellationToken) {
    let look = |member: MemberIndex| {
        let recorder = recorder.clone();
        async move {
            loop {
                let status = admin::status(member).await.ok();
                let state = status.map(|status| {
                    let header = status.header.unwrap_or_default();
                    MemberState {
                        leads: status.leader != 0 && status.leader == header.member_id,
                        is_learner: status.is_learner,
                        term: status.raft_term,
                        applied: status.raft_applied_index,
                        revision: header.revision,
                        db_size: status.db_size,
                    }
                });
                let at = recorder.now();
                recorder.history().samples.push(Sample { at, member, state });
                sleep(SAMPLE_EVERY).await;
            }
        }
    };
    let looking = futures::future::join_all((0..members).map(look));
    let _: Option<Vec<()>> = stop.run_until_cancelled(looking).await;
}
