//! How a call says who makes it.

use std::sync::Arc;

use http::{Extensions, HeaderMap};

use crate::node::Who;

/// The name in a client's certificate, which was verified when it connected. Put into the
/// extensions of each request on the connection.
#[derive(Clone, Debug)]
pub struct CommonName(pub Arc<str>);

/// The metadata that clients and gateways send a token in.
const TOKEN: [&str; 2] = ["token", "authorization"];

/// The gateway's mark: it asks over a connection of the server's own, whose certificate says
/// nothing of the caller.
const GATEWAY: &str = "grpcgateway-accept";

/// Who makes the call that came in as an HTTP request.
pub(crate) fn of_call(headers: &HeaderMap, extensions: &Extensions) -> Who {
    let token = TOKEN.into_iter().find_map(|name| headers.get(name));
    let token = token.map(|value| String::from_utf8_lossy(value.as_bytes()));
    let token = token.map(|text| text.strip_prefix("Bearer ").unwrap_or(&text).to_owned());
    let by_gateway = headers.contains_key(GATEWAY);
    let name = extensions.get::<CommonName>().filter(|_| !by_gateway);
    Who { token, common_name: name.map(|CommonName(name)| Arc::clone(name)) }
}

/// The same, of a request as a service has it.
pub(crate) fn of<T>(request: &tonic::Request<T>) -> Who {
    of_call(request.metadata().as_ref(), request.extensions())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[(&'static str, &str)], token: Option<&str>, name: Option<&str>) {
        let headers = headers
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()));
        let mut extensions = Extensions::new();
        extensions.insert(CommonName("client".into()));
        let who = of_call(&headers.collect(), &extensions);
        let expected =
            Who { token: token.map(str::to_owned), common_name: name.map(|name| name.into()) };
        assert_eq!(who, expected);
    }

    #[test]
    fn a_token_stands_in_the_metadata_and_a_name_in_the_certificate() {
        check(&[], None, Some("client"));
        check(&[("token", "abc.7")], Some("abc.7"), Some("client"));
        check(&[("authorization", "abc.7")], Some("abc.7"), Some("client"));
        check(&[("authorization", "Bearer abc.7")], Some("abc.7"), Some("client"));
        check(&[("authorization", "x"), ("token", "abc.7")], Some("abc.7"), Some("client"));
        check(&[("token", "")], Some(""), Some("client"));
        check(&[("grpcgateway-accept", "*/*")], None, None);
    }
}
