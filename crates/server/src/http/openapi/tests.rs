use std::collections::BTreeSet;

use super::*;

const COPY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

/// `HOIST_WRITE_OPENAPI=1 cargo test -p hoist-server openapi` writes the copy anew.
#[test]
fn the_copy_in_the_docs_is_what_the_server_says() {
    let document = document();
    if std::env::var_os("HOIST_WRITE_OPENAPI").is_some_and(|value| value == "1") {
        std::fs::write(COPY, format!("{document:#}\n")).unwrap();
    }
    let copy: Value =
        serde_json::from_str(&std::fs::read_to_string(COPY).unwrap_or_default()).unwrap_or_default();
    assert!(
        copy == document,
        "the interface has changed, and docs/openapi.json has not: write it with \
         `HOIST_WRITE_OPENAPI=1 cargo test --workspace --lib openapi`, and read what changed"
    );
}

#[test]
fn every_page_of_the_table_is_described() {
    let mut schemas = Schemas::default();
    for route in routes() {
        assert!(
            pages::describe(&route, &mut schemas).is_some(),
            "openapi/pages.rs lacks {} {}",
            route.method,
            route.path
        );
    }
}

#[test]
fn no_name_means_two_things() {
    let mut schemas = Schemas::default();
    for route in routes() {
        let _ = operation_of(&route, &mut schemas).document(&mut schemas);
    }
    assert_eq!(schemas.ambiguous(), Vec::<String>::new());
}

/// Gives every reference in a document.
fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn what_is_named_is_there() {
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 20, "{found:?}");
    for reference in found {
        let place = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(place).is_some(), "{reference} leads nowhere");
    }
    let paths = document["paths"].as_object().unwrap().values();
    let pages: Vec<&Value> = paths.flat_map(|path| path.as_object().unwrap().values()).collect();
    let names: BTreeSet<&str> = pages.iter().map(|page| page["operationId"].as_str().unwrap()).collect();
    assert_eq!((names.len(), pages.len()), (routes().len(), routes().len()), "two pages have one name");
    let answers = pages.iter().flat_map(|page| page["responses"].as_object().unwrap().values());
    let links = answers.filter_map(|answer| answer["links"].as_object()).flat_map(|links| links.values());
    let leads_to: Vec<&str> = links.map(|link| link["operationId"].as_str().unwrap()).collect();
    assert!(!leads_to.is_empty() && leads_to.iter().all(|name| names.contains(name)), "{leads_to:?}");
}

#[tokio::test]
async fn who_has_the_document_is_not_sent_it_again() {
    let first = show(HeaderMap::new()).await;
    assert_eq!(first.status(), StatusCode::OK);
    let etag = first.headers()[header::ETAG].clone();
    for (known, status) in [
        (etag.to_str().unwrap().to_owned(), 304),
        (format!("\"x\", W/{}", etag.to_str().unwrap()), 304),
        (String::from("*"), 304),
        (String::from("\"x\""), 200),
    ] {
        let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, known.parse().unwrap())]);
        let answer = show(headers).await;
        assert_eq!(answer.status(), status, "{known}");
        assert_eq!(answer.headers()[header::ETAG], etag);
    }
}
