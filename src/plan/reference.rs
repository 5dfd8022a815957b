//! `${…}` in a plan file: what it may name, and what it becomes. Pure; the only templating there is.
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::{Map, Value};

use crate::{ids::StepId, steps::Outputs};

/// What a reference names first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Root {
    /// `env`: the environment file.
    Environment,
    /// `parameters`: the plan file's, as the command has set them.
    Parameters,
    /// `services`: the plan file's services, as they are written.
    Services,
    /// `all`: what the services add up to, see [`super::definition::all`]; references inside it are followed.
    All,
    /// `steps.ID.outputs.NAME`.
    Output {
        /// The step.
        step: StepId,
        /// Its output.
        name: String,
    },
}

/// One `${…}`: a root, then keys of maps and positions in lists, all separated by dots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Where it starts.
    pub root: Root,
    /// Where it goes from there; a key may hold any letter but a dot and a brace.
    pub path: Vec<String>,
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("${")?;
        match &self.root {
            Root::Environment => f.write_str("env")?,
            Root::Parameters => f.write_str("parameters")?,
            Root::Services => f.write_str("services")?,
            Root::All => f.write_str("all")?,
            Root::Output { step, name } => write!(f, "steps.{step}.outputs.{name}")?,
        }
        for key in &self.path {
            write!(f, ".{key}")?;
        }
        f.write_str("}")
    }
}

/// A part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// As it stands.
    Text(String),
    /// To be replaced.
    Reference(Reference),
}

/// A `${…}` that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SyntaxError {
    /// What is wrong.
    pub message: String,
    /// How it is written.
    pub hint: String,
}

const FORMS: &str =
    "write ${env.KEY…}, ${parameters.NAME}, ${services.NAME…}, ${all.NAME}, ${steps.ID.outputs.NAME…}; $${ stands for ${ itself";

fn syntax(message: String) -> SyntaxError {
    SyntaxError { message, hint: FORMS.to_owned() }
}

/// Takes a text apart; `$${` is a plain `${`.
pub fn parse(text: &str) -> Result<Vec<Piece>, SyntaxError> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            plain.push_str(&rest[..at]);
            plain.push('{');
            rest = &rest[at + 2..];
            continue;
        }
        plain.push_str(&rest[..at]);
        let inner = &rest[at + 2..];
        let Some(end) = inner.find('}') else { return Err(syntax(format!("`{}` has no closing brace", &rest[at..]))) };
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(Piece::Reference(parse_inner(&inner[..end])?));
        rest = &inner[end + 1..];
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(pieces)
}

fn parse_inner(inner: &str) -> Result<Reference, SyntaxError> {
    let keys: Vec<&str> = inner.split('.').collect();
    let path = |from: usize| keys[from..].iter().map(ToString::to_string).collect();
    if keys.iter().any(|key| key.is_empty() || key.contains(['{', '$', ' '])) {
        return Err(syntax(format!("`${{{inner}}}` has an empty or unreadable part")));
    }
    match keys.as_slice() {
        ["env", _, ..] => Ok(Reference { root: Root::Environment, path: path(1) }),
        ["parameters", _, ..] => Ok(Reference { root: Root::Parameters, path: path(1) }),
        ["services", ..] => Ok(Reference { root: Root::Services, path: path(1) }),
        ["all", _, ..] => Ok(Reference { root: Root::All, path: path(1) }),
        ["steps", id, "outputs", name, ..] => {
            let step = StepId::parse(*id).map_err(|error| syntax(format!("`${{{inner}}}`: {error}")))?;
            Ok(Reference { root: Root::Output { step, name: (*name).to_owned() }, path: path(4) })
        }
        ["steps", ..] => Err(syntax(format!("`${{{inner}}}` does not name an output of a step"))),
        ["env"] => Err(syntax("`${env}` names the whole environment file; name one key of it".to_owned())),
        [root, ..] => Err(syntax(format!("`${{{inner}}}` starts with `{root}`, which is nothing that can be referred to"))),
        [] => Err(syntax("`${}` is empty".to_owned())),
    }
}

/// All that references can reach at the moment.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// The environment file.
    pub environment: &'a Value,
    /// The plan file's parameters.
    pub parameters: &'a Value,
    /// The plan file's services.
    pub services: &'a Value,
    /// What they add up to.
    pub all: &'a Value,
    /// Outputs of steps, as far as they are there.
    pub outputs: &'a BTreeMap<StepId, Outputs>,
}

