//! The schemas of what is read and of what is written, under one name each.

use schemars::generate::{Contract, SchemaSettings};
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// Collects the schemas that the document's pages name.
#[derive(Debug)]
pub(super) struct Schemas {
    /// Of what the server reads: what has a default may be left out.
    asked: SchemaGenerator,
    /// Of what it writes: what is always written is always there.
    told: SchemaGenerator,
    /// Answers that several pages give.
    answers: Map<String, Value>,
}

impl Default for Schemas {
    fn default() -> Self {
        let generator = |contract| {
            let settings = SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = "/components/schemas".into();
                settings.meta_schema = None;
                settings.contract = contract;
            });
            settings.into_generator()
        };
        Self {
            asked: generator(Contract::Deserialize),
            told: generator(Contract::Serialize),
            answers: Map::new(),
        }
    }
}

impl Schemas {
    /// Gives the schema of something that the server reads.
    pub(super) fn asked<T: JsonSchema>(&mut self) -> Value {
        self.asked.subschema_for::<T>().to_value()
    }

    /// Gives the schema of something that the server writes.
    pub(super) fn told<T: JsonSchema>(&mut self) -> Value {
        self.told.subschema_for::<T>().to_value()
    }

    /// Gives each field of a query: its name, whether it must be there, and its schema.
    pub(super) fn query<T: JsonSchema>(&mut self) -> Vec<(String, bool, Value)> {
        let schema = T::json_schema(&mut self.asked).to_value();
        let required = |name: &str| {
            schema["required"].as_array().is_some_and(|names| names.iter().any(|there| there == name))
        };
        let fields = schema["properties"].as_object().into_iter().flatten();
        fields.map(|(name, schema)| (name.clone(), required(name), without_null(schema))).collect()
    }

    /// Keeps an answer under a name, and gives the reference to it.
    pub(super) fn answer(&mut self, name: &str, answer: Value) -> Value {
        self.answers.insert(name.to_owned(), answer);
        json!({ "$ref": format!("#/components/responses/{name}") })
    }

    /// Gives all answers and schemas that were named. What is both read and written is the same in both, as a test checks.
    pub(super) fn components(mut self) -> Value {
        let mut all = self.told.take_definitions(true);
        for (name, schema) in self.asked.take_definitions(true) {
            all.entry(name).or_insert(schema);
        }
        json!({ "responses": self.answers, "schemas": all })
    }

    /// Gives the names that mean one thing where they are read, and another where they are written.
    #[cfg(test)]
    pub(super) fn ambiguous(mut self) -> Vec<String> {
        let (told, asked) = (self.told.take_definitions(true), self.asked.take_definitions(true));
        asked
            .into_iter()
            .filter(|(name, schema)| told.get(name).is_some_and(|other| other != schema))
            .map(|(name, _)| name)
            .collect()
    }
}

/// Gives a schema without null, which no query can say.
fn without_null(schema: &Value) -> Value {
    let mut schema = schema.clone();
    let is_null = |value: &Value| value == "null" || value["type"] == "null";
    for word in ["type", "anyOf"] {
        let Some(Value::Array(choices)) = schema.get_mut(word) else { continue };
        choices.retain(|choice| !is_null(choice));
        if let [only] = choices.as_slice() {
            let only = only.clone();
            match (word, only) {
                ("anyOf", Value::Object(only)) => {
                    let fields = schema.as_object_mut().into_iter();
                    fields.for_each(|fields| {
                        fields.remove("anyOf");
                        fields.extend(only.clone());
                    });
                }
                (word, only) => schema[word] = only,
            }
        }
    }
    schema
}
