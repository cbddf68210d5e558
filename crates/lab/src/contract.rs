//! What the server's OpenAPI document promises, held against every answer that an operator gets in any test.
//!
//! The document is `docs/openapi.json`; a test of the server checks that it is the one that is served.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use jsonschema::Validator;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// What may be answered whatever was asked, besides what stands at the pages: see `info` of the document.
const ANYWHERE: [&str; 3] = ["cross_site", "body_too_large", "not_ready"];

static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../../docs/openapi.json")).expect("docs/openapi.json is JSON")
});

/// Schemas are compiled once; each test binary has thousands of answers.
static VALIDATORS: Mutex<Option<HashMap<String, Arc<Validator>>>> = Mutex::new(None);

/// An answer, as it came.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The HTTP status.
    pub status: u16,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body.
    pub body: &'a [u8],
}

impl Answer<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn kind(&self) -> Option<&str> {
        self.header("content-type")?.split(';').next().map(str::trim)
    }

    /// Checks that this is an error that has nothing to do with a page, and gives its code.
    fn problem(&self) -> Result<String, String> {
        if self.kind() != Some("application/problem+json") {
            return Err(format!("{:?} is no error as in RFC 9457", self.kind()));
        }
        let schema = json!({ "$ref": "#/components/schemas/Problem" });
        let problem = conforms(&schema, self.body)?;
        let status = problem["status"].as_u64();
        if status != Some(self.status.into()) {
            return Err(format!("the status is {} and the body says {status:?}", self.status));
        }
        Ok(problem["code"].as_str().unwrap_or_default().to_owned())
    }
}

/// Holds an answer against the document.
///
/// # Errors
/// What the document does not promise.
pub fn check(method: &Method, path: &str, answer: Answer<'_>) -> Result<(), String> {
    let Some(page) = page(path) else { return expect(answer, "not_found") };
    let is_head = *method == Method::HEAD;
    let name = if is_head { "get".to_owned() } else { method.as_str().to_ascii_lowercase() };
    let Some(operation) = page.get(&name) else {
        expect(answer, "method_not_allowed")?;
        return if answer.status == 405 { allows(page, answer) } else { Ok(()) };
    };
    let told = &operation["responses"][answer.status.to_string()];
    let told =
        told["$ref"].as_str().map_or(Some(told), |name| DOCUMENT.pointer(name.trim_start_matches('#')));
    let Some(told) = told.filter(|told| told.is_object()) else {
        return Err(format!("the status {} is not documented", answer.status));
    };
    for (header, about) in told["headers"].as_object().into_iter().flatten() {
        if about["required"] == true && answer.header(header).is_none() {
            return Err(format!("the header {header} is missing"));
        }
    }
    body(told, is_head, answer)
}

fn body(told: &Value, is_head: bool, answer: Answer<'_>) -> Result<(), String> {
    if is_head {
        return if answer.body.is_empty() { Ok(()) } else { Err(String::from("HEAD has a body")) };
    }
    let Some(content) = told["content"].as_object() else {
        return if answer.body.is_empty() { Ok(()) } else { Err(String::from("the body is not documented")) };
    };
    let kind = answer.kind().unwrap_or_default();
    let Some(schema) = content.get(kind).map(|content| &content["schema"]) else {
        return Err(format!("the content type {kind:?} is not documented"));
    };
    if kind.ends_with("json") {
        conforms(schema, answer.body)?;
    }
    Ok(())
}

/// Checks an answer that no page gave.
fn expect(answer: Answer<'_>, code: &str) -> Result<(), String> {
    let there = answer.problem()?;
    let fits = there == code || ANYWHERE.contains(&there.as_str());
    if fits { Ok(()) } else { Err(format!("{there:?} instead of {code:?}")) }
}

/// Checks that `Allow` names what the document does (RFC 9110, 15.5.6).
fn allows(page: &Value, answer: Answer<'_>) -> Result<(), String> {
    let known = page.as_object().into_iter().flatten().map(|(name, _)| name.to_ascii_uppercase());
    let mut known: Vec<String> = known.collect();
    if known.iter().any(|name| name == "GET") {
        known.push("HEAD".to_owned());
    }
    known.sort_unstable();
    let mut allowed: Vec<&str> =
        answer.header("allow").unwrap_or_default().split(',').map(str::trim).collect();
    allowed.sort_unstable();
    if known == allowed { Ok(()) } else { Err(format!("Allow: {allowed:?}, and documented are {known:?}")) }
}