/// A value whose references were followed.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolved {
    /// Every one led to a value.
    Value(Value),
    /// These outputs are not there yet, as in `network.vpc_id`.
    Waits(BTreeSet<String>),
}

/// A reference that leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reference} {why}")]
pub struct DeadReference {
    /// As written.
    pub reference: String,
    /// What stands in its way.
    pub why: String,
}

/// Follows every reference in a value. A text that is nothing but one reference becomes what it names, type and all;
/// a reference inside a longer text becomes text.
pub fn resolve(value: &Value, known: &Known<'_>) -> Result<Resolved, DeadReference> {
    let mut waits = BTreeSet::new();
    let value = follow(value, known, &mut waits, Services::Allowed)?;
    Ok(if waits.is_empty() { Resolved::Value(value) } else { Resolved::Waits(waits) })
}

/// Inside services, references to services would go round in circles.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Services {
    Allowed,
    Refused,
}

fn follow(value: &Value, known: &Known<'_>, waits: &mut BTreeSet<String>, services: Services) -> Result<Value, DeadReference> {
    match value {
        Value::String(text) => follow_text(text, known, waits, services),
        Value::Array(items) => items.iter().map(|item| follow(item, known, waits, services)).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(key, item)| Ok((key.clone(), follow(item, known, waits, services)?)))
            .collect::<Result<Map<_, _>, _>>()
            .map(Value::Object),
        other => Ok(other.clone()),
    }
}

fn follow_text(text: &str, known: &Known<'_>, waits: &mut BTreeSet<String>, services: Services) -> Result<Value, DeadReference> {
    let dead = |reference: String, why: &str| DeadReference { reference, why: why.to_owned() };
    let pieces = parse(text).map_err(|error| dead(text.to_owned(), &error.message))?;
    if let [Piece::Reference(reference)] = pieces.as_slice() {
        return Ok(target(reference, known, waits, services)?.unwrap_or(Value::Null));
    }
    let mut joined = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => joined.push_str(&text),
            Piece::Reference(reference) => match target(&reference, known, waits, services)? {
                None => {}
                Some(Value::String(text)) => joined.push_str(&text),
                Some(Value::Number(number)) => joined.push_str(&number.to_string()),
                Some(Value::Bool(value)) => joined.push_str(if value { "true" } else { "false" }),
                Some(_) => return Err(dead(reference.to_string(), "is no text, number or bool and cannot be a part of a text")),
            },
        }
    }
    Ok(Value::String(joined))
}

/// What a reference names; nothing if that is an output which is not there yet.
fn target(
    reference: &Reference,
    known: &Known<'_>,
    waits: &mut BTreeSet<String>,
    services: Services,
) -> Result<Option<Value>, DeadReference> {
    let dead = |why: String| DeadReference { reference: reference.to_string(), why };
    let root = match &reference.root {
        Root::Environment => known.environment,
        Root::Parameters => known.parameters,
        Root::Services | Root::All if services == Services::Refused => {
            return Err(dead("cannot be used inside `services` or `accounts`".to_owned()));
        }
        Root::Services => known.services,
        Root::All => known.all,
        Root::Output { step, name } => match known.outputs.get(step).and_then(|outputs| outputs.get(name)) {
            Some(value) => value,
            None => {
                waits.insert(format!("{step}.{name}"));
                return Ok(None);
            }
        },
    };
    let found = walk(root, &reference.path).map_err(dead)?;
    match reference.root {
        Root::All => follow(found, known, waits, Services::Refused).map(Some),
        _ => Ok(Some(found.clone())),
    }
}

/// Goes down a value by keys and positions.
pub fn walk<'a>(value: &'a Value, path: &[String]) -> Result<&'a Value, String> {
    path.iter().try_fold(value, |value, key| {
        let next = match value {
            Value::Object(map) => map.get(key),
            Value::Array(items) => key.parse::<usize>().ok().and_then(|at| items.get(at)),
            _ => None,
        };
        next.ok_or_else(|| {
            let there: Vec<&str> = value.as_object().map(|map| map.keys().map(String::as_str).collect()).unwrap_or_default();
            match super::suggest::nearest(key, there.iter().copied()) {
                Some(near) => format!("leads nowhere: there is no `{key}`; did you mean `{near}`?"),
                None if there.is_empty() => format!("leads nowhere: there is no `{key}`"),
                None => format!("leads nowhere: there is no `{key}`, only {}", there.join(", ")),
            }
        })
    })
}

#[cfg(test)]
#[path = "reference_tests.rs"]
mod tests;
