//! JSON schemas of the texts that this crate reads and writes by hand. All other schemas are derived where the types are.
//!
//! Only with the feature `schema`, which the server turns on for its OpenAPI document.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::limits::MAX_REACH_LABELS;
use crate::reach::Reach;
use crate::{ClientId, DownloadId, Sealed, Timestamp};

/// Gives a type that is a text in JSON its schema.
macro_rules! text {
    ($type:ident, { $($rule:tt)* }) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($type))
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", $($rule)* })
            }
        }
    };
}

text!(ClientId, {
    "description": "A site's machine as the server knows it.",
    // "." and ".." are none: a path would lose them.
    "pattern": r"^(?!\.{1,2}$)[A-Za-z0-9._-]{1,128}$",
    "examples": ["restaurant-1"],
});

text!(DownloadId, {
    "description": "One file brought from one client into the bucket: a UUIDv7.",
    "format": "uuid",
    "pattern": "^[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}$",
    "examples": ["01937f5e-7c00-7000-8000-000000000000"],
});

text!(Timestamp, { "description": "A time as in RFC 3339.", "format": "date-time" });

text!(Sealed, { "description": "A secret: it is shown once, and must reach no log." });

impl JsonSchema for Reach {
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Reach")
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The clients that a token reaches: those whose id begins so, and that have all these labels.",
            "type": "object",
            "properties": {
                "prefix": { "type": "string", "pattern": "^[A-Za-z0-9._-]{1,128}$" },
                "labels": {
                    "type": "object",
                    "minProperties": 1,
                    "maxProperties": MAX_REACH_LABELS,
                    "propertyNames": { "pattern": "^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$" },
                    "additionalProperties": { "type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$" },
                },
            },
            "additionalProperties": false,
            "minProperties": 1,
        })
    }
}

/// Says what each kind of token needs: an operator's name is no client id, and without scopes it may do nothing.
pub(crate) fn token_request(schema: &mut Schema) {
    let kinds = serde_json::json!([
        {
            "properties": { "kind": { "enum": ["client", "enrolment"] }, "subject": { "$ref": "#/components/schemas/ClientId" }, "clients": { "type": "null" } },
        },
        {
            "properties": {
                "kind": { "const": "operator" },
                "subject": { "pattern": "^[!-~]{1,128}$" },
                "scopes": { "minItems": 1 },
            },
            "required": ["scopes"],
        },
    ]);
    schema.insert(String::from("anyOf"), kinds);
}
