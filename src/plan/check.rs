//! Everything that can be wrong in a plan file although it is YAML of the right shape. All problems are collected, none stops the others.
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::Value;

use super::{
    check_with::{Check, Types},
    definition,
    environment::SecretStore,
    file::{Permission, PlanFile, StepDeclaration},
    locate::{Key, Located},
    output_type::OutputType,
    problem::Problem,
    reference::{self, Piece, Reference, Root},
};
use crate::{engine::dag::Dag, ids::StepId, steps::registry::Registry};

/// What a plan file is checked against.
pub struct Checker<'a> {
    /// The file.
    pub file: &'a PlanFile,
    /// Where things stand in it.
    pub located: &'a Located,
    /// The kinds.
    pub registry: &'a Registry,
    /// The environment file, if one was named.
    pub environment: Option<&'a Value>,
    /// The project's folder: sources and templates must be there.
    pub project: &'a Path,
}

struct Graph {
    all_needs: BTreeMap<StepId, BTreeSet<StepId>>,
    outputs: BTreeMap<StepId, BTreeMap<String, OutputType>>,
    parameters: Value,
    services: Value,
    all: Value,
}

fn at(keys: &[&dyn KeyLike]) -> Vec<Key> {
    keys.iter().map(|key| key.key()).collect()
}

trait KeyLike {
    fn key(&self) -> Key;
}

impl KeyLike for &str {
    fn key(&self) -> Key {
        Key::Name((*self).to_owned())
    }
}

impl KeyLike for usize {
    fn key(&self) -> Key {
        Key::At(*self)
    }
}

