//! What fuzz targets ask of the agent's inside: how it reads a token, and how it reads a grant.
//!
//! Only with the feature `simulation`. Deliberately absent: rules. Each function calls the one that the agent uses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hoist_wire::ClientId;
use hoist_wire::to_agent::Grant;
use secrecy::SecretString;

use crate::AddressPolicy;
use crate::config;
use crate::upload::address::check_grant;

/// What an agent makes of a grant that it takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The connection is TLS.
    pub tls: bool,
    /// The host that is resolved.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What stands in the request's first line.
    pub target: String,
    /// What is sent before the bytes.
    pub headers: BTreeMap<String, Vec<u8>>,
    /// It may go to the address that was asked about, under the strictest policy.
    pub may_go: bool,
}

/// Reads whose token it is, as the agent does at its start.
pub fn client_of(token: &str) -> Option<ClientId> {
    config::client_of(&SecretString::from(token)).ok()
}

/// Reads a grant for a part of `len` bytes, whose host resolves to `ip`; none when the agent refuses it.
pub fn taken(grant: &Grant, len: u64, ip: IpAddr) -> Option<Taken> {
    let checked = check_grant(grant, len).ok()?;
    let named = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.as_str().to_owned(), value.as_bytes().to_vec())
    };
    Some(Taken {
        may_go: AddressPolicy::default().check(&checked.endpoint, ip).is_ok(),
        tls: checked.endpoint.tls,
        port: checked.endpoint.port,
        target: checked.target.to_string(),
        headers: checked.headers.iter().map(named).collect(),
        host: checked.endpoint.host,
    })
}
