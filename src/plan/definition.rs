//! Plan file and environment file together: what somebody has asked for. Read and checked, nothing observed yet.
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    digest,
    environment::{Environment, SecretStore},
    file::{Permission, PlanFile, StepDeclaration},
    reference::Known,
};
use crate::{
    engine::dag::Dag,
    failure::{Failure, FailureKind},
    ids::StepId,
    steps::Outputs,
};

/// Where the database is; terraform/data writes it, so no service declares it.
pub const DATABASE_SECRET: &str = "database";

/// What somebody has asked for.
#[derive(Clone, Debug)]
pub struct Definition {
    /// The plan file.
    pub file: PlanFile,
    /// The environment file.
    pub environment: Environment,
    /// Its steps as a graph.
    pub dag: Dag,
    /// Over both files.
    pub digest: String,
    environment_value: Value,
    parameters_value: Value,
    services_value: Value,
    all_value: Value,
}

impl Definition {
    /// Puts both files together.
    pub fn new(file: PlanFile, environment: Environment) -> Result<Self, Failure> {
        let dag =
            Dag::new(file.steps.iter().map(|step| (&step.id, step.needs.as_slice()))).map_err(|cycle| Failure::usage(cycle.to_string()))?;
        charts_are_known(&file, &environment)?;
        let not_json = |error| Failure::new(FailureKind::Internal, "the plan file is not JSON").because(error);
        let environment_value = serde_json::to_value(&environment).map_err(not_json)?;
        let parameters_value = serde_json::to_value(&file.parameters).map_err(not_json)?;
        let services_value = serde_json::to_value(&file.services).map_err(not_json)?;
        let digest = digest::of(&json!([serde_json::to_value(&file).map_err(not_json)?, environment_value]))?;
        let all_value = all(&file, environment.secrets.store, environment.name.as_str());
        Ok(Self { file, environment, dag, digest, environment_value, parameters_value, services_value, all_value })
    }
    /// What references can reach, given these outputs.
    pub fn known<'a>(&'a self, outputs: &'a BTreeMap<StepId, Outputs>) -> Known<'a> {
        Known {
            environment: &self.environment_value,
            parameters: &self.parameters_value,
            services: &self.services_value,
            all: &self.all_value,
            outputs,
        }
    }
    /// A parameter's value that follows from what runs have recorded. No part of the digest: the same command goes on with the same run.
    pub fn recall(&mut self, parameter: &str, value: Value) {
        self.parameters_value[parameter] = value;
    }
    /// The step as it is written.
    pub fn step(&self, id: &StepId) -> Result<&StepDeclaration, Failure> {
        self.file.steps.iter().find(|step| step.id == *id).ok_or_else(|| Failure::usage(format!("the plan file has no step `{id}`")))
    }
}

/// Refuses an environment that chooses a chart which the plan file does not have, or leaves out one whose name is misspelt: it would do nothing.
/// Other plan files for the same environment have fewer charts, or none.
fn charts_are_known(file: &PlanFile, environment: &Environment) -> Result<(), Failure> {
    let charts = file.steps.iter().filter(|step| step.kind == "chart");
    let releases: Vec<&str> = charts.filter_map(|step| step.with["release"].as_str()).collect();
    if releases.is_empty() {
        return Ok(());
    }
    let near = |name: &str| super::suggest::nearest(name, releases.iter().copied());
    let unknown = |name: &&String| !releases.contains(&name.as_str());
    let chosen = environment.charts.chosen.iter().filter(unknown);
    let skipped = environment.charts.skip.keys().filter(unknown).filter(|name| near(name).is_some());
    let Some(name) = chosen.chain(skipped).next() else { return Ok(()) };
    let failure = Failure::usage(format!("`charts` of the environment file names {name}, which is the release of no step of kind chart"));
    Err(match near(name) {
        Some(near) => failure.next(format!("did you mean `{near}`?")),
        None => failure.next(format!("releases of the plan file: {}", releases.join(", "))),
    })
}

