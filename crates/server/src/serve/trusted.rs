//! Which proxies are ours: only what they say of where a request comes from is believed.
//!
//! Deliberately absent: `Forwarded` (RFC 7239). One header is enough, and two could say two things.

use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use axum::http::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// Most addresses of one header that are looked at.
const MAX_HOPS: usize = 16;

/// Addresses of proxies whose `X-Forwarded-For` is believed.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl FromStr for TrustedProxies {
    type Err = String;

    /// Reads addresses and networks, separated by commas or blanks.
    fn from_str(text: &str) -> Result<Self, String> {
        let piece = |piece: &str| {
            let net = piece.parse::<IpNet>().or_else(|_| piece.parse::<IpAddr>().map(IpNet::from));
            net.map_err(|_| {
                format!("{piece:?} is no address and no network: write such as 10.0.0.7 or 10.0.0.0/8, separated by commas")
            })
        };
        let pieces = text.split([',', ' ']).filter(|text| !text.is_empty());
        pieces.map(piece).collect::<Result<Vec<_>, _>>().map(|nets| Self(nets.into()))
    }
}

impl TrustedProxies {
    /// Tells whether an address is a proxy of ours.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }

    /// Gives where a request comes from: the last hop that is no proxy of ours. What a stranger writes into the header
    /// stands before that, and says nothing.
    pub(super) fn peer(&self, address: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut peer = address.to_canonical();
        if self.0.is_empty() {
            return peer;
        }
        let lines = headers.get_all(FORWARDED_FOR).into_iter().rev();
        let hops = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
        for hop in hops.take(MAX_HOPS) {
            if !self.contains(peer) {
                return peer;
            }
            match read_hop(hop.trim()) {
                Some(address) => peer = address,
                // A proxy of ours wrote what nobody can read: it speaks for itself.
                None => return peer,
            }
        }
        peer
    }
}

/// Reads an address, with or without a port.
fn read_hop(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<IpAddr>().ok();
    address
        .or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|it| it.ip()))
        .map(|it| it.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(trusted: &str, from: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED_FOR, line.parse().unwrap());
        }
        let trusted: TrustedProxies = trusted.parse().unwrap();
        trusted.peer(from.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn a_stranger_cannot_say_where_it_comes_from() {
        assert_eq!(peer("", "203.0.113.7", &["10.0.0.1"]), "203.0.113.7");
        assert_eq!(peer("10.0.0.0/8", "203.0.113.7", &["10.0.0.1"]), "203.0.113.7");
        // What came to our proxy with the header: the proxy adds whom it saw, behind it.
        assert_eq!(peer("10.0.0.0/8", "10.0.0.2", &["1.1.1.1, 203.0.113.7"]), "203.0.113.7");
        assert_eq!(peer("10.0.0.0/8", "10.0.0.2", &["1.1.1.1", "203.0.113.7"]), "203.0.113.7");
        assert_eq!(peer("10.0.0.0/8", "10.0.0.2", &["10.9.9.9, 203.0.113.7, 10.0.0.3"]), "203.0.113.7");
    }

    #[test]
    fn what_cannot_be_read_leaves_the_proxy() {
        for line in ["", "unknown", "a b", "203.0.113.7, x", "999.1.1.1"] {
            assert_eq!(peer("10.0.0.2", "10.0.0.2", &[line]), "10.0.0.2", "{line}");
        }
        assert_eq!(peer("10.0.0.2", "10.0.0.2", &[]), "10.0.0.2");
        let many = vec!["10.0.0.2"; 100].join(",");
        assert_eq!(peer("10.0.0.2", "10.0.0.2", &[&format!("1.1.1.1,{many}")]), "10.0.0.2");
    }

    #[test]
    fn ports_brackets_and_mapped_addresses_are_understood() {
        assert_eq!(peer("10.0.0.2", "::ffff:10.0.0.2", &["203.0.113.7:4711"]), "203.0.113.7");
        assert_eq!(peer("10.0.0.2", "10.0.0.2", &["[2001:db8::1]:443"]), "2001:db8::1");
        assert_eq!(peer("10.0.0.2", "10.0.0.2", &["[2001:db8::1]"]), "2001:db8::1");
        assert_eq!(peer("2001:db8::/32", "2001:db8::9", &["::ffff:1.2.3.4"]), "1.2.3.4");
    }

    #[test]
    fn a_bad_list_names_its_piece() {
        for bad in ["10.0.0.0/33", "proxy.example", "10.0.0.1;10.0.0.2"] {
            let error = TrustedProxies::from_str(&format!("10.0.0.9, {bad}")).unwrap_err();
            assert!(error.contains(bad), "{error}");
        }
    }
}
