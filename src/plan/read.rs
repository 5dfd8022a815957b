//! Reads plan file and environment file; whatever is wrong in them is shown with its line and a hint.
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde_json::Value;

use super::{
    check::Checker,
    definition::Definition,
    environment::Environment,
    environment_exposure, environment_rules, environment_types,
    file::PlanFile,
    locate,
    problem::{self, Problem},
    suggest,
};
use crate::{
    failure::{Failure, FailureKind},
    ids::EnvironmentName,
    steps::registry::Registry,
};

/// The plan file, from the project's root.
pub const PLAN_FILE: &str = "plans/deploy.yaml";

/// The project's folder: `named`, or the nearest one above `here` that holds a plan file.
pub fn find_project(named: Option<&Path>, here: &Path) -> Result<PathBuf, Failure> {
    match named {
        Some(folder) if folder.join(PLAN_FILE).is_file() => Ok(folder.to_owned()),
        Some(folder) => {
            Err(Failure::usage(format!("{} holds no {PLAN_FILE}", folder.display())).next("name the project's folder: --project DIR"))
        }
        None => here.ancestors().find(|folder| folder.join(PLAN_FILE).is_file()).map(Path::to_owned).ok_or_else(|| {
            Failure::usage(format!("neither {} nor a folder above it holds {PLAN_FILE}", here.display()))
                .next("go to the project's folder, or name it: --project DIR")
        }),
    }
}

/// The names of all environments, sorted.
pub fn environments(project: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(project.join("plans/environments")) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.strip_suffix(".yaml").map(str::to_owned))
        .filter(|name| EnvironmentName::parse(name.as_str()).is_ok())
        .collect();
    names.sort();
    names
}

fn text_of(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::usage(format!("cannot read {}", path.display())).because(error))
}

/// The environment file of that name.
pub fn environment(project: &Path, name: &EnvironmentName) -> Result<Environment, Failure> {
    let shown = PathBuf::from(format!("plans/environments/{name}.yaml"));
    let path = project.join(&shown);
    if !path.is_file() {
        let all = environments(project);
        let mut failure = Failure::usage(format!("there is no environment `{name}`: {} does not exist", shown.display()));
        if let Some(near) = suggest::nearest(name.as_str(), all.iter().map(String::as_str)) {
            failure = failure.next(format!("did you mean -e {near}?"));
        }
        return Err(failure.next(format!("environments here: {}", all.join(", "))));
    }
    let text = text_of(&path)?;
    environment_from(&shown, &text)
}

/// An environment from its text. Everything that is wrong in it is said at once; what is well written and exposes a service is refused by policy.
pub fn environment_from(shown: &Path, text: &str) -> Result<Environment, Failure> {
    let wrong = |error: serde_saphyr::Error| problem::failure(shown, text, vec![Problem::of_yaml(&error)]);
    let environment: Environment = match serde_saphyr::from_str(text) {
        Ok(environment) => environment,
        Err(error) => return Err(mistyped(shown, text, &error).unwrap_or_else(|| wrong(error))),
    };
    let located = locate::locate(text).map_err(wrong)?;
    let mut problems = environment_rules::check(&environment, &located, shown);
    let exposed = environment_exposure::check(&environment, &located);
    match (problems.is_empty(), exposed.is_empty()) {
        (true, true) => Ok(environment),
        (true, false) => Err(Failure { kind: FailureKind::Policy, ..problem::failure(shown, text, exposed) }),
        (false, _) => {
            problems.extend(exposed);
            Err(problem::failure(shown, text, problems))
        }
    }
}

/// Every value that is not of its type, and whatever else can be said of the rest; none if only the parser knows what is wrong.
fn mistyped(shown: &Path, text: &str, error: &serde_saphyr::Error) -> Option<Failure> {
    let located = locate::locate(text).ok()?;
    let found = environment_types::check(text, &located).filter(|found| !found.problems.is_empty())?;
    let mut problems = found.problems;
    let first = Problem::of_yaml(error);
    if !problems.iter().any(|problem| problem.spot.line == first.spot.line) {
        problems.push(first);
    }
    if let Some(mended) = &found.mended {
        let rules = environment_rules::check(mended, &located, shown).into_iter().chain(environment_exposure::check(mended, &located));
        problems.extend(rules.filter(|problem| !found.doubtful.contains(&problem.spot)));
    }
    Some(problem::failure(shown, text, problems))
}

/// A plan file from its text, checked against the environment if there is one.
pub fn plan_file_from(
    shown: &Path,
    text: &str,
    project: &Path,
    registry: &Registry,
    environment: Option<&Environment>,
) -> Result<PlanFile, Failure> {
    let wrong = |error: serde_saphyr::Error| problem::failure(shown, text, vec![Problem::of_yaml(&error)]);
    let file: PlanFile = serde_saphyr::from_str(text).map_err(wrong)?;
    let located = locate::locate(text).map_err(wrong)?;
    let environment: Option<Value> = environment
        .map(serde_json::to_value)
        .transpose()
        .map_err(|error| Failure::new(FailureKind::Internal, "the environment file is not JSON").because(error))?;
    let checker = Checker { file: &file, located: &located, registry, environment: environment.as_ref(), project };
    let problems = checker.problems();
    if problems.is_empty() { Ok(file) } else { Err(problem::failure(shown, text, problems)) }
}

/// Both files, checked.
pub fn definition(project: &Path, name: &EnvironmentName, registry: &Registry) -> Result<Definition, Failure> {
    definition_of(project, PLAN_FILE, BTreeMap::new(), environment(project, name)?, registry)
}

/// Another plan file, with values for its parameters, and the environment that it is for.
pub fn definition_of(
    project: &Path,
    plan_file: &str,
    parameters: BTreeMap<&str, Value>,
    environment: Environment,
    registry: &Registry,
) -> Result<Definition, Failure> {
    let text = text_of(&project.join(plan_file))?;
    let mut file = plan_file_from(Path::new(plan_file), &text, project, registry, Some(&environment))?;
    for (name, value) in parameters {
        let Some(parameter) = file.parameters.get_mut(name) else {
            return Err(Failure::usage(format!("{plan_file} has no parameter `{name}`")).next("add it there, under `parameters`"));
        };
        *parameter = value;
    }
    Definition::new(file, environment)
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