/// Gives the page at a path.
fn page(path: &str) -> Option<&'static Value> {
    let parts: Vec<&str> = path.split('/').collect();
    let fits = |template: &str| {
        let template: Vec<&str> = template.split('/').collect();
        let same = |(known, part): (&&str, &&str)| {
            if known.starts_with('{') { !part.is_empty() } else { known == part }
        };
        template.len() == parts.len() && template.iter().zip(&parts).all(same)
    };
    let mut pages = DOCUMENT["paths"].as_object().into_iter().flatten();
    pages.find_map(|(template, page)| fits(template).then_some(page))
}

/// Reads a body, and checks it.
fn conforms(schema: &Value, body: &[u8]) -> Result<Value, String> {
    let value: Value = serde_json::from_slice(body).map_err(|error| format!("no JSON: {error}"))?;
    let wrong = validator(schema)
        .iter_errors(&value)
        .next()
        .map(|error| format!("{error} at {}", error.instance_path()));
    wrong.map_or(Ok(value), Err)
}

fn validator(schema: &Value) -> Arc<Validator> {
    let mut known = VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    let make = || {
        // References lead to the components.
        let whole = json!({ "allOf": [schema], "components": DOCUMENT["components"] });
        let options = jsonschema::options().should_validate_formats(true);
        Arc::new(options.build(&whole).expect("the document's schemas are schemas"))
    };
    Arc::clone(known.entry(schema.to_string()).or_insert_with(make))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(
        method: &Method,
        path: &str,
        status: u16,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> Result<(), String> {
        let headers = headers
            .iter()
            .map(|(name, value)| (reqwest::header::HeaderName::from_static(name), value.parse().unwrap()));
        let headers = headers.collect();
        check(method, path, Answer { status, headers: &headers, body: body.as_bytes() })
    }

    const JSON: (&str, &str) = ("content-type", "application/json");
    const PROBLEM: (&str, &str) = ("content-type", "application/problem+json");

    fn problem(status: u16, code: &str) -> String {
        json!({ "type": "about:blank", "title": "x", "status": status, "detail": "x", "code": code })
            .to_string()
    }

    #[test]
    fn an_answer_as_documented_passes() {
        let get = Method::GET;
        let page = r#"{"downloads": [], "next": null}"#;
        assert_eq!(told(&get, "/downloads", 200, &[JSON], page), Ok(()));
        assert_eq!(told(&Method::HEAD, "/downloads", 200, &[JSON], ""), Ok(()));
        assert_eq!(told(&get, "/downloads/x", 404, &[PROBLEM], &problem(404, "unknown_download")), Ok(()));
        assert_eq!(told(&get, "/no/page", 404, &[PROBLEM], &problem(404, "not_found")), Ok(()));
        let challenge = ("www-authenticate", "Bearer");
        assert_eq!(
            told(&get, "/downloads", 401, &[PROBLEM, challenge], &problem(401, "unauthorized")),
            Ok(())
        );
        let allow = ("allow", "GET,HEAD");
        assert_eq!(
            told(&Method::PUT, "/downloads", 405, &[PROBLEM, allow], &problem(405, "method_not_allowed")),
            Ok(())
        );
    }

    #[test]
    fn an_answer_that_is_not_documented_fails() {
        let get = Method::GET;
        let page = r#"{"downloads": [], "next": null}"#;
        for (status, headers, body) in [
            // Another status, type, shape, field type, or no JSON at all.
            (201, &[JSON][..], page),
            (500, &[PROBLEM], &problem(500, "internal")),
            (200, &[PROBLEM], page),
            (200, &[], page),
            (200, &[JSON], r#"{"downloads": []}"#),
            (200, &[JSON], r#"{"downloads": [{"id": 7}], "next": null}"#),
            (200, &[JSON], "[]"),
            (200, &[JSON], "<html>"),
            // A code of another page or status, and a header that is missing.
            (400, &[PROBLEM], &problem(400, "invalid_path")),
            (400, &[PROBLEM], &problem(404, "invalid_request")),
            (401, &[PROBLEM], &problem(401, "unauthorized")),
            (503, &[PROBLEM], &problem(503, "store_unavailable")),
        ] {
            assert!(told(&get, "/downloads", status, headers, body).is_err(), "{status} {body}");
        }
        let wrong = problem(405, "method_not_allowed");
        assert!(told(&Method::PUT, "/downloads", 405, &[PROBLEM], &wrong).is_err());
        assert!(told(&Method::PUT, "/downloads", 405, &[PROBLEM, ("allow", "GET, PUT")], &wrong).is_err());
        assert!(told(&Method::HEAD, "/downloads", 200, &[JSON], page).is_err());
        assert!(told(&get, "/no/page", 404, &[PROBLEM], &problem(404, "unknown_client")).is_err());
        assert!(told(&get, "/no/page", 404, &[], "not found").is_err());
        let moved = told(&get, "/downloads/x/file", 307, &[], "");
        assert!(moved.is_err_and(|error| error.contains("Location")));
    }
}
