//! Who is at the other end of a connection, as an address: for the audit trail and for limits, never for trust.

use std::net::IpAddr;

/// The address that a request comes from. An extension of every request that `serve` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer(pub IpAddr);

/// Whether the other end has shown a certificate of the authority that the server asks agents for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Certified(pub bool);
