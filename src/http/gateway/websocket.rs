//! A call over a WebSocket, for browsers that cannot read an answer while they send: each message
//! is a piece of the request, each line of the answer a message.

use std::{convert::Infallible, sync::Arc};

use axum::{
    body::Body,
    extract::{
        FromRequestParts, Request,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    http::{HeaderMap, HeaderName, HeaderValue, Method as Verb, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{SinkExt, StreamExt, stream::SplitStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Gateway, Messages};

/// Messages that a client may be ahead of the call; the next one waits in its socket.
const AHEAD_MAX: usize = 1;

/// What of the request for the socket is passed on to the call.
const FORWARDED: [HeaderName; 2] = [header::ORIGIN, header::REFERER];

pub(super) fn is_asked(headers: &HeaderMap) -> bool {
    let has = |name: HeaderName, token: &str| {
        let values = headers.get_all(name).into_iter();
        let mut tokens =
            values.filter_map(|value| value.to_str().ok()).flat_map(|it| it.split(','));
        tokens.any(|it| it.trim().eq_ignore_ascii_case(token))
    };
    has(header::CONNECTION, "upgrade") && has(header::UPGRADE, "websocket")
}

pub(super) async fn answer(gateway: Arc<Gateway>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let upgrade = match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    let mut call = Request::new(Body::empty());
    *call.uri_mut() = parts.uri;
    *call.method_mut() = Verb::POST;
    *call.headers_mut() = forwarded(&parts.headers);
    // Browsers can set no header but the protocol, so the token comes with it.
    upgrade
        .protocols(["Bearer"])
        .max_message_size(gateway.json_bytes_max)
        .on_upgrade(move |socket| converse(gateway, call, socket))
}

fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let mut forwarded = HeaderMap::new();
    for name in FORWARDED {
        if let Some(value) = headers.get(&name) {
            forwarded.insert(name, value.clone());
        }
    }
    if let Some(authorization) = cookie(headers).or_else(|| protocol(headers))
        && let Ok(authorization) = HeaderValue::try_from(format!("Bearer {authorization}"))
    {
        forwarded.insert(header::AUTHORIZATION, authorization);
    }
    forwarded
}

/// The token behind `Bearer,` in the name of the protocol.
fn protocol(headers: &HeaderMap) -> Option<&str> {
    let protocol = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    Some(protocol.split_once("Bearer,")?.1.trim_matches(' '))
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|it| it.to_str().ok());
    let mut pairs = cookies.flat_map(|it| it.split(';')).filter_map(|it| it.split_once('='));
    pairs.find(|(name, _)| name.trim() == "token").map(|(_, value)| value.trim())
}

/// Ends when the answer does, or the client goes away.
async fn converse(gateway: Arc<Gateway>, mut call: Request, socket: WebSocket) {
    let (mut to, mut from) = socket.split();
    let (pieces, taken) = mpsc::channel(AHEAD_MAX);
    *call.body_mut() = match gateway.methods.get(call.uri().path()).map(|method| method.takes) {
        Some(Messages::Stream) => {
            Body::from_stream(ReceiverStream::new(taken).map(Ok::<_, Infallible>))
        }
        Some(Messages::One) => Body::from(next(&mut from).await.unwrap_or_default()),
        None => Body::empty(),
    };
    let answering = async {
        let mut lines = gateway.answer(call).await.into_body().into_data_stream();
        while let Some(Ok(line)) = lines.next().await {
            let line = String::from_utf8_lossy(line.trim_ascii_end()).into_owned();
            if to.send(Message::Text(line.into())).await.is_err() {
                return;
            }
        }
        // A client that has gone needs no goodbye.
        let _ = to.close().await;
    };
    let listening = async {
        while let Some(piece) = next(&mut from).await {
            // What comes behind the end of a call is nothing to anybody.
            let _ = pieces.send(piece).await;
        }
    };
    tokio::select! {
        () = answering => {}
        () = listening => {}
    }
}

/// `None` when the client has gone.
async fn next(from: &mut SplitStream<WebSocket>) -> Option<Bytes> {
    loop {
        let piece = match from.next().await?.ok()? {
            Message::Text(text) => Bytes::from(text),
            Message::Binary(bytes) => bytes,
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Close(_) => return None,
        };
        return Some([piece.as_ref(), b"\n"].concat().into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(of: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        of.iter().map(pair).collect()
    }

    #[test]
    fn a_websocket_is_asked_for_by_two_headers() {
        let asked = [("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")];
        assert!(is_asked(&headers(&asked)));
        assert!(!is_asked(&headers(&asked[..1])));
        assert!(!is_asked(&headers(&[("connection", "Upgrade"), ("upgrade", "h2c")])));
    }

    #[test]
    fn the_token_comes_with_the_protocol_or_a_cookie() {
        for (given, token) in [
            (vec![("sec-websocket-protocol", "Bearer, a.7")], Some("Bearer a.7")),
            (vec![("sec-websocket-protocol", "Bearer,a.7")], Some("Bearer a.7")),
            (vec![("cookie", "x=y; token=b.8")], Some("Bearer b.8")),
            (
                vec![("sec-websocket-protocol", "Bearer, a.7"), ("cookie", "token=b.8")],
                Some("Bearer b.8"),
            ),
            (vec![("sec-websocket-protocol", "chat"), ("x-y", "z")], None),
        ] {
            let told = forwarded(&headers(&given));
            let token = token.map(HeaderValue::from_static);
            assert_eq!(told.get(header::AUTHORIZATION), token.as_ref(), "{given:?}");
        }
    }
}