impl Checker<'_> {
    /// All problems.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.file.version != 1 {
            let message = format!("version {} is not known; this deployctl reads version 1", self.file.version);
            problems.push(Problem::new(self.located.value(&at(&[&"version"])), message));
        }
        self.services(&mut problems);
        self.steps(&mut problems);
        if let Some(graph) = self.graph(&mut problems) {
            for (position, step) in self.file.steps.iter().enumerate() {
                self.references(&graph, position, step, &mut problems);
                self.with(&graph, position, step, &mut problems);
            }
        }
        problems
    }

    fn services(&self, problems: &mut Vec<Problem>) {
        for (name, service) in &self.file.services {
            let name = name.as_str();
            for (key, folder) in [("source", &service.source), ("templates", &service.templates)] {
                if !self.project.join(folder).is_dir() {
                    let spot = self.located.value(&at(&[&"services", &name, &key]));
                    problems.push(
                        Problem::new(spot, format!("there is no folder {}", folder.display())).hint("paths start at the project's root"),
                    );
                }
            }
            self.permissions(&["services", name], &service.permissions, problems);
            if let Some(environment) = self.environment
                && environment.get("services").and_then(|services| services.get(name)).is_none()
            {
                let spot = self.located.key(&at(&[&"services", &name]));
                problems.push(
                    Problem::new(spot, format!("the environment file says nothing about service `{name}`"))
                        .hint("add it under `services` there"),
                );
            }
        }
        for (name, account) in &self.file.accounts {
            self.permissions(&["accounts", name.as_str()], &account.permissions, problems);
        }
    }

    /// Which store the environment names; its keys are checked elsewhere.
    fn store(&self) -> SecretStore {
        let written = self.environment.and_then(|environment| environment.get("secrets")?.get("store"));
        written.and_then(|store| serde_json::from_value(store.clone()).ok()).unwrap_or_default()
    }

    fn permissions(&self, keys: &[&str; 2], permissions: &[Permission], problems: &mut Vec<Problem>) {
        for (n, permission) in permissions.iter().enumerate() {
            if permission.actions.is_empty() == permission.secrets.is_none() {
                let spot = self.located.value(&at(&[&keys[0], &keys[1], &"permissions", &n]));
                let hint = "`secrets: read` or `secrets: write` stands instead of the actions of a store";
                problems.push(Problem::new(spot, "a permission has either actions or `secrets`".to_owned()).hint(hint));
            }
            for (m, action) in permission.actions.iter().enumerate() {
                if action.contains('*') || !action.contains(':') {
                    let spot = self.located.value(&at(&[&keys[0], &keys[1], &"permissions", &n, &"actions", &m]));
                    problems.push(Problem::new(spot, format!("`{action}` is not one action")).hint("name each action, as in s3:GetObject"));
                }
            }
        }
    }

    fn steps(&self, problems: &mut Vec<Problem>) {
        let ids: Vec<&str> = self.file.steps.iter().map(|step| step.id.as_str()).collect();
        let kinds = self.registry.names();
        for (n, step) in self.file.steps.iter().enumerate() {
            if let Some(first) = ids[..n].iter().position(|id| *id == step.id.as_str()) {
                let line = self.located.value(&at(&[&"steps", &first, &"id"])).line;
                let spot = self.located.value(&at(&[&"steps", &n, &"id"]));
                problems.push(
                    Problem::new(spot, format!("there are two steps `{}`", step.id))
                        .hint(format!("the first is in line {line}; rename one of them")),
                );
            }
            if self.registry.get(&step.kind).is_none() {
                let spot = self.located.value(&at(&[&"steps", &n, &"kind"]));
                problems.push(Problem::new(spot, format!("there is no kind `{}`", step.kind)).one_of(&step.kind, &kinds));
            }
            for (m, need) in step.needs.iter().enumerate() {
                if !ids.contains(&need.as_str()) {
                    let spot = self.located.value(&at(&[&"steps", &n, &"needs", &m]));
                    problems.push(
                        Problem::new(spot, format!("step `{}` needs `{need}`, which is no step", step.id)).one_of(need.as_str(), &ids),
                    );
                }
            }
            for (name, written) in &step.outputs {
                if let Err(error) = written.parse::<OutputType>() {
                    problems.push(Problem::new(self.located.value(&at(&[&"steps", &n, &"outputs", &name.as_str()])), error.to_string()));
                }
            }
        }
    }

    /// The graph that references are held against; nothing if it has a circle or an id twice.
    fn graph(&self, problems: &mut Vec<Problem>) -> Option<Graph> {
        let ids: BTreeSet<&StepId> = self.file.steps.iter().map(|step| &step.id).collect();
        let dag = match Dag::new(self.file.steps.iter().map(|step| (&step.id, step.needs.as_slice()))) {
            Ok(dag) => dag,
            // An id that is there twice is reported; the circle that it seems to close is none.
            Err(_) if ids.len() < self.file.steps.len() => return None,
            Err(cycle) => {
                let first = self.file.steps.iter().position(|step| cycle.0.first() == Some(&step.id)).unwrap_or_default();
                let spot = self.located.value(&at(&[&"steps", &first, &"needs"]));
                problems.push(Problem::new(spot, cycle.to_string()).hint("take one of these needs away"));
                return None;
            }
        };
        let outputs = self.file.steps.iter().map(|step| {
            let types = step.outputs.iter().filter_map(|(name, written)| Some((name.clone(), written.parse().ok()?)));
            (step.id.clone(), types.collect())
        });
        Some(Graph {
            all_needs: dag.order().iter().map(|id| (id.clone(), dag.all_needs(id))).collect(),
            // Of two steps with one id, the first counts; the second is reported.
            outputs: outputs.rev().collect(),
            parameters: serde_json::to_value(&self.file.parameters).ok()?,
            services: serde_json::to_value(&self.file.services).ok()?,
            all: definition::all(self.file, self.store(), "ENV"),
        })
    }

    fn references(&self, graph: &Graph, position: usize, step: &StepDeclaration, problems: &mut Vec<Problem>) {
        let mut path = at(&[&"steps", &position, &"with"]);
        each_text(&step.with, &mut path, &mut |text, path| {
            let spot = self.located.value(path);
            match reference::parse(text) {
                Err(error) => problems.push(Problem::new(spot, error.message).hint(error.hint)),
                Ok(pieces) => {
                    let inside_text = pieces.len() > 1;
                    for piece in pieces {
                        if let Piece::Reference(reference) = piece
                            && let Err((message, hint)) = self.reference(graph, step, &reference, inside_text)
                        {
                            let problem = Problem::new(spot, message);
                            problems.push(if hint.is_empty() { problem } else { problem.hint(hint) });
                        }
                    }
                }
            }
        });
    }

    fn reference(&self, graph: &Graph, step: &StepDeclaration, reference: &Reference, inside_text: bool) -> Result<(), (String, String)> {
        let none = String::new;
        let value = match &reference.root {
            Root::Output { step: from, name } => {
                let of = output_type(graph, step, reference, from, name)?;
                return match of {
                    Some(of) if inside_text && !of.is_text() => {
                        Err((format!("{reference} is a {of} and cannot be a part of a text"), none()))
                    }
                    _ => Ok(()),
                };
            }
            Root::Environment => match self.environment {
                Some(environment) => environment,
                None => return Ok(()),
            },
            Root::Parameters => &graph.parameters,
            Root::Services => &graph.services,
            Root::All => &graph.all,
        };
        let found = reference::walk(value, &reference.path).map_err(|why| (format!("{reference} {why}"), none()))?;
        if inside_text && (found.is_array() || found.is_object()) {
            return Err((format!("{reference} is a list or a map and cannot be a part of a text"), none()));
        }
        if reference.root == Root::All {
            // What services refer to must be there for whoever reads them.
            let mut result = Ok(());
            each_text(found, &mut Vec::new(), &mut |text, _| {
                for piece in reference::parse(text).unwrap_or_default() {
                    if let (Ok(()), Piece::Reference(inner)) = (&result, &piece) {
                        result = self
                            .reference(graph, step, inner, false)
                            .map_err(|(message, hint)| (format!("{reference} holds {message}"), hint));
                    }
                }
            });
            return result;
        }
        Ok(())
    }

    fn with(&self, graph: &Graph, position: usize, step: &StepDeclaration, problems: &mut Vec<Problem>) {
        let Some(kind) = self.registry.get(&step.kind) else { return };
        let schema = kind.input_schema();
        let types = Seen { checker: self, graph, step };
        let mut check = Check { schema: &schema, located: self.located, types: &types, problems: Vec::new() };
        check.run(&step.with, &mut at(&[&"steps", &position, &"with"]));
        problems.append(&mut check.problems);
    }
}

