//! Pages, on members that are well and on members that are not.

use std::{collections::BTreeMap, sync::Mutex};

use axum::body::Body;
use tower::ServiceExt;

use super::{
    health::{Check, Checker, Counts},
    *,
};

/// The pages of a member on which these checks fail.
fn pages_failing(failures: &[(Check, &str)]) -> Router {
    let failures: BTreeMap<String, String> = failures
        .iter()
        .map(|(check, reason)| {
            let is_alarm = matches!(check, Check::Alarms { .. });
            let name = if is_alarm { "Alarms".to_owned() } else { format!("{check:?}") };
            (name, (*reason).to_owned())
        })
        .collect();
    let checker: Checker = Arc::new(move |check| {
        let name = match &check {
            Check::Alarms { overlooked } if overlooked.contains(&"NOSPACE".to_owned()) => "".into(),
            Check::Alarms { .. } => "Alarms".to_owned(),
            other => format!("{other:?}"),
        };
        let outcome = failures.get(&name).cloned().map_or(Ok(()), Err);
        Box::pin(async move { outcome })
    });
    health::pages(checker, Counts::default()).merge(version_page(Versions::default))
}

async fn send(router: &Router, method: &str, path: &str) -> Response {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    router.clone().oneshot(request).await.unwrap()
}

async fn body(response: Response) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn check(
    failures: &[(Check, &str)],
    path: &'static str,
    status: u16,
    page: &'static str,
) -> impl Future<Output = ()> {
    let router = pages_failing(failures);
    async move {
        let response = send(&router, "GET", path).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        assert_eq!(body(response).await, page, "{path}");
    }
}

const READABLE: &str = "{\"health\":\"true\",\"reason\":\"\"}";

#[tokio::test]
async fn health_is_told_in_etcds_words() {
    check(&[], "/health", 200, READABLE).await;
    check(&[], "/health?exclude=NOSPACE&exclude=CORRUPT", 200, READABLE).await;
    let leaderless = [(Check::Leader, "RAFT NO LEADER"), (Check::LinearizableRead, "x")];
    let page = "{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}\n";
    check(&leaderless, "/health", 503, page).await;
    check(&leaderless, "/health?serializable=true", 200, READABLE).await;
    let alarmed = [(Check::Alarms { overlooked: Vec::new() }, "ALARM NOSPACE")];
    let page = "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n";
    check(&alarmed, "/health", 503, page).await;
    check(&alarmed, "/health?serializable=true", 503, page).await;
    check(&alarmed, "/health?exclude=CORRUPT", 503, page).await;
    check(&alarmed, "/health?exclude=NOSPACE", 200, READABLE).await;
    let unread = [(Check::SerializableRead, "bad \"disk\"")];
    let page = "{\"health\":\"false\",\"reason\":\"RANGE ERROR:bad \\\"disk\\\"\"}\n";
    check(&unread, "/health?serializable=true", 503, page).await;
}

#[tokio::test]
async fn probes_say_ok_or_what_failed() {
    check(&[], "/livez", 200, "ok\n").await;
    check(&[], "/livez?verbose", 200, "[+]serializable_read ok\nok\n").await;
    check(&[], "/readyz/linearizable_read", 200, "ok\n").await;
    let all = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n\
               [+]non_learner ok\nok\n";
    check(&[], "/readyz?verbose=1", 200, all).await;
    check(&[], "/livez/linearizable_read", 404, "").await;
    check(&[], "/readyz/nonsense", 404, "").await;
}

#[tokio::test]
async fn one_failed_check_fails_the_probe_unless_it_is_excluded() {
    let failing = [(Check::LinearizableRead, "etcdserver: no leader")];
    check(&failing, "/livez", 200, "ok\n").await;
    let page = "[-]linearizable_read failed: etcdserver: no leader\n\n";
    check(&failing, "/readyz/linearizable_read", 503, page).await;
    let page = "[+]data_corruption ok\n[+]serializable_read ok\n\
                [-]linearizable_read failed: etcdserver: no leader\n[+]non_learner ok\n\n";
    check(&failing, "/readyz", 503, page).await;
    check(&failing, "/readyz?exclude=linearizable_read&exclude=nonsense", 200, "ok\n").await;
    check(&failing, "/readyz/serializable_read", 200, "ok\n").await;
}

#[tokio::test]
async fn excluded_checks_are_not_made() {
    let made = Arc::new(Mutex::new(Vec::new()));
    let checker: Checker = Arc::new({
        let made = Arc::clone(&made);
        move |check| {
            made.lock().unwrap().push(check);
            Box::pin(async { Ok(()) })
        }
    });
    send(&health::pages(checker, Counts::default()), "GET", "/readyz?exclude=linearizable_read")
        .await;
    let expected = [Check::DataCorruption, Check::SerializableRead, Check::NonLearner];
    assert_eq!(*made.lock().unwrap(), expected);
}

#[tokio::test]
async fn the_version_is_told_in_etcds_order() {
    let page = "{\"etcdserver\":\"3.7.0\",\"etcdcluster\":\"not_decided\",\"storage\":\"unknown\"}";
    check(&[], "/version", 200, page).await;
}

#[tokio::test]
async fn pages_answer_get_alone() {
    let router = pages_failing(&[]);
    for path in ["/version", "/health", "/livez", "/readyz/non_learner"] {
        for method in ["POST", "HEAD", "DELETE"] {
            let response = send(&router, method, path).await;
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert_eq!(response.headers()[header::ALLOW], "GET");
            let page = if method == "HEAD" { "" } else { "Method Not Allowed\n" };
            assert_eq!(body(response).await, page);
        }
    }
    assert_eq!(send(&router, "POST", "/nonsense").await.status(), StatusCode::NOT_FOUND);
}
