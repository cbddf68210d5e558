//! Grants, as a stolen server may write them: the agent sends what it means to send, where it may, or nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hoist_agent::exposed::taken;
use hoist_wire::Sealed;
use hoist_wire::to_agent::Grant;

use super::texts;

/// The texts: the address that the host resolves to, URL, a header's name and its value.
pub(super) fn grant(bytes: &[u8]) {
    let Some([ip, url, name, value]) = texts::<4>(bytes) else { return };
    let ip: IpAddr = ip.parse().unwrap_or(IpAddr::from([52, 216, 0, 1]));
    let mut headers = BTreeMap::new();
    if !name.is_empty() {
        headers.insert(name.to_owned(), value.to_owned());
    }
    let grant = Grant { url: Sealed::new(url), headers, expires_in_secs: 60 };
    let Some(taken) = taken(&grant, 7, ip) else { return };
    assert!(!taken.host.is_empty() && taken.host.bytes().all(|b| b.is_ascii_graphic()), "{taken:?}");
    assert!(
        taken.target.starts_with('/') && taken.target.bytes().all(|b| !b.is_ascii_control()),
        "{taken:?}"
    );
    assert_eq!(taken.headers["content-length"], b"7", "another length than the part has: {taken:?}");
    for (name, value) in &taken.headers {
        let right = matches!(name.as_str(), "host" | "content-length" | "content-md5" | "content-type")
            || name.starts_with("x-amz-");
        assert!(right, "the agent would say {name:?}");
        assert!(!value.iter().any(|b| matches!(b, b'\r' | b'\n' | 0)), "a header in a header: {taken:?}");
    }
    if taken.may_go {
        assert!(taken.tls, "plain http leaves the machine: {taken:?}");
        let near = match ip.to_canonical() {
            IpAddr::V4(v4) => {
                v4.is_loopback() || v4.is_private() || v4.is_link_local() || v4.is_unspecified()
            }
            IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified() || v6.segments()[0] & 0xffc0 == 0xfe80,
        };
        assert!(!near, "{ip} is no public address");
    }
}
