//! What is said about identities, pinned.

use hoist_wire::identity::{EnrollReply, EnrollRequest, NonceReply, ProofClaims, enrollment_text};
use hoist_wire::rest::{Client, IdentityKind, TokenKind, TokenRequest};
use hoist_wire::{Sealed, Timestamp};

use crate::expected;
use crate::golden::check;

/// The golden files of this module.
pub(crate) const NAMES: [&str; 7] = [
    "claims.proof",
    "identity.enroll_reply",
    "identity.enroll_request",
    "identity.nonce_reply",
    "rest.client_key",
    "rest.client_old_secret",
    "rest.token_request_enrolment",
];

const NONCE: &str = "19f6e1a2b3c.00112233445566778899aabbccddeeff.c2lnbmVk";
const SERVER: &str = "9a2f0c4e7b1d4c6f8e3a5b7c9d0e1f2a";

fn noon() -> Timestamp {
    Timestamp(1_795_521_600_000)
}

#[test]
fn what_is_said_about_identities_is_pinned() {
    let proof = ProofClaims {
        sub: "restaurant-1".to_owned(),
        aud: SERVER.to_owned(),
        iat: 1_795_521_600,
        exp: 1_795_521_660,
        jti: "5f0e".to_owned(),
        nonce: NONCE.to_owned(),
    };
    check("claims.proof", &proof);
    check("identity.nonce_reply", &NonceReply { nonce: NONCE.to_owned(), expires_in_secs: 60 });
    let request = EnrollRequest {
        token: Sealed::new("enroll_5ea1ed"),
        public_key: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".to_owned(),
        proof: "c2lnbmVk".to_owned(),
    };
    check("identity.enroll_request", &request);
    let reply = EnrollReply {
        client_id: "restaurant-1".parse().unwrap(),
        server_id: SERVER.to_owned(),
        storage_hosts: vec!["s3.example.com".to_owned()],
        server_time: noon(),
    };
    check("identity.enroll_reply", &reply);
    let asked = TokenRequest {
        kind: TokenKind::Enrolment,
        subject: "restaurant-1".to_owned(),
        scopes: Vec::new(),
        clients: None,
        ttl_secs: Some(86_400),
    };
    check("rest.token_request_enrolment", &asked);
}

#[test]
fn how_a_client_shows_who_it_is_is_pinned() {
    let keyed = Client {
        token_expires_at: None,
        identity: Some(IdentityKind::Key),
        enrolled_at: Some(noon()),
        ..expected::client()
    };
    check("rest.client_key", &keyed);
    let old = Client {
        identity: Some(IdentityKind::Token),
        token_kid: Some("5ea1ed00".to_owned()),
        token_secret_is_old: true,
        revoked_at: Some(noon()),
        ..expected::client()
    };
    check("rest.client_old_secret", &old);
}

#[test]
fn the_text_that_enrols_a_key_is_pinned_and_no_jwt() {
    let text = enrollment_text("0a1b", "11qYAYKx");
    assert_eq!(text, "hoist enrolment\n0a1b\n11qYAYKx\n");
    assert!(!text.contains('.'), "a JWT's signed text is two pieces with a dot between them");
}
