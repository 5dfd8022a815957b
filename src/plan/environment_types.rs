//! What is not of its type in an environment file: every key of it, and not only the first one that the parser stumbles over.
use serde_json::{Map, Value};

use super::{
    environment::Environment,
    locate::{Key, Located, Spot},
    problem::Problem,
};
use crate::ids::{AccountId, EnvironmentName, InvalidId, Region, RoleArn, ServiceName};

/// Stands in for values that cannot be read, so that the rest of the file can be judged too.
const SAMPLE: &str = include_str!("../../plans/environments/staging.yaml");

/// Where a rule compares one value with another: with one of them mended, what is said of the other may be wrong.
const COMPARED: [&[&str]; 5] = [&["aws"], &["cluster", "nodes"], &["database", "storage_gib"], &["storage"], &["kafka"]];

/// Everything that is not of its type, and the file with samples in these places.
pub struct Mistyped {
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What the rest can be judged by; none if not even samples make an environment of it.
    pub mended: Option<Environment>,
    /// Places of which the rules can say nothing.
    pub doubtful: Vec<Spot>,
}

/// Looks at every key; none if it is no YAML.
pub fn check(text: &str, located: &Located) -> Option<Mistyped> {
    let mut value: Value = serde_saphyr::from_str(text).ok()?;
    let sample: Value = serde_saphyr::from_str(SAMPLE).ok()?;
    let schema = schemars::schema_for!(Environment).to_value();
    let mut walk = Walk { schema: &schema, located, problems: Vec::new(), mended: Vec::new() };
    walk.visit(&schema, &mut value, Some(&sample), &mut Vec::new());
    let mended = serde_json::from_value(value).ok();
    let compared = COMPARED.iter().map(|path| path.iter().map(|key| Key::from(*key)).collect::<Vec<Key>>());
    let touched = compared.filter(|parent| walk.mended.iter().any(|path| path.starts_with(parent)));
    let mut doubtful: Vec<Spot> = touched.flat_map(|parent| located.within(&parent)).collect();
    doubtful.extend(walk.mended.iter().map(|path| located.value(path)));
    Some(Mistyped { problems: walk.problems, mended, doubtful })
}

struct Walk<'a> {
    schema: &'a Value,
    located: &'a Located,
    problems: Vec<Problem>,
    mended: Vec<Vec<Key>>,
}

/// What a schema asks for, its reference followed.
struct Asked<'a> {
    name: &'a str,
    schema: &'a Value,
    or_nothing: bool,
}

/// What the value is called to whoever has written it.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(number) if number.is_f64() => "a fraction",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

fn called(kind: &str) -> &'static str {
    match kind {
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "true or false",
        "array" => "a list",
        "object" => "a map",
        _ => "a text",
    }
}

/// Follows references.
fn asked<'s>(root: &'s Value, schema: &'s Value) -> Asked<'s> {
    let (mut schema, mut name, mut or_nothing) = (schema, "", false);
    loop {
        if let Some(all) = schema["anyOf"].as_array()
            && let Some(inner) = all.iter().find(|inner| inner["type"] != "null")
        {
            or_nothing = true;
            schema = inner;
        } else if let Some(found) = schema["$ref"].as_str().and_then(|text| text.strip_prefix("#/$defs/")) {
            name = found;
            schema = &root["$defs"][found];
        } else {
            let nullable = schema["type"].as_array().is_some_and(|all| all.iter().any(|kind| kind == "null"));
            return Asked { name, schema, or_nothing: or_nothing || nullable };
        }
    }
}

