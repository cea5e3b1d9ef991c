//! Watching over a WebSocket.

use std::net::SocketAddr;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest, http::HeaderValue},
};

use super::{
    each,
    http::{Request, ask},
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn say(socket: &mut Socket, request: Value) {
    socket.send(Message::text(request.to_string())).await.unwrap();
}

/// The next answer, without the header.
async fn hear(socket: &mut Socket) -> Value {
    let message = socket.next().await.unwrap().unwrap();
    let mut answer: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
    if let Some(result) = answer.get_mut("result").and_then(Value::as_object_mut) {
        assert!(result.remove("header").is_some(), "{result:?}");
    }
    answer
}

async fn put(address: SocketAddr) {
    let (method, path, body) = ("POST", "/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#);
    let request = Request { method, path, headers: Vec::new(), body, lines: usize::MAX };
    assert_eq!(ask(address, &request).await.status, 200);
}

#[tokio::test]
async fn a_watch_goes_both_ways_over_a_websocket() {
    for cluster in each(&[]).await {
        let address = cluster.client_address(0);
        let mut request = format!("ws://{address}/v3/watch").into_client_request().unwrap();
        let protocol = HeaderValue::from_static("Bearer, nobody");
        request.headers_mut().insert("sec-websocket-protocol", protocol);
        let (mut socket, response) = connect_async(request).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "Bearer");

        say(&mut socket, json!({"create_request": {"key": "Zm9v"}})).await;
        assert_eq!(hear(&mut socket).await, json!({"result": {"created": true}}));
        put(address).await;
        let event = hear(&mut socket).await;
        assert_eq!(event["result"]["events"][0]["kv"]["value"], "YmFy", "{event}");
        say(&mut socket, json!({"create_request": {"key": "Zg==", "watch_id": "7"}})).await;
        let created = json!({"result": {"watch_id": "7", "created": true}});
        assert_eq!(hear(&mut socket).await, created);
        say(&mut socket, json!({"cancel_request": {"watch_id": 7}})).await;
        let canceled = json!({"result": {"watch_id": "7", "canceled": true}});
        assert_eq!(hear(&mut socket).await, canceled);
    }
}

#[tokio::test]
async fn a_path_that_is_none_is_told_over_a_websocket_too() {
    for cluster in each(&[]).await {
        let url = format!("ws://{}/v3/nothing", cluster.client_address(0));
        let (mut socket, _) = connect_async(url).await.unwrap();
        assert_eq!(hear(&mut socket).await, json!({"code": 5, "message": "Not Found"}));
        // etcd's side just hangs up.
        let end = socket.next().await;
        assert!(!matches!(end, Some(Ok(Message::Text(_)))), "{end:?}");
    }
}
