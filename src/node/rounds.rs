//! Rounds that all who wait share.

use std::time::Duration;

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// While rounds are under way another one begins that long after the last at the earliest. In one
/// place a round takes less, and those who come meanwhile share the next; over a WAN they would
/// wait for almost two round trips.
const APART: Duration = Duration::from_millis(2);

/// Rounds under way at one time: enough for a round trip of 250 ms.
const UNDER_WAY_MAX: usize = 125;

/// Makes rounds for whoever comes out of `inbox`, until nobody can come any more. Nobody joins a
/// round that has begun: it may have been answered before.
pub(super) async fn share<T, R: Future<Output = ()>>(
    mut inbox: mpsc::Receiver<T>,
    most: usize,
    round: impl Fn(Vec<T>) -> R,
) {
    let mut under_way = FuturesUnordered::new();
    let mut next = Instant::now();
    loop {
        let (is_first, is_full) = (under_way.is_empty(), under_way.len() >= UNDER_WAY_MAX);
        let mut waiting = Vec::new();
        let come = async {
            if !is_first {
                sleep_until(next).await;
            }
            inbox.recv_many(&mut waiting, most).await
        };
        tokio::select! {
            biased;
            Some(()) = under_way.next() => {}
            come = come, if !is_full => {
                if come == 0 {
                    return;
                }
                next = Instant::now() + APART;
                under_way.push(round(waiting));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{sync::oneshot, time::sleep};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Who comes when, and when each is answered, by rounds that take so long; in milliseconds.
    #[track_caller]
    fn check(round_trip_ms: u64, come: &[u64], answered: &[u64]) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_time().start_paused(true).build().unwrap();
        let found = runtime.block_on(async {
            let begin = Instant::now();
            let (sender, inbox) = mpsc::channel::<oneshot::Sender<()>>(100);
            tokio::spawn(share(inbox, 100, move |waiting| async move {
                sleep(round_trip_ms as u32 * MS).await;
                waiting.into_iter().for_each(|waiter| waiter.send(()).unwrap());
            }));
            let waits = come.iter().map(|after| {
                let (sender, after) = (sender.clone(), *after as u32 * MS);
                async move {
                    sleep(after).await;
                    let (answer, answered) = oneshot::channel();
                    sender.send(answer).await.unwrap();
                    answered.await.unwrap();
                    begin.elapsed().as_millis() as u64
                }
            });
            futures::future::join_all(waits).await
        });
        assert_eq!(found, answered, "{round_trip_ms} ms, {come:?}");
    }

    #[test]
    fn who_comes_while_a_short_round_is_under_way_waits_for_its_end() {
        check(1, &[0, 0, 0], &[1, 1, 1]);
        check(2, &[10, 11, 11], &[12, 14, 14]);
    }

    #[test]
    fn nobody_waits_for_much_more_than_one_long_round() {
        check(200, &[10, 11, 11, 60], &[210, 212, 212, 260]);
        check(200, &[10, 11, 13, 15], &[210, 212, 214, 216]);
    }
}
