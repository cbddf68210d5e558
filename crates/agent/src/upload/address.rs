//! Where bytes may be sent, and with which headers: the site's policy for what a grant names.
//!
//! Deliberately absent: resolving and connecting (`dial`), which asks here about every address that it found.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hoist_wire::to_agent::Grant;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

/// Where this agent may send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    /// Plain http also to addresses that are not loopback.
    pub allow_plain: bool,
    /// Addresses that are not of the public internet.
    pub allow_private: bool,
    /// The server itself is reached at loopback, so a bucket there is no surprise.
    pub server_is_loopback: bool,
}

/// Why a grant cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Forbidden {
    #[error("the grant's URL is not one that an agent can use: {0}")]
    Url(&'static str),
    #[error("the grant asks for the header {0:?}, which agents do not send")]
    Header(String),
    #[error("the grant's header {0:?} does not fit the part that was hashed")]
    WrongHeader(&'static str),
    #[error(
        "storage at {0} is reached over plain http: use https, or start the agent with --allow-plain-storage"
    )]
    Plain(String),
    #[error(
        "storage at {host} has the private address {ip}: to allow it start the agent with --allow-private-storage"
    )]
    Private { host: String, ip: IpAddr },
    #[error("storage at {host} has the address {ip} ({kind}), to which agents never send")]
    Never { host: String, ip: IpAddr, kind: &'static str },
}

/// The far end of a connection to storage.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// A grant that was found good: what to send where.
#[derive(Debug, Clone)]
pub(crate) struct Checked {
    pub(crate) endpoint: Endpoint,
    /// Path and query: with the signature, so it is never logged.
    pub(crate) target: Uri,
    pub(crate) headers: HeaderMap,
}

/// Every header that a grant may name; all else could make the agent say things that it does not mean.
const ALLOWED_HEADERS: &[&str] = &[
    "content-length",
    "content-md5",
    "content-type",
    "host",
    "x-amz-checksum-algorithm",
    "x-amz-checksum-crc64nvme",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-expected-bucket-owner",
    "x-amz-request-payer",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-security-token",
];

/// Reads a grant for a part of `len` bytes.
///
/// # Errors
/// [`Forbidden`] for a URL or a header that an agent does not use.
pub(crate) fn check_grant(grant: &Grant, len: u64) -> Result<Checked, Forbidden> {
    let uri: Uri = grant.url.open().parse().map_err(|_| Forbidden::Url("it cannot be read"))?;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        Some(_) | None => return Err(Forbidden::Url("it is neither https nor http")),
    };
    let authority = uri.authority().ok_or(Forbidden::Url("it names no host"))?;
    if authority.as_str().contains('@') {
        return Err(Forbidden::Url("it carries a user name"));
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    if host.is_empty() {
        return Err(Forbidden::Url("it names no host"));
    }
    let port = port(authority, tls).ok_or(Forbidden::Url("its port is no number"))?;
    let target = uri.path_and_query().filter(|target| target.as_str().starts_with('/'));
    let target = Uri::from(target.ok_or(Forbidden::Url("it has no path"))?.clone());
    // `https://h#x` leaves a path that counts as `/` and is written as nothing: no first line of a request.
    if !target.to_string().starts_with('/') {
        return Err(Forbidden::Url("it has no path"));
    }

    let mut headers = HeaderMap::with_capacity(grant.headers.len() + 2);
    headers.insert(http::header::HOST, header_value("host", authority.as_str())?);
    headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(len));
    for (name, value) in &grant.headers {
        let lower = name.to_ascii_lowercase();
        if !ALLOWED_HEADERS.contains(&lower.as_str()) {
            return Err(Forbidden::Header(name.chars().take(64).collect()));
        }
        match lower.as_str() {
            // In its one spelling: `07` and `+7` are 7 to a parser, and something else to a proxy on the way.
            "content-length" if *value != len.to_string() => {
                return Err(Forbidden::WrongHeader("content-length"));
            }
            "host" if !value.eq_ignore_ascii_case(authority.as_str()) => {
                return Err(Forbidden::WrongHeader("host"));
            }
            _ => {}
        }
        let parsed =
            HeaderName::from_bytes(lower.as_bytes()).map_err(|_| Forbidden::Header(lower.clone()))?;
        headers.insert(parsed, header_value(name, value)?);
    }
    Ok(Checked { endpoint: Endpoint { tls, host, port }, target, headers })
}