/// What the services and accounts of a plan file add up to; `${all.…}` reads it by these keys:
/// `credentials`, `service_accounts` (by NAMESPACE/ACCOUNT: namespace, service_account, statements, secrets: those that are brought to it), `queues` (by service), `secrets`, `topics`, `services` (names),
/// `secret_names` (by secret, `database` among them: its full name in the environment's store).
pub fn all(file: &PlanFile, store: SecretStore, environment: &str) -> Value {
    let statement = |permission: &Permission| {
        let mut statement = json!(permission);
        if let (Some(access), Some(fields)) = (permission.secrets, statement.as_object_mut()) {
            fields.remove("secrets");
            fields.insert("actions".to_owned(), json!(access.actions(store)));
        }
        statement
    };
    let account = |namespace: &str, name: &str, permissions: &[Permission], secrets: &[String]| {
        let statements: Vec<Value> = permissions.iter().map(statement).collect();
        let account = json!({ "namespace": namespace, "service_account": name, "statements": statements, "secrets": secrets });
        (format!("{namespace}/{name}"), account)
    };
    let service_accounts: serde_json::Map<String, Value> = file
        .services
        .values()
        .map(|s| account(&s.namespace, &s.service_account, &s.permissions, &s.secrets))
        .chain(file.accounts.values().map(|a| account(&a.namespace, &a.service_account, &a.permissions, &a.secrets)))
        .collect();
    let queues: BTreeMap<_, _> = file.services.iter().filter_map(|(name, service)| Some((name, service.queue.as_ref()?))).collect();
    let unique = |of: fn(&super::file::Service) -> &Vec<String>| file.services.values().flat_map(of).collect::<BTreeSet<_>>();
    let secrets: BTreeSet<&String> =
        unique(|service| &service.secrets).into_iter().chain(file.accounts.values().flat_map(|account| &account.secrets)).collect();
    let named = secrets.iter().map(|name| name.as_str()).chain([DATABASE_SECRET]);
    let secret_names: BTreeMap<&str, String> = named.map(|name| (name, store.full_name(environment, name))).collect();
    json!({
        "credentials": file.credentials,
        "service_accounts": service_accounts,
        "queues": queues,
        "secrets": secrets,
        "secret_names": secret_names,
        "topics": unique(|service| &service.topics),
        "services": file.services.keys().collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permission_on_secrets_is_of_the_environments_store() {
        let file: PlanFile = serde_saphyr::from_str(include_str!("../../plans/deploy.yaml")).unwrap();
        let [manager, parameters] = [SecretStore::SecretsManager, SecretStore::Ssm].map(|store| all(&file, store, "qa"));
        let actions = |all: &Value, account: &str| all["service_accounts"][account]["statements"].to_string();
        assert!(actions(&manager, "apps/uploader").contains("secretsmanager:GetSecretValue"));
        assert!(!actions(&manager, "apps/uploader").contains("ssm:"));
        assert!(
            actions(&parameters, "apps/uploader").contains("ssm:GetParameter")
                && !actions(&parameters, "apps/parser").contains("secretsmanager:")
        );
        // RDS keeps the passwords of master users in Secrets Manager, whatever the environment says: here, and of a restored database.
        let agent = parameters["service_accounts"]["deployctl/agent"]["statements"].as_array().unwrap();
        let of_manager = agent.iter().filter(|statement| statement["actions"].to_string().contains("secretsmanager:"));
        let secrets: Vec<String> = of_manager.map(|statement| statement["resources"].to_string()).collect();
        assert!(secrets.len() == 2 && secrets[0].contains("master") && secrets[1].contains("secret:rds!db-*"), "{secrets:?}");
        assert!(actions(&parameters, "deployctl/agent").contains("ssm:PutParameter"));
        assert_eq!(manager["secret_names"]["database"], "deployctl/qa/database");
        assert_eq!(parameters["secret_names"]["kafka"], "/deployctl/qa/kafka");
        assert!(file.writes_secret("parser-db") && !file.writes_secret("kafka"));
    }
}
