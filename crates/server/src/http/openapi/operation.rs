//! One page of the document, put together bit by bit.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use hoist_wire::limits::{MAX_LABELS, MAX_REACH_LABELS};
use hoist_wire::rest::{Problem, Scope};
use hoist_wire::{ClientId, DownloadId, ErrorCode};
use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::super::routes::{Needs, OF_AGENTS, Route};
use super::schemas::Schemas;

/// The content type of errors.
const PROBLEM: &str = "application/problem+json";

/// A page, as far as it is described.
#[derive(Debug)]
pub(super) struct Operation {
    name: String,
    summary: &'static str,
    needs: Needs,
    path: &'static str,
    parameters: Vec<Value>,
    body: Option<Value>,
    answers: BTreeMap<u16, Value>,
    codes: BTreeSet<ErrorCode>,
}

impl Operation {
    /// Begins with what the table says, and what every page of its kind can answer.
    pub(super) fn new(route: &Route) -> Self {
        use ErrorCode::{BodyTooLarge, CrossSite, Forbidden, NotReady, TooManyAttempts, Unauthorized};
        let mut codes = BTreeSet::new();
        match route.needs {
            // Agents come through proxies, also to a trial, and their pages stand apart.
            Needs::Agent => codes.extend([Unauthorized, Forbidden, TooManyAttempts]),
            Needs::OneTimeToken => {
                codes.extend([Unauthorized, Forbidden, TooManyAttempts, BodyTooLarge, NotReady]);
            }
            Needs::Nothing if route.path.starts_with(OF_AGENTS) => {}
            Needs::Nothing => codes.extend([CrossSite, BodyTooLarge, NotReady]),
            Needs::Operator | Needs::Within(_) | Needs::Scope(_) => {
                codes.extend([CrossSite, BodyTooLarge, NotReady, Unauthorized, Forbidden, TooManyAttempts])
            }
        }
        Self {
            name: default_name(&route.method, route.path),
            summary: route.summary,
            needs: route.needs,
            path: route.path,
            parameters: Vec::new(),
            body: None,
            answers: BTreeMap::new(),
            codes,
        }
    }

    /// Names it, for whoever generates a client.
    pub(super) fn named(self, name: &str) -> Self {
        Self { name: name.to_owned(), ..self }
    }

    /// Takes JSON.
    pub(super) fn takes<T: JsonSchema>(self, required: bool, schemas: &mut Schemas) -> Self {
        let schema = schemas.asked::<T>();
        self.takes_as(required, &schema)
    }

    /// Takes the labels of a client.
    pub(super) fn takes_labels(self) -> Self {
        let name = "^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$";
        self.takes_as(
            true,
            &json!({
                "type": "object",
                "maxProperties": MAX_LABELS,
                "propertyNames": { "pattern": name },
                "additionalProperties": { "type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$" },
            }),
        )
    }

    fn takes_as(mut self, required: bool, schema: &Value) -> Self {
        self.body =
            Some(json!({ "required": required, "content": { "application/json": { "schema": schema } } }));
        self.fails(&[ErrorCode::InvalidRequest, ErrorCode::UnsupportedMediaType])
    }

    /// Takes a query.
    pub(super) fn asks<T: JsonSchema>(mut self, schemas: &mut Schemas) -> Self {
        self.parameters.extend(schemas.query::<T>().into_iter().map(|(name, required, mut schema)| {
            let about = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            json!({ "name": name, "in": "query", "required": required, "description": about, "schema": schema })
        }));
        self.fails(&[ErrorCode::InvalidRequest])
    }

    /// Takes labels in the query, each in a parameter of its own.
    pub(super) fn labels(mut self) -> Self {
        self.parameters.push(json!({
            "name": "label", "in": "query", "required": false,
            "description": format!(
                "Only of clients with this label; may be repeated with other names, at most {MAX_REACH_LABELS} times: with all of them."
            ),
            "schema": {
                "type": "string",
                "pattern": "^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?=[A-Za-z0-9._-]{1,64}$",
            },
        }));
        self.fails(&[ErrorCode::InvalidRequest])
    }

    /// Takes a header.
    pub(super) fn header(mut self, name: &str, about: &str, schema: &Value) -> Self {
        self.parameters.push(json!({
            "name": name, "in": "header", "required": false, "description": about, "schema": schema,
        }));
        self
    }

    /// Answers JSON.
    pub(super) fn answers<T: JsonSchema>(self, status: u16, about: &str, schemas: &mut Schemas) -> Self {
        let schema = schemas.told::<T>();
        self.answers_as(status, about, "application/json", &schema)
    }

