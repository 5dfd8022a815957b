//! Where two JSON values differ, path by path: for the diff of an object, and for what has moved since a plan was made. Pure.
use serde_json::Value;

/// More than this of one value is no longer read by anybody.
const WIDEST: usize = 160;

/// One place where two values differ; nothing at all and null are the same to a reader.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference<'a> {
    /// As in `spec.containers[0].image`; empty for the whole value.
    pub path: String,
    /// What is there.
    pub before: &'a Value,
    /// What would be there, or is there now.
    pub after: &'a Value,
}

/// All of them, in the order of their paths. Lists of the same length are compared item by item, others as a whole.
pub fn differences<'a>(before: &'a Value, after: &'a Value) -> Vec<Difference<'a>> {
    let mut found = Vec::new();
    compare(String::new(), before, after, &mut found);
    found
}

fn compare<'a>(path: String, before: &'a Value, after: &'a Value, found: &mut Vec<Difference<'a>>) {
    match (before, after) {
        (Value::Object(then), Value::Object(now)) => {
            let mut keys: Vec<_> = then.keys().chain(now.keys().filter(|key| !then.contains_key(*key))).collect();
            keys.sort();
            for key in keys {
                let inner = match (path.is_empty(), key.contains(['.', '/', ' '])) {
                    (_, true) => format!("{path}[{key}]"),
                    (true, false) => key.clone(),
                    (false, false) => format!("{path}.{key}"),
                };
                compare(inner, then.get(key).unwrap_or(&Value::Null), now.get(key).unwrap_or(&Value::Null), found);
            }
        }
        (Value::Array(then), Value::Array(now)) if then.len() == now.len() => {
            for (index, (then, now)) in then.iter().zip(now).enumerate() {
                compare(format!("{path}[{index}]"), then, now, found);
            }
        }
        _ if before == after => {}
        _ => found.push(Difference { path, before, after }),
    }
}

impl std::fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let colon = if self.path.is_empty() { "" } else { ": " };
        write!(f, "{}{colon}{} -> {}", self.path, short(self.before), short(self.after))
    }
}

fn short(value: &Value) -> String {
    let text = if value.is_null() { "(none)".to_owned() } else { value.to_string() };
    if text.chars().count() <= WIDEST { text } else { format!("{}…", text.chars().take(WIDEST).collect::<String>()) }
}
