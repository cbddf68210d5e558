//! What must be recognised, and what must not be.

use axum::http::Request;

use super::*;

fn parts(method: Method, peer: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri("/");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut parts = request.body(()).unwrap().into_parts().0;
    parts.extensions.insert(Peer(peer.parse().unwrap()));
    parts
}

fn get(headers: &[(&str, &str)]) -> Parts {
    parts(Method::GET, "192.0.2.1", headers)
}

#[test]
fn a_header_speaks_alone_and_must_be_one() {
    let cookie = ("cookie", "__Host-hoist-session=c");
    assert_eq!(read(&get(&[])), Credentials::None);
    assert_eq!(read(&get(&[cookie])), Credentials::Cookie("c"));
    assert_eq!(read(&get(&[cookie, ("authorization", "Bearer t")])), Credentials::Bearer("t"));
    for bad in [
        &[("authorization", "Basic x"), cookie][..],
        &[("authorization", ""), cookie],
        &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
        &[cookie, ("cookie", "x=y; __Host-hoist-session=d")],
        &[("cookie", "__Host-hoist-session=c; __Host-hoist-session=c")],
    ] {
        assert!(matches!(read(&get(bad)), Credentials::Unclear(_)), "{bad:?}");
    }
}

#[test]
fn the_plain_cookie_counts_on_this_machine_only() {
    let both = ("cookie", "hoist-session=plain; __Host-hoist-session=secure");
    let here = ("host", "127.0.0.1:8080");
    assert_eq!(read(&parts(Method::GET, "127.0.0.1", &[both, here])), Credentials::Cookie("plain"));
    assert_eq!(
        read(&parts(Method::GET, "::1", &[both, ("host", "[::1]:8080")])),
        Credentials::Cookie("plain")
    );
    for (peer, headers) in [
        ("192.0.2.1", &[both, here][..]),
        ("127.0.0.1", &[both, ("host", "hoist.example")]),
        ("127.0.0.1", &[both]),
        ("127.0.0.1", &[both, here, ("x-forwarded-for", "192.0.2.1")]),
        ("127.0.0.1", &[both, here, ("forwarded", "proto=https")]),
    ] {
        let parts = parts(Method::GET, peer, headers);
        assert_eq!(read(&parts), Credentials::Cookie("secure"), "{peer} {headers:?}");
        let cookie = Place::of(&parts).cookie("v", 9).unwrap();
        let text = cookie.to_str().unwrap();
        assert!(text.starts_with("__Host-hoist-session=v; Path=/;") && text.ends_with("; Secure"), "{text}");
        assert!(text.contains("HttpOnly; SameSite=Strict") && !text.contains("Domain"), "{text}");
    }
}

#[test]
fn a_token_in_a_url_is_seen_under_any_name() {
    let token = format!("eyJhbGciOiJIUzI1NiJ9.{}.{}", "x".repeat(40), "y".repeat(43));
    let urls = [
        String::from("/?token=x"),
        String::from("/downloads?limit=1&ACCESS_TOKEN=x"),
        String::from("/?%74oken=x"),
        format!("/downloads?cursor={token}"),
        format!("/downloads?{token}"),
        format!("/downloads?q=Bearer%20{token}"),
        format!("/status/{token}"),
    ];
    for url in &urls {
        assert!(in_url(&url.parse().unwrap()), "{url}");
    }
    for url in ["/", "/clients?prefix=token", "/clients?label=token=x", "/status/eyJ.a.b", "/?limit=token"] {
        assert!(!in_url(&url.parse().unwrap()), "{url}");
    }
}

#[test]
fn only_the_servers_own_page_may_change_something_with_a_cookie() {
    let csrf = csrf("cookie");
    let (host, proof) = (("host", "hoist.example"), (CSRF_HEADER, csrf.as_str()));
    let origin = ("origin", "https://hoist.example");
    let same = ("sec-fetch-site", "same-origin");
    let may =
        |headers: &[(&str, &str)]| cross_site(&parts(Method::POST, "192.0.2.1", headers), &csrf).is_none();
    assert!(may(&[host, proof, origin]) && may(&[host, proof, same]) && may(&[host, proof, origin, same]));
    let longer = format!("{csrf}0");
    for bad in [
        &[host, proof][..],
        &[host, origin, same],
        &[host, origin, (CSRF_HEADER, "")],
        &[host, origin, (CSRF_HEADER, &csrf[1..])],
        &[host, origin, (CSRF_HEADER, &longer)],
        &[host, origin, proof, proof],
        &[host, proof, ("origin", "http://hoist.example")],
        &[host, proof, ("origin", "https://hoist.example:8443")],
        &[host, proof, ("origin", "https://hoist.example.evil")],
        &[host, proof, ("origin", "https://evil.example"), same],
        &[host, proof, ("origin", "null")],
        &[host, proof, origin, ("sec-fetch-site", "cross-site")],
        &[host, proof, origin, ("sec-fetch-site", "same-site")],
        &[host, proof, origin, ("sec-fetch-site", "none")],
        &[host, proof, origin, ("origin", "https://hoist.example")],
        &[proof, origin],
        &[host, ("host", "evil.example"), proof, origin],
    ] {
        assert!(!may(bad), "{bad:?}");
    }
    let looks = |site| cross_site(&get(&[host, ("sec-fetch-site", site)]), &csrf).is_none();
    assert!(looks("none") && looks("same-origin") && !looks("cross-site") && !looks("same-site"));
    assert!(cross_site(&get(&[host]), &csrf).is_none(), "looking needs no proof");
}