/// Gives the port of a URL, its scheme's own where it names none, and none where it names nonsense.
pub(crate) fn port(authority: &http::uri::Authority, tls: bool) -> Option<u16> {
    match authority.as_str().strip_prefix(authority.host())? {
        "" => Some(if tls { 443 } else { 80 }),
        rest => rest.strip_prefix(':')?.parse().ok(),
    }
}

fn header_value(name: &str, value: &str) -> Result<HeaderValue, Forbidden> {
    HeaderValue::from_str(value).map_err(|_| Forbidden::Header(name.chars().take(64).collect()))
}

impl AddressPolicy {
    /// Tells whether bytes for `endpoint` may be sent to `ip`, to which its name resolved.
    pub(crate) fn check(&self, endpoint: &Endpoint, ip: IpAddr) -> Result<(), Forbidden> {
        let host = || endpoint.host.clone();
        match reach(ip) {
            Reach::Never(kind) => return Err(Forbidden::Never { host: host(), ip, kind }),
            Reach::Loopback if self.server_is_loopback || self.allow_private => return Ok(()),
            Reach::Loopback => return Err(Forbidden::Private { host: host(), ip }),
            Reach::Private if !self.allow_private => return Err(Forbidden::Private { host: host(), ip }),
            Reach::Private | Reach::Public => {}
        }
        if endpoint.tls || self.allow_plain { Ok(()) } else { Err(Forbidden::Plain(host())) }
    }

