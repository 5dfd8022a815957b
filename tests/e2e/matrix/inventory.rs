//! What an environment has of everything that could be there twice, counted at the places themselves.
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{World, kinds};
use crate::{asked, commands::block_on, target::text};

/// Numbers by what they count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inventory(BTreeMap<String, usize>);

const REGIONS: [&str; 2] = ["us-east-1", "eu-west-1"];

impl Inventory {
    /// Counts.
    pub fn of(world: &World) -> Self {
        let mut counts = BTreeMap::new();
        jobs(world, &mut counts);
        terraform(world, &mut counts);
        registry_and_snapshots(world, &mut counts);
        database(world, &mut counts);
        for (action, id, _) in asked::NETWORK {
            counts.insert(format!("ec2 {action} {id}"), asked::network(world.target, action, id).len());
        }
        for region in REGIONS {
            counts.insert(format!("keys in {region}"), asked::keys(world.target, region));
            let groups = asked::json(world.target, "logs", region, "Logs_20140328.DescribeLogGroups", &json!({ "limit": 50 }));
            counts.insert(format!("log groups in {region}"), groups["logGroups"].as_array().unwrap().len());
        }
        let roles = asked::query(world.target, "iam", "us-east-1", "2010-05-08", &[("Action", "ListRoles"), ("MaxItems", "1000")]);
        counts.insert("roles".to_owned(), roles.matches("<RoleName>deployctl-sandbox-").count());
        Self(counts)
    }

    /// Fails with what differs, but for what these many migrations, each after a snapshot of its own, have added.
    pub fn grew_by(&self, before: &Self, migrations: usize, what: &str) {
        let mut expected = before.0.clone();
        for name in ["migrations", "versions", "tables of the matrix"] {
            *expected.get_mut(name).unwrap() += migrations;
        }
        for region in REGIONS {
            *expected.get_mut(&format!("snapshots in {region}")).unwrap() += migrations;
        }
        let names: BTreeSet<&String> = expected.keys().chain(self.0.keys()).collect();
        let differ: Vec<String> = names
            .into_iter()
            .filter(|name| expected.get(*name) != self.0.get(*name))
            .map(|name| format!("{name}: {:?} instead of {:?}", self.0.get(name), expected.get(name)))
            .collect();
        assert!(differ.is_empty(), "{what}: {differ:#?}");
    }
}

type Counts = BTreeMap<String, usize>;

/// What terraform has in its states, and whom it has locked out.
fn terraform(world: &World, counts: &mut Counts) {
    for step in world.definition.file.steps.iter().filter(|step| step.kind == "terraform") {
        let state = world.state(&kinds::stack(step));
        let resources = state["resources"].as_array().unwrap().iter().filter(|resource| resource["mode"] == "managed");
        let instances = resources.map(|resource| resource["instances"].as_array().unwrap().len()).sum();
        counts.insert(format!("terraform {}", step.id), instances);
    }
    counts.insert("locks of terraform".to_owned(), world.terraforms_locks().len());
}

fn registry_and_snapshots(world: &World, counts: &mut Counts) {
    block_on(async {
        let ecr = aws_sdk_ecr::Client::new(&world.target.sdk("us-east-1"));
        for repository in ecr.describe_repositories().send().await.unwrap().repositories() {
            let name = repository.repository_name().unwrap();
            let images = ecr.describe_images().repository_name(name).send().await.unwrap();
            let digests: BTreeSet<_> = images.image_details().iter().map(|image| image.image_digest()).collect();
            counts.insert(format!("images in {name}"), digests.len());
        }
        for region in REGIONS {
            let rds = aws_sdk_rds::Client::new(&world.target.sdk(region));
            let snapshots = rds.describe_db_snapshots().snapshot_type("manual").into_paginator().items().send();
            let snapshots: Result<Vec<_>, _> = snapshots.collect().await;
            counts.insert(format!("snapshots in {region}"), snapshots.unwrap().len());
        }
    });
}

/// Jobs that tell by their presence what need not run again; of the others none is at work.
fn jobs(world: &World, counts: &mut Counts) {
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        let jobs: Value = serde_json::from_str(&world.target.kubectl(&["get", "jobs", "--all-namespaces", "-o", "json"])).unwrap();
        let jobs = jobs["items"].as_array().unwrap();
        if jobs.iter().all(|job| job["status"]["active"].as_u64().unwrap_or(0) == 0) {
            for job in jobs.iter().filter(|job| job["spec"]["ttlSecondsAfterFinished"].is_null()) {
                let name = job["metadata"]["labels"]["app.kubernetes.io/name"].as_str().unwrap();
                *counts.entry(format!("Jobs {name}")).or_default() += 1;
            }
            return;
        }
        assert!(Instant::now() < end, "a Job does not end");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Read as the tables' owner, whose member the master user is made for the length of a transaction.
fn database(world: &World, counts: &mut Counts) {
    let tables = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'matrix\\_%'";
    let query = format!(
        "BEGIN; GRANT parser_migrate TO CURRENT_USER; SET LOCAL ROLE parser_migrate; \
         SELECT count(*), count(DISTINCT version), ({tables}), (SELECT count(*) - count(DISTINCT event_id) FROM outbox), \
         (SELECT count(*) - count(DISTINCT (bucket, key, version)) FROM files) FROM flyway_schema_history; ROLLBACK"
    );
    let said = text(&world.target.sandbox(&["exec", "psql", "-Atqc", &query]));
    let numbers: Vec<usize> = said.trim().split('|').map(|number| number.parse().unwrap_or_else(|_| panic!("{said}"))).collect();
    let names = ["migrations", "versions", "tables of the matrix", "event ids twice", "files twice"];
    assert_eq!(numbers.len(), names.len(), "{said}");
    counts.extend(names.map(str::to_owned).into_iter().zip(numbers));
    counts.extend(events(world));
}

/// Topics, and events of one file that carry different ids.
fn events(world: &World) -> Counts {
    let found = std::sync::Mutex::new(Counts::new());
    world.target.inside(async {
        // The broker's own listener, which nobody signs in at.
        let kafka = krafka::Kafka::builder("127.0.0.1:9094").client_id("the-test").connect().await.unwrap();
        let topics = kafka.admin().list_topics(Default::default()).await.unwrap();
        let topics: Vec<String> = topics.into_iter().filter(|name| !name.starts_with("__")).collect();
        let described = kafka.admin().describe_topics(&topics, Default::default()).await.unwrap();
        let mut ids: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut partitions = 0;
        for (topic, described) in described {
            let numbers: Vec<i32> = described.unwrap().partitions.iter().map(|partition| partition.partition).collect();
            partitions += numbers.len();
            let reset = krafka::consumer::AutoOffsetReset::Earliest;
            let consumer = kafka.consumer_without_group().auto_offset_reset(reset).build().await.unwrap();
            consumer.assign(&topic, numbers).await.unwrap();
            loop {
                let records = consumer.poll(Duration::from_millis(500)).await.unwrap();
                if records.is_empty() {
                    break;
                }
                for record in &records {
                    let event: Value = serde_json::from_str(record.value_str().unwrap()).unwrap();
                    ids.entry(event["file_id"].to_string()).or_default().insert(event["event_id"].to_string());
                }
            }
        }
        let twice = ids.values().filter(|ids| ids.len() > 1).count();
        *found.lock().unwrap() = [("topics", topics.len()), ("partitions", partitions), ("files with two event ids", twice)]
            .map(|(k, v)| (k.to_owned(), v))
            .into();
    });
    found.into_inner().unwrap()
}
