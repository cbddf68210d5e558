//! The storage hosts that bytes may be sent to. Pure; whether the address behind a name may be dialled is asked besides
//! (`upload::address`).

/// Hosts, exact or by suffix. None named at all means that this list forbids nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hosts {
    rules: Option<Vec<Rule>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    text: String,
    host: Host,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Exact(String),
    /// With its dot before it.
    Below(String),
}

impl Hosts {
    /// Reads a list; an empty one allows no host.
    pub(crate) fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, (String, &'static str)> {
        let rules = texts.into_iter().map(|text| Rule::parse(text).map_err(|why| (text.to_owned(), why)));
        Ok(Self { rules: Some(rules.collect::<Result<_, _>>()?) })
    }

    /// Tells whether hosts are named at all, be it none of them.
    pub(crate) fn are_named(&self) -> bool {
        self.rules.is_some()
    }

    /// Tells whether bytes may be sent to `host`, which is in small letters and without brackets.
    pub(crate) fn allows(&self, host: &str, port: u16) -> bool {
        let Some(rules) = &self.rules else { return true };
        let host = host.strip_suffix('.').unwrap_or(host);
        rules.iter().any(|rule| {
            rule.port.is_none_or(|only| only == port)
                && match &rule.host {
                    Host::Exact(exact) => host == exact,
                    Host::Below(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
                }
        })
    }

    /// Gives the list as it is written.
    pub(crate) fn describe(&self) -> String {
        let rules = self.rules.iter().flatten().map(|rule| rule.text.as_str());
        rules.collect::<Vec<_>>().join(", ")
    }
}

impl Rule {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let bad = "is no host: write bucket.example.com, *.example.com or storage.example.com:9000, without scheme and path";
        let lower = text.trim().to_ascii_lowercase();
        let (name, port) = split(&lower).ok_or(bad)?;
        let port = match port {
            None => None,
            Some(port) => Some(port.parse().ok().filter(|port| *port > 0).ok_or(bad)?),
        };
        let (is_suffix, plain) = match name.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, name),
        };
        let plain = plain.strip_suffix('.').unwrap_or(plain);
        let is_address = plain.parse::<std::net::Ipv6Addr>().is_ok();
        let is_name = plain.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        });
        if !(is_name || is_address && !is_suffix) {
            return Err(bad);
        }
        let host = if is_suffix { Host::Below(format!(".{plain}")) } else { Host::Exact(plain.to_owned()) };
        Ok(Self { text: text.to_owned(), host, port })
    }
}

/// Splits off the port; an IPv6 address stands in brackets where it has one.
fn split(text: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        return match rest {
            "" => Some((address, None)),
            rest => Some((address, Some(rest.strip_prefix(':')?))),
        };
    }
    match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Some((text, None)),
        Some((host, port)) => Some((host, Some(port))),
        None => Some((text, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_exact_or_below_a_suffix_with_a_port_or_without() {
        let texts = ["Bucket.Example.com", "*.s3.example", "10.0.0.7:9000", "[::1]:80", "fd00::1"];
        let hosts = Hosts::of(texts).unwrap();
        for (host, port) in [
            ("bucket.example.com", 443),
            ("bucket.example.com.", 1),
            ("a.s3.example", 443),
            ("a.b.s3.example", 443),
            ("10.0.0.7", 9000),
            ("::1", 80),
            ("fd00::1", 443),
        ] {
            assert!(hosts.allows(host, port), "{host}:{port}");
        }
        for (host, port) in [
            ("example.com", 443),
            ("bucket.example.com.evil.example", 443),
            ("xbucket.example.com", 443),
            ("s3.example", 443),
            (".s3.example", 443),
            ("as3.example", 443),
            ("10.0.0.7", 443),
            ("::1", 443),
            ("", 443),
        ] {
            assert!(!hosts.allows(host, port), "{host}:{port}");
        }
        assert!(Hosts::default().allows("anything", 1));
        assert!(!Hosts::of([]).unwrap().allows("anything", 1), "an empty list is a list");
    }

    #[test]
    fn what_is_no_host_is_said() {
        for bad in [
            "",
            "*",
            "*.",
            "a*b.example",
            "https://h",
            "h/x",
            "h:0",
            "h:x",
            "h:70000",
            "u@h",
            "a..b",
            "*.::1",
            "[::1",
        ] {
            assert!(Hosts::of([bad]).is_err(), "{bad:?}");
        }
    }
}
