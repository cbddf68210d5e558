//! What a request shows of whoever sends it: a token in its header, a session's cookie, or a token where none belongs.
//!
//! Deliberately absent: whether any of it is good (`admission`).

use std::net::IpAddr;

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use hoist_wire::operators::CSRF_HEADER;
use sha2::{Digest, Sha256};
use url::form_urlencoded;

use super::peer::Peer;

/// Names under which programs put a token into a query.
const TOKEN_NAMES: [&str; 11] = [
    "token",
    "access_token",
    "auth_token",
    "operator_token",
    "client_token",
    "id_token",
    "jwt",
    "bearer",
    "authorization",
    "hoist-session",
    "__host-hoist-session",
];

/// Least bytes of what is taken for a token by its looks: none that is signed is shorter.
const MIN_TOKEN_BYTES: usize = 60;

/// What a request shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Credentials<'r> {
    /// Nothing.
    None,
    /// A token.
    Bearer(&'r str),
    /// The value of a session's cookie.
    Cookie(&'r str),
    /// Something that can be read in two ways, or in none.
    Unclear(&'static str),
}

/// Reads what a request shows. A header speaks alone, whatever cookies come with it: browsers add those by themselves.
pub(super) fn read(parts: &Parts) -> Credentials<'_> {
    let headers = &parts.headers;
    if headers.contains_key(header::AUTHORIZATION) {
        return match bearer(headers) {
            Some(token) => Credentials::Bearer(token),
            None => {
                Credentials::Unclear("it needs one header `Authorization: Bearer TOKEN`, and no second one")
            }
        };
    }
    let name = Place::of(parts).name();
    let mut values = cookies(headers).filter(|(there, _)| *there == name).map(|(_, value)| value);
    match (values.next(), values.next()) {
        (None, _) => Credentials::None,
        (Some(value), None) => Credentials::Cookie(value),
        (Some(_), Some(_)) => Credentials::Unclear("two cookies of a session came with it: log in again"),
    }
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let values = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='))
}

/// Gives the token of the one `Authorization: Bearer` header; none where there are two of them.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).into_iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// What a one-time token begins with, by which people and log filters know it. 64 hexadecimal digits follow.
pub(super) const ONE_TIME_PREFIX: &str = "enroll_";

/// Tells whether a token stands in a URL, where logs and histories keep it.
pub(super) fn in_url(uri: &Uri) -> bool {
    let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
    let in_query = pairs.into_iter().any(|(name, value)| {
        TOKEN_NAMES.iter().any(|known| name.eq_ignore_ascii_case(known))
            || looks_so(&value)
            || looks_so(&name)
    });
    in_query || uri.path().split('/').any(looks_so)
}

/// Tells whether a text looks like a signed token: `{"` in base64, and two dots; or like a one-time token.
fn looks_so(text: &str) -> bool {
    let text = text.strip_prefix("Bearer ").unwrap_or(text);
    let one_time = text
        .strip_prefix(ONE_TIME_PREFIX)
        .is_some_and(|rest| rest.len() == 64 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
    one_time || text.len() >= MIN_TOKEN_BYTES && text.starts_with("eyJ") && text.matches('.').count() >= 2
}

/// Where a session's cookie is at home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Plain HTTP on this machine alone.
    Loopback,
    /// Anywhere else: over TLS, or a browser neither keeps nor sends it.
    Secure,
}

impl Place {
    /// Tells where a request comes from. A proxy on this machine is not this machine.
    pub(super) fn of(parts: &Parts) -> Self {
        let headers = &parts.headers;
        let near = parts.extensions.get::<Peer>().is_some_and(|Peer(address)| is_loopback(*address));
        let forwarded =
            ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "via"];
        let own_name =
            host(headers).is_some_and(|host| matches!(name_of(host), "localhost" | "127.0.0.1" | "[::1]"));
        if near && own_name && !forwarded.iter().any(|name| headers.contains_key(*name)) {
            Self::Loopback
        } else {
            Self::Secure
        }
    }

    /// Gives the cookie's name. No other site can set one that begins with `__Host-` (RFC 6265bis, 4.1.3.2).
    fn name(self) -> &'static str {
        match self {
            Self::Loopback => "hoist-session",
            Self::Secure => "__Host-hoist-session",
        }
    }

    /// Writes the cookie; an empty value removes it.
    pub(super) fn cookie(self, value: &str, lives_secs: u64) -> Option<HeaderValue> {
        let secure = match self {
            Self::Loopback => "",
            Self::Secure => "; Secure",
        };
        let name = self.name();
        let text = format!("{name}={value}; Path=/; Max-Age={lives_secs}; HttpOnly; SameSite=Strict{secure}");
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn host(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::HOST).into_iter();
    let (Some(host), None) = (values.next(), values.next()) else { return None };
    host.to_str().ok()
}

/// Gives a host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        Some(_) | None => host,
    }
}

/// Gives SHA-256 in hexadecimal of what a cookie says: all that is kept of it.
pub(super) fn cookie_sha256(value: &str) -> String {
    hex(&Sha256::digest(value.as_bytes()))
}

/// Gives what `Hoist-CSRF` must say: bound to the session, and of no use without its cookie.
pub(super) fn csrf(value: &str) -> String {
    hex(&Sha256::new().chain_update("hoist-csrf ").chain_update(value).finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Tells why a request that a cookie speaks for may not come from the operator's own page; none where it does.
pub(super) fn cross_site(parts: &Parts, csrf: &str) -> Option<&'static str> {
    let one = |name: &HeaderName| {
        let mut values = parts.headers.get_all(name).into_iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => value.to_str().map(Some).map_err(drop),
            (Some(_), Some(_)) => Err(()),
        }
    };
    let safe = matches!(parts.method, Method::GET | Method::HEAD);
    let own_origin = |origin: &str| {
        let (Some(host), Some((scheme, rest))) = (host(&parts.headers), origin.split_once("://")) else {
            return false;
        };
        let encrypted = scheme == "https" || (scheme == "http" && Place::of(parts) == Place::Loopback);
        encrypted && rest.eq_ignore_ascii_case(host)
    };
    let site = one(&HeaderName::from_static("sec-fetch-site"));
    let origin = one(&header::ORIGIN);
    match (site, origin) {
        (Err(()), _) | (_, Err(())) => return Some("it has a header Origin or Sec-Fetch-Site twice"),
        (Ok(Some(site)), _) if site != "same-origin" && !(safe && site == "none") => {
            return Some("it comes from another site's page");
        }
        (_, Ok(Some(origin))) if !own_origin(origin) => return Some("it comes from another site's page"),
        (Ok(None), Ok(None)) if !safe => {
            return Some("it says neither Origin nor Sec-Fetch-Site: send a token instead of a cookie");
        }
        (Ok(_), Ok(_)) => {}
    }
    let said = one(&HeaderName::from_static(CSRF_HEADER)).ok().flatten().unwrap_or_default();
    let proven = safe || is_same(said, csrf);
    (!proven).then_some("its header Hoist-CSRF is not what GET /session says")
}

/// Compares secrets in a time that does not depend on where they differ.
fn is_same(one: &str, two: &str) -> bool {
    let differs = one.bytes().zip(two.bytes()).fold(0, |differs, (a, b)| differs | (a ^ b));
    one.len() == two.len() && std::hint::black_box(differs) == 0
}

#[cfg(test)]
mod tests;
