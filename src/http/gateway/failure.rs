//! What went wrong, as a client of the JSON gateway is told.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tonic::{Code, Status};

/// A status of a call, or of what never became one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Failure {
    #[serde(serialize_with = "number")]
    code: Code,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
}

fn number<S: serde::Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i32((*code).into())
}

impl Failure {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into() }
    }

    /// The page that is all of the answer.
    pub(super) fn page(&self) -> Response {
        let mut response = (self.status(), json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.code == Code::Unauthenticated
            && let Ok(message) = HeaderValue::from_str(&self.message)
        {
            headers.insert(header::WWW_AUTHENTICATE, message);
        }
        response
    }

    /// The last line of a stream.
    pub(super) fn line(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Line<'a> {
            error: &'a Failure,
        }
        let mut line = json(&Line { error: self });
        line.push(b'\n');
        line
    }

    /// As grpc-gateway translates the codes of gRPC.
    pub(super) fn status(&self) -> StatusCode {
        match self.code {
            Code::Ok => StatusCode::OK,
            // nginx's, for a client that has gone.
            Code::Cancelled => StatusCode::from_u16(499).expect("it is in range"),
            Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
                StatusCode::BAD_REQUEST
            }
            Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        Failure::new(status.code(), status.message())
    }
}

fn json(of: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(of).expect("a number and a text become JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_the_http_status_of_grpc_gateway() {
        let expected =
            [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];
        for (code, status) in (0..).zip(expected) {
            let failure = Failure::new(Code::from_i32(code), "");
            assert_eq!(failure.status().as_u16(), status, "{code}");
        }
    }

    #[tokio::test]
    async fn a_failure_is_a_code_and_a_message() {
        let failure = Failure::new(Code::Unauthenticated, "etcdserver: invalid auth token");
        let page = failure.page();
        assert_eq!(page.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(page.headers()["www-authenticate"], "etcdserver: invalid auth token");
        assert_eq!(page.headers()["content-type"], "application/json");
        let json = r#"{"code":16,"message":"etcdserver: invalid auth token"}"#;
        let body = axum::body::to_bytes(page.into_body(), usize::MAX).await.unwrap();
        assert_eq!(body, json);
        assert_eq!(failure.line(), format!("{{\"error\":{json}}}\n").into_bytes());
        assert_eq!(Failure::new(Code::Unknown, "").line(), b"{\"error\":{\"code\":2}}\n");
    }
}
