//! The time that a request may take, its body included: who sends it byte by byte keeps no place for ever.
//!
//! Deliberately absent: the time for a request's head (`serve`), and links, which live long.

use std::time::Duration;

use axum::extract::Request;
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hoist_wire::ErrorCode;
use tokio::time::timeout;

use super::Problem;

/// Longest time from a request's head to its answer: longer than a store that is busy is waited for (30 s).
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// Answers a request in time, or says that it took too long.
pub(super) async fn bounded(request: Request, next: Next) -> Response {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    match timeout(ANSWER_WITHIN, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let secs = ANSWER_WITHIN.as_secs();
            // What was begun is carried through, also when nobody waits any more.
            let mend = if changes { "look whether it was done, and try again" } else { "try again" };
            let detail =
                format!("no answer within {secs} s: the body came too slowly, or the server is busy; {mend}");
            Problem::new(ErrorCode::NotReady, detail).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::Router;
    use axum::body::{Body, Bytes};
    use axum::http::StatusCode;
    use axum::middleware::from_fn;
    use axum::routing::post;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_not_waited_for() {
        let page = post(async |_: Bytes| "read").layer(from_fn(bounded));
        let router = Router::new().route("/", page);
        let never = futures_util::stream::pending::<Result<Bytes, Infallible>>();
        for (body, status) in
            [(Body::from("x"), StatusCode::OK), (Body::from_stream(never), StatusCode::SERVICE_UNAVAILABLE)]
        {
            let request = Request::post("/").body(body).unwrap();
            assert_eq!(router.clone().oneshot(request).await.unwrap().status(), status);
        }
    }
}