    /// Tells the same where a proxy will resolve the name, as far as the name itself says it.
    pub(crate) fn check_name(&self, endpoint: &Endpoint) -> Result<(), Forbidden> {
        if let Ok(ip) = endpoint.host.parse() {
            return self.check(endpoint, ip);
        }
        if endpoint.host == "localhost" || endpoint.host.ends_with(".localhost") {
            return self.check(endpoint, IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        if endpoint.tls || self.allow_plain { Ok(()) } else { Err(Forbidden::Plain(endpoint.host.clone())) }
    }
}

/// How far an address reaches.
enum Reach {
    Public,
    Private,
    Loopback,
    Never(&'static str),
}

fn reach(ip: IpAddr) -> Reach {
    match ip.to_canonical() {
        IpAddr::V4(v4) => reach_v4(v4),
        IpAddr::V6(v6) => reach_v6(v6),
    }
}

/// IANA IPv4 Special-Purpose Address Registry, as far as it matters here.
fn reach_v4(ip: Ipv4Addr) -> Reach {
    match ip.octets() {
        [0, ..] => Reach::Never("unspecified"),
        [127, ..] => Reach::Loopback,
        [169, 254, ..] => Reach::Never("link-local"),
        [224..=239, ..] => Reach::Never("multicast"),
        [240..=255, ..] => Reach::Never("reserved"),
        [10, ..] | [192, 168, ..] | [172, 16..=31, ..] | [100, 64..=127, ..] => Reach::Private,
        [192, 0, 0, _] | [198, 18..=19, ..] => Reach::Private,
        _ => Reach::Public,
    }
}

/// IANA IPv6 Special-Purpose Address Registry; where an IPv4 address is inside, that one decides.
fn reach_v6(ip: Ipv6Addr) -> Reach {
    let inner = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        reach_v4(Ipv4Addr::new(a, b, c, d))
    };
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Reach::Never("unspecified"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Loopback,
        // The metadata service of EC2 instances.
        [0xfd00, 0x0ec2, ..] => Reach::Never("cloud metadata"),
        [0, 0, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => inner(high, low),
        [0x64, 0xff9b, 1, ..] => Reach::Private,
        [0x2002, high, low, ..] => inner(high, low),
        [0xff00..=0xffff, ..] => Reach::Never("multicast"),
        [0xfe80..=0xfebf, ..] => Reach::Never("link-local"),
        [0xfec0..=0xfeff, ..] | [0xfc00..=0xfdff, ..] => Reach::Private,
        _ => Reach::Public,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hoist_wire::Sealed;

    fn endpoint(url: &str) -> Endpoint {
        check_grant(&grant(url, &[]), 1).unwrap().endpoint
    }

    fn grant(url: &str, headers: &[(&str, &str)]) -> Grant {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Grant { url: Sealed::new(url), headers, expires_in_secs: 900 }
    }

    const NONE: AddressPolicy =
        AddressPolicy { allow_plain: false, allow_private: false, server_is_loopback: false };

    #[test]
    fn addresses_are_judged_by_how_far_they_reach() {
        let https = endpoint("https://bucket.example/x");
        let public = ["52.216.0.1", "2600:1f18::1", "64:ff9b::34d8:1", "::ffff:52.216.0.1"];
        let private = [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "fd12::1",
            "fec0::1",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:a00:1::1",
            "198.18.0.1",
        ];
        let never = [
            "169.254.169.254",
            "fe80::1",
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "fd00:ec2::254",
            "2002:a9fe:a9fe::1",
            "0.1.2.3",
        ];
        let all = AddressPolicy { allow_plain: true, allow_private: true, server_is_loopback: true };
        for ip in public {
            assert_eq!(NONE.check(&https, ip.parse().unwrap()), Ok(()), "{ip}");
        }
        for ip in private {
            let refused = NONE.check(&https, ip.parse().unwrap());
            assert!(matches!(refused, Err(Forbidden::Private { .. })), "{ip}");
            assert_eq!(all.check(&https, ip.parse().unwrap()), Ok(()), "{ip}");
        }
        for ip in never {
            assert!(matches!(all.check(&https, ip.parse().unwrap()), Err(Forbidden::Never { .. })), "{ip}");
        }
    }

    #[test]
    fn plain_http_goes_to_loopback_only_unless_allowed() {
        let http = endpoint("http://bucket.example/x");
        let far: IpAddr = "52.216.0.1".parse().unwrap();
        assert!(matches!(NONE.check(&http, far), Err(Forbidden::Plain(_))));
        assert_eq!(AddressPolicy { allow_plain: true, ..NONE }.check(&http, far), Ok(()));
        let near: IpAddr = "127.0.0.1".parse().unwrap();
        assert_eq!(AddressPolicy { server_is_loopback: true, ..NONE }.check(&http, near), Ok(()));
        assert!(NONE.check(&http, near).is_err());
        let lan: IpAddr = "10.0.0.1".parse().unwrap();
        assert!(matches!(
            AddressPolicy { allow_private: true, ..NONE }.check(&http, lan),
            Err(Forbidden::Plain(_))
        ));
    }

    #[test]
    fn behind_a_proxy_the_name_is_judged() {
        assert!(NONE.check_name(&endpoint("https://169.254.169.254/x")).is_err());
        assert!(NONE.check_name(&endpoint("https://localhost/x")).is_err());
        assert!(NONE.check_name(&endpoint("https://[::1]:9000/x")).is_err());
        assert_eq!(NONE.check_name(&endpoint("https://bucket.example/x")), Ok(()));
        assert!(NONE.check_name(&endpoint("http://bucket.example/x")).is_err());
    }

    #[test]
    fn a_url_that_is_not_plain_and_simple_is_refused() {
        for bad in [
            "ftp://h/x",
            "/x",
            "",
            "https://user@h/x",
            "https://u:p@h/x",
            "https:///x",
            "https://h:x/",
            "https://h?x",
        ] {
            assert!(check_grant(&grant(bad, &[]), 1).is_err(), "{bad:?}");
        }
        let good = check_grant(&grant("https://B.Example:9000/k?X-Amz-Signature=s", &[]), 7).unwrap();
        assert_eq!(good.endpoint, Endpoint { tls: true, host: "b.example".into(), port: 9000 });
        assert_eq!(good.target, "/k?X-Amz-Signature=s");
        assert_eq!(good.headers["host"], "B.Example:9000");
        assert_eq!(good.headers["content-length"], "7");
    }

    #[test]
    fn headers_come_from_the_list_and_fit_the_part() {
        let with = |name, value| check_grant(&grant("https://h/x", &[(name, value)]), 7);
        assert!(with("X-Amz-Checksum-Crc64nvme", "AAAAAAAAAAA=").is_ok());
        assert!(with("Content-Length", "7").is_ok() && with("host", "h").is_ok());
        assert!(matches!(with("authorization", "Basic x"), Err(Forbidden::Header(_))));
        assert!(matches!(with("transfer-encoding", "chunked"), Err(Forbidden::Header(_))));
        assert!(matches!(with("content-type", "a\r\nb: c"), Err(Forbidden::Header(_))));
        assert_eq!(with("content-length", "8").unwrap_err(), Forbidden::WrongHeader("content-length"));
        assert_eq!(with("host", "other").unwrap_err(), Forbidden::WrongHeader("host"));
    }
}
