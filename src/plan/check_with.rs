//! Holds a step's `with`, as written, against the JSON schema of its kind, before any reference is followed: a reference counts as its declared type.
use serde_json::Value;

use super::{
    locate::{Key, Located},
    problem::Problem,
};

/// The type of a text in `with`, seen through its references.
pub trait Types {
    /// JSON schema's word for what the text becomes; nothing if it cannot be told.
    fn of_text(&self, text: &str) -> Option<String>;
}

/// A check of one step's `with`.
pub struct Check<'a> {
    /// The kind's schema.
    pub schema: &'a Value,
    /// Where things stand in the file.
    pub located: &'a Located,
    /// What texts become.
    pub types: &'a dyn Types,
    /// What was found wrong.
    pub problems: Vec<Problem>,
}

fn word(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

impl<'a> Check<'a> {
    /// Checks everything.
    pub fn run(&mut self, with: &Value, path: &mut Vec<Key>) {
        let empty = Value::Object(serde_json::Map::new());
        // A step without `with` asks for an empty one.
        self.value(self.schema, if with.is_null() { &empty } else { with }, path);
    }

    fn value(&mut self, schema: &'a Value, value: &Value, path: &mut Vec<Key>) {
        let Some(schema) = plain(self.schema, schema) else { return };
        let found = match value {
            Value::String(text) if text.contains("${") => match self.types.of_text(text) {
                Some(word) => word,
                None => return,
            },
            other => word(other).to_owned(),
        };
        if !accepts(schema, &found) {
            let wanted = types(schema).join(" or ");
            let what = match value {
                Value::String(text) if text.contains("${") => format!("`{text}` is {}", article(&found)),
                _ => format!("found {}", article(&found)),
            };
            self.problems.push(Problem::new(self.located.value(path), format!("wrong type: {what}, expected {wanted}")));
            return;
        }
        match value {
            Value::Object(map) => self.object(schema, map, path),
            Value::Array(items) => {
                if let Some(of) = schema.get("items") {
                    for (at, item) in items.iter().enumerate() {
                        path.push(Key::At(at));
                        self.value(of, item, path);
                        path.pop();
                    }
                }
            }
            Value::String(text) if !text.contains("${") => self.choice(schema, text, path),
            _ => {}
        }
    }

    fn object(&mut self, schema: &'a Value, map: &serde_json::Map<String, Value>, path: &mut Vec<Key>) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let other = schema.get("additionalProperties");
        for (key, item) in map {
            path.push(Key::Name(key.clone()));
            match (properties.and_then(|properties| properties.get(key)), other) {
                (Some(of), _) => self.value(of, item, path),
                (None, Some(Value::Bool(false))) => {
                    let names: Vec<&str> = properties.map(|p| p.keys().map(String::as_str).collect()).unwrap_or_default();
                    self.problems.push(Problem::new(self.located.key(path), format!("unknown key `{key}`")).one_of(key, &names));
                }
                (None, Some(of @ Value::Object(_))) => self.value(of, item, path),
                _ => {}
            }
            path.pop();
        }
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        for missing in required.filter(|name| !map.contains_key(*name)) {
            self.problems.push(Problem::new(self.located.key(path), format!("the key `{missing}` is missing")));
        }
    }

    fn choice(&mut self, schema: &Value, text: &str, path: &[Key]) {
        let mut choices: Vec<&str> = schema.get("enum").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        // schemars writes a documented enum as a list of constants.
        choices.extend(schema.get("oneOf").and_then(Value::as_array).into_iter().flatten().filter_map(|one| one.get("const")?.as_str()));
        if !choices.is_empty() && !choices.contains(&text) {
            self.problems.push(Problem::new(self.located.value(path), format!("unknown value `{text}`")).one_of(text, &choices));
        }
    }
}

/// Follows `$ref`, and an option to what it may hold; nothing if the schema says nothing that we check.
fn plain<'s>(root: &'s Value, mut schema: &'s Value) -> Option<&'s Value> {
    for _ in 0..8 {
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            schema = root.pointer(name.strip_prefix('#')?)?;
        } else if let Some(options) = schema.get("anyOf").and_then(Value::as_array) {
            let mut real = options.iter().filter(|option| option.get("type").and_then(Value::as_str) != Some("null"));
            schema = real.next()?;
            if real.next().is_some() {
                return None;
            }
        } else {
            return Some(schema);
        }
    }
    None
}

fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn accepts(schema: &Value, found: &str) -> bool {
    let types = types(schema);
    types.is_empty()
        || types
            .iter()
            .any(|wanted| *wanted == found || (*wanted == "number" && found == "integer") || (*wanted == "integer" && found == "number"))
}

fn article(word: &str) -> String {
    let vowel = word.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {word}", if vowel { "an" } else { "a" })
}