    /// Answers something.
    pub(super) fn answers_as(mut self, status: u16, about: &str, kind: &str, schema: &Value) -> Self {
        let content = json!({ kind: { "schema": schema } });
        self.answers.insert(status, json!({ "description": about, "content": content }));
        self
    }

    /// Answers no body.
    pub(super) fn answers_bare(mut self, status: u16, about: &str) -> Self {
        self.answers.insert(status, json!({ "description": about }));
        self
    }

    /// The answer of this status has a header.
    pub(super) fn with(mut self, status: u16, header: &str, about: &str) -> Self {
        if let Some(answer) = self.answers.get_mut(&status) {
            answer["headers"][header] = told_header(about, true);
        }
        self
    }

    /// What the answer of this status has, other pages take.
    pub(super) fn leads_to(mut self, status: u16, pages: &[&str], parameter: &str, from: &str) -> Self {
        if let Some(answer) = self.answers.get_mut(&status) {
            for page in pages {
                answer["links"][*page] = json!({ "operationId": page, "parameters": { parameter: from } });
            }
        }
        self
    }

    /// Can fail so.
    pub(super) fn fails(mut self, codes: &[ErrorCode]) -> Self {
        self.codes.extend(codes);
        self
    }

    /// Writes it down.
    pub(super) fn document(mut self, schemas: &mut Schemas) -> Value {
        let in_path = self.in_path(schemas);
        self.parameters.splice(0..0, in_path);
        let mut by_status: BTreeMap<u16, Vec<String>> = BTreeMap::new();
        for code in &self.codes {
            by_status.entry(code.status()).or_default().push(code.as_str());
        }
        for (status, codes) in by_status {
            self.add_problem(status, &codes, schemas);
        }
        let responses: Map<String, Value> =
            self.answers.into_iter().map(|(status, answer)| (status.to_string(), answer)).collect();
        let mut operation = json!({
            "operationId": self.name,
            "summary": self.summary,
            "parameters": self.parameters,
            "responses": responses,
            "security": security(self.needs),
        });
        if let Some(body) = self.body {
            operation["requestBody"] = body;
        }
        operation
    }

    fn in_path(&mut self, schemas: &mut Schemas) -> Vec<Value> {
        let variables = self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        variables
            .map(|name| {
                let schema = match name {
                    "client_id" => {
                        self.codes.insert(ErrorCode::InvalidClientId);
                        schemas.asked::<ClientId>()
                    }
                    "id" => {
                        self.codes.insert(ErrorCode::UnknownDownload);
                        schemas.asked::<DownloadId>()
                    }
                    "name" => {
                        self.codes.insert(ErrorCode::InvalidRequest);
                        json!({ "type": "string", "pattern": r"^(?!\.{1,2}$)[!-~]{1,128}$" })
                    }
                    _ => json!({ "type": "string" }),
                };
                json!({ "name": name, "in": "path", "required": true, "schema": schema })
            })
            .collect()
    }

    fn add_problem(&mut self, status: u16, codes: &[String], schemas: &mut Schemas) {
        let content = json!({ "schema": { "allOf": [
            schemas.told::<Problem>(),
            { "properties": { "status": { "const": status }, "code": { "enum": codes } } },
        ] } });
        // A page may answer the same status otherwise too, as `/ready` does: then both stand there.
        if let Some(answer) = self.answers.get_mut(&status) {
            answer["content"][PROBLEM] = content;
            return;
        }
        let about = codes.iter().map(|code| format!("`{code}`")).collect::<Vec<_>>().join(", ");
        let mut answer = json!({ "description": about, "content": { PROBLEM: content } });
        match status {
            401 => answer["headers"]["WWW-Authenticate"] = told_header("what is asked for (RFC 6750)", true),
            429 => answer["headers"]["Retry-After"] = told_header("seconds", false),
            503 => answer["headers"]["Retry-After"] = told_header("seconds", true),
            _ => {}
        }
        self.answers.insert(status, schemas.answer(&codes.join("."), answer));
    }
}

fn told_header(about: &str, required: bool) -> Value {
    json!({ "description": about, "required": required, "schema": { "type": "string" } })
}

fn security(needs: Needs) -> Value {
    match needs {
        Needs::Nothing | Needs::OneTimeToken => json!([]),
        Needs::Agent => json!([{ "agent": [] }]),
        Needs::Operator => json!([{ "operator": [] }, { "session": [] }]),
        Needs::Within(scope) | Needs::Scope(scope) => {
            json!([{ "operator": [name_of(scope)] }, { "session": [name_of(scope)] }])
        }
    }
}

fn name_of(scope: Scope) -> Value {
    serde_json::to_value(scope).unwrap_or_default()
}

fn default_name(method: &Method, path: &str) -> String {
    format!("{} {path}", method.as_str().to_ascii_lowercase())
}