/// The declared type behind a reference to an output, or what is wrong with it.
fn output_type<'g>(
    graph: &'g Graph,
    step: &StepDeclaration,
    reference: &Reference,
    from: &StepId,
    name: &str,
) -> Result<Option<&'g OutputType>, (String, String)> {
    let Some(outputs) = graph.outputs.get(from) else {
        let ids: Vec<&str> = graph.outputs.keys().map(StepId::as_str).collect();
        let near = super::suggest::nearest(from.as_str(), ids).map(|near| format!("did you mean `{near}`?"));
        return Err((format!("{reference} names step `{from}`, which does not exist"), near.unwrap_or_default()));
    };
    if !graph.all_needs.get(&step.id).is_some_and(|needs| needs.contains(from)) {
        return Err((
            format!("{reference} names step `{from}`, which step `{}` does not need", step.id),
            format!("add `{from}` to its needs"),
        ));
    }
    let Some(mut of) = outputs.get(name) else {
        let names: Vec<&str> = outputs.keys().map(String::as_str).collect();
        let hint = match super::suggest::nearest(name, names.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("declare it in the `outputs` of step `{from}`: {name}: string"),
        };
        return Err((format!("step `{from}` declares no output `{name}`"), hint));
    };
    for key in &reference.path {
        of = of.within(key).ok_or_else(|| (format!("{reference} leads nowhere: a {of} has no `{key}`"), String::new()))?;
    }
    Ok(Some(of))
}

struct Seen<'a> {
    checker: &'a Checker<'a>,
    graph: &'a Graph,
    step: &'a StepDeclaration,
}

impl Types for Seen<'_> {
    fn of_text(&self, text: &str) -> Option<String> {
        let pieces = reference::parse(text).ok()?;
        let [Piece::Reference(reference)] = pieces.as_slice() else { return Some("string".to_owned()) };
        let value = match &reference.root {
            Root::Output { step, name } => {
                return output_type(self.graph, self.step, reference, step, name).ok()??.schema_word().map(str::to_owned);
            }
            Root::Environment => self.checker.environment?,
            Root::Parameters => &self.graph.parameters,
            Root::Services => &self.graph.services,
            Root::All => &self.graph.all,
        };
        match reference::walk(value, &reference.path).ok()? {
            Value::Null => None,
            Value::Bool(_) => Some("boolean".to_owned()),
            Value::Number(_) => Some("number".to_owned()),
            Value::String(_) => Some("string".to_owned()),
            Value::Array(_) => Some("array".to_owned()),
            Value::Object(_) => Some("object".to_owned()),
        }
    }
}

fn each_text(value: &Value, path: &mut Vec<Key>, see: &mut dyn FnMut(&str, &[Key])) {
    match value {
        Value::String(text) => see(text, path),
        Value::Array(items) => {
            for (n, item) in items.iter().enumerate() {
                path.push(Key::At(n));
                each_text(item, path, see);
                path.pop();
            }
        }
        Value::Object(map) => {
            for (key, item) in map {
                path.push(Key::Name(key.clone()));
                each_text(item, path, see);
                path.pop();
            }
        }
        _ => {}
    }
}