impl Walk<'_> {
    /// Whether the value can be used, as it is or with samples in it.
    fn visit(&mut self, schema: &Value, value: &mut Value, sample: Option<&Value>, path: &mut Vec<Key>) -> bool {
        let asked = asked(self.schema, schema);
        if value.is_null() && asked.or_nothing {
            return true;
        }
        let choices = choices(asked.schema);
        if !choices.is_empty() {
            let known = value.as_str().is_some_and(|word| choices.contains(&word));
            let word = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            return known
                || self.refuse(value, sample, path, |at| Problem::new(at, format!("unknown value `{word}`")).one_of(&word, &choices));
        }
        if let Some(variant) = variant(asked.schema, value) {
            return self.visit(variant, value, sample, path);
        }
        let kind = asked.schema["type"]
            .as_str()
            .or_else(|| asked.schema["type"].as_array()?.iter().find_map(|kind| kind.as_str().filter(|kind| *kind != "null")));
        match (kind, &mut *value) {
            (None, _) if asked.schema["oneOf"].is_array() => {
                let (tag, words) = tags(asked.schema);
                let word = value[tag].as_str().unwrap_or_default().to_owned();
                path.push(tag.into());
                let at = self.located.value(path);
                path.pop();
                self.refuse(value, sample, path, |_| Problem::new(at, format!("unknown value `{word}` of `{tag}`")).one_of(&word, &words))
            }
            (None, _) => true,
            (Some("object"), Value::Object(fields)) => self.object(asked.schema, fields, sample, path),
            (Some("array"), Value::Array(items)) => {
                let sample = sample.and_then(|sample| sample.get(0));
                let mut all = std::mem::take(items).into_iter().enumerate().collect::<Vec<_>>();
                all.retain_mut(|(index, item)| {
                    path.push((*index).into());
                    let usable = self.visit(&asked.schema["items"], item, sample, path);
                    path.pop();
                    usable
                });
                *items = all.into_iter().map(|(_, item)| item).collect();
                true
            }
            (Some("boolean"), Value::Bool(_)) => true,
            (Some("integer"), Value::Number(number)) if !number.is_f64() => {
                let (least, most) = (asked.schema["minimum"].as_f64(), asked.schema["maximum"].as_f64());
                let number = number.as_f64().unwrap_or_default();
                if least.is_none_or(|least| number >= least) && most.is_none_or(|most| number <= most) {
                    return true;
                }
                let hint = match most {
                    Some(most) => format!("from {} to {most}", least.unwrap_or_default()),
                    None => format!("{} or more", least.unwrap_or_default()),
                };
                self.refuse(value, sample, path, |at| Problem::new(at, format!("{number} is out of range")).hint(hint))
            }
            (Some("string"), Value::String(text)) => match form(asked.name, text) {
                Ok(()) => true,
                Err(error) => {
                    self.refuse(value, sample, path, |at| Problem::new(at, error.to_string()).hint("see plans/environments/staging.yaml"))
                }
            },
            // A scalar without quotes is a text where one is asked for.
            (Some("string"), Value::Number(number)) => {
                *value = Value::String(number.to_string());
                self.visit(schema, value, sample, path)
            }
            (Some(kind), found) => {
                let found = kind_of(found);
                let problem = |at| Problem::new(at, format!("wrong type: found {found}, expected {}", called(kind)));
                self.refuse(value, sample, path, |at| match sample.filter(|sample| !sample.is_object() && !sample.is_array()) {
                    Some(sample) => problem(at).hint(format!("as in {sample}")),
                    None => problem(at).hint("see plans/schema/environment.schema.json"),
                })
            }
        }
    }

    fn object(&mut self, schema: &Value, fields: &mut Map<String, Value>, sample: Option<&Value>, path: &mut Vec<Key>) -> bool {
        let none = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&none);
        let others = schema.get("additionalProperties").filter(|others| others.is_object());
        let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let known: Vec<&str> = properties.keys().map(String::as_str).collect();
        let names: Vec<String> = fields.keys().cloned().collect();
        for name in names {
            path.push(name.as_str().into());
            let (wanted, example) = match (properties.get(&name), others) {
                (Some(wanted), _) => (Some(wanted), sample.and_then(|sample| sample.get(&name))),
                // Entries of a map are alike: any of the sample's will do.
                (None, Some(others)) => (Some(others), sample.and_then(|sample| sample.as_object()?.values().next())),
                (None, None) => (None, None),
            };
            let usable = match (wanted, fields.get_mut(&name)) {
                (Some(wanted), Some(value)) => self.visit(wanted, value, example, path),
                _ if known.is_empty() => true,
                _ => {
                    self.problems.push(Problem::new(self.located.key(path), format!("unknown key `{name}`")).one_of(&name, &known));
                    false
                }
            };
            if !usable {
                fields.remove(&name);
            }
            path.pop();
        }
        let missing: Vec<&str> = required.into_iter().filter(|name| !fields.contains_key(*name)).collect();
        for name in missing {
            path.push(name.into());
            // One that was there and was refused has been spoken of.
            if !self.mended.contains(path) {
                let problem = Problem::new(self.located.value(&path[..path.len() - 1]), format!("the key `{name}` is missing"));
                let example = sample.and_then(|sample| sample.get(name)).filter(|example| !example.is_object() && !example.is_array());
                self.problems.push(match example {
                    Some(example) => problem.hint(format!("as in {name}: {example}")),
                    None => problem.hint("see plans/environments/staging.yaml"),
                });
                self.mended.push(path.clone());
            }
            if let Some(example) = sample.and_then(|sample| sample.get(name)) {
                fields.insert(name.to_owned(), example.clone());
            }
            path.pop();
        }
        true
    }

    fn refuse(&mut self, value: &mut Value, sample: Option<&Value>, path: &[Key], problem: impl FnOnce(Spot) -> Problem) -> bool {
        // What takes several lines begins on its key's.
        let at = if value.is_object() || value.is_array() { self.located.key(path) } else { self.located.value(path) };
        self.problems.push(problem(at));
        self.mended.push(path.to_vec());
        match sample {
            Some(sample) => *value = sample.clone(),
            None => return false,
        }
        true
    }
}

/// The words of a choice; none if it is no choice of words.
fn choices(schema: &Value) -> Vec<&str> {
    let listed = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str);
    listed.chain(schema["oneOf"].as_array().into_iter().flatten().filter_map(|one| one["const"].as_str())).collect()
}

/// Which of several maps is meant: the one whose fixed words the value has.
fn variant<'s>(schema: &'s Value, value: &Value) -> Option<&'s Value> {
    schema["oneOf"].as_array()?.iter().find(|one| {
        let fixed = one["properties"].as_object().into_iter().flatten().filter(|(_, wanted)| wanted["const"].is_string());
        let mut fixed = fixed.peekable();
        fixed.peek().is_some() && fixed.all(|(name, wanted)| value[name] == wanted["const"])
    })
}

/// The key by which several maps are told apart, and its words.
fn tags(schema: &Value) -> (&str, Vec<&str>) {
    let variants = schema["oneOf"].as_array().into_iter().flatten();
    let fixed = variants.flat_map(|one| one["properties"].as_object().into_iter().flatten());
    let mut found: Vec<(&str, &str)> = fixed.filter_map(|(name, wanted)| Some((name.as_str(), wanted["const"].as_str()?))).collect();
    found.dedup();
    (found.first().map_or("", |(name, _)| name), found.iter().map(|(_, word)| *word).collect())
}

fn form(name: &str, text: &str) -> Result<(), InvalidId> {
    match name {
        "AccountId" => AccountId::parse(text).map(drop),
        "EnvironmentName" => EnvironmentName::parse(text).map(drop),
        "Region" => Region::parse(text).map(drop),
        "RoleArn" => RoleArn::parse(text).map(drop),
        "ServiceName" => ServiceName::parse(text).map(drop),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "environment_types_tests.rs"]
mod tests;
