//! The guard of trial mode: without tokens, only what comes from this machine on purpose may in.
//!
//! A page in the operator's browser can send requests to loopback. What gives it away is a foreign `Host` (a name that
//! was pointed at 127.0.0.1), its `Origin`, `Sec-Fetch-Site`, or a body of a type that a form can send.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hoist_wire::ErrorCode;

use super::{Pages, Problem, doors};

/// Refuses what a trial must not answer; lets everything through outside of one.
pub(super) async fn guard(State(pages): State<Arc<Pages>>, request: Request, next: Next) -> Response {
    if let Some(port) = pages.trial_port
        && let Err(problem) = check(request.method(), request.uri().host(), request.headers(), port)
    {
        return problem.into_response();
    }
    next.run(request).await
}

fn check(method: &Method, uri_host: Option<&str>, headers: &HeaderMap, port: u16) -> Result<(), Problem> {
    let refuse = |detail: String| Err(Problem::new(ErrorCode::CrossSite, detail));
    for name in ["host", "origin", "sec-fetch-site"] {
        if headers.get_all(name).iter().nth(1).is_some() {
            return refuse(format!("a trial takes no requests with two headers {name}"));
        }
    }
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text("host").unwrap_or_default();
    if uri_host.is_some() || !is_own_host(host, port) {
        return refuse(format!(
            "a trial answers to localhost, 127.0.0.1 and [::1] on port {port}, not to Host {host:?}"
        ));
    }
    if let Some(origin) = text("origin")
        && !origin.strip_prefix("http://").is_some_and(|host| is_own_host(host, port))
    {
        return refuse(format!("a trial takes no requests of pages from {origin:?}"));
    }
    // A page on another port of this machine is of the same site: it may lead here, and change nothing.
    let leads = matches!(*method, Method::GET | Method::HEAD);
    let known = |site: &str| matches!(site, "none" | "same-origin") || (site == "same-site" && leads);
    if text("sec-fetch-site").is_some_and(|site| !known(site)) {
        return refuse(String::from("a trial takes no requests of other sites' pages"));
    }
    let has_body = headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0")
        || headers.contains_key(header::TRANSFER_ENCODING);
    if method == Method::POST && has_body && !doors::is_json(headers) {
        return refuse(String::from("a trial takes JSON bodies only: send `Content-Type: application/json`"));
    }
    Ok(())
}

fn is_own_host(host: &str, port: u16) -> bool {
    let (name, own_port) = match host.rsplit_once(':') {
        Some((name, text)) if !text.ends_with(']') => (name, text == port.to_string()),
        Some(_) | None => (host, port == 80),
    };
    own_port && matches!(name.to_ascii_lowercase().as_str(), "localhost" | "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(method: &Method, headers: &[(&'static str, &str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        check(method, None, &map, 8080).is_ok()
    }

    #[test]
    fn only_this_machine_by_its_own_names() {
        for host in ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST:8080"] {
            assert!(answers(&Method::GET, &[("host", host)]), "{host}");
        }
        for host in [
            "",
            "evil.example:8080",
            "localhost",
            "localhost:80",
            "localhost.evil.example:8080",
            "127.0.0.2:8080",
            "[::1]",
            "127.0.0.1:+8080",
            "127.0.0.1:08080",
            "localhost:8080, localhost:8080",
        ] {
            assert!(!answers(&Method::GET, &[("host", host)]), "{host}");
        }
    }

    #[test]
    fn no_other_site() {
        let host = ("host", "127.0.0.1:8080");
        assert!(answers(&Method::POST, &[host, ("origin", "http://localhost:8080")]));
        for origin in ["null", "http://evil.example", "https://localhost:8080", "http://localhost:9090"] {
            assert!(!answers(&Method::POST, &[host, ("origin", origin)]), "{origin}");
        }
        assert!(!answers(&Method::POST, &[host, ("sec-fetch-site", "cross-site")]));
        for site in ["CROSS-SITE", " cross-site", "none, cross-site", "?"] {
            assert!(!answers(&Method::GET, &[host, ("sec-fetch-site", site)]), "{site}");
        }
        assert!(answers(&Method::POST, &[host, ("sec-fetch-site", "same-origin")]));
        assert!(answers(&Method::GET, &[host, ("sec-fetch-site", "same-site")]));
        for method in [Method::POST, Method::PATCH, Method::DELETE, Method::PUT] {
            assert!(!answers(&method, &[host, ("sec-fetch-site", "same-site")]), "{method}");
        }
    }

    #[test]
    fn no_header_that_could_be_read_in_two_ways() {
        let host = ("host", "127.0.0.1:8080");
        for (name, first, second) in [
            ("host", "127.0.0.1:8080", "evil.example"),
            ("host", "127.0.0.1:8080", "127.0.0.1:8080"),
            ("origin", "http://localhost:8080", "http://evil.example"),
            ("sec-fetch-site", "none", "cross-site"),
        ] {
            let mut headers = vec![(name, first), (name, second)];
            if name != "host" {
                headers.push(host);
            }
            assert!(!answers(&Method::GET, &headers), "{name}: {second}");
        }
    }

    #[test]
    fn no_body_that_a_form_could_send() {
        let host = ("host", "127.0.0.1:8080");
        let length = ("content-length", "9");
        assert!(answers(&Method::POST, &[host]));
        assert!(answers(&Method::POST, &[host, ("content-length", "0")]));
        assert!(answers(&Method::POST, &[host, length, ("content-type", "application/json; charset=utf-8")]));
        for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp"] {
            assert!(!answers(&Method::POST, &[host, length, ("content-type", kind)]), "{kind}");
        }
        assert!(!answers(&Method::POST, &[host, ("transfer-encoding", "chunked")]));
        let [json, text] = ["application/json", "text/plain"].map(|kind| ("content-type", kind));
        assert!(!answers(&Method::POST, &[host, length, json, text]), "two types can be read in two ways");
    }
}
