//! AWS: the library's own clients against ministack, through the proxy. One process of its own, for AWS_ENDPOINT_URL is the process'.
use std::{sync::Arc, time::Duration};

use deployctl::{
    aws::{
        Aws,
        s3::{Condition, Written},
    },
    clock,
    engine::{
        event::{EventKind, Events},
        lease::{BEAT, BucketLease, Holder, Patience},
        records::BucketRecords,
    },
    failure::Failure,
    ids::{AccountId, BucketName, EnvironmentName, Region, RepositoryName, SecretName, StepId, TableName},
    plan::environment::SecretStore,
    waiting,
};
use futures::future::join_all;
use tokio::time::Instant;

use crate::{
    emulator,
    http_proxy::{Fault, HttpProxy},
    proof::{Proof, ensure, prove, report},
    registry,
    table::{Dependency, Kind, Row, rows},
};

const BUCKET: &str = "cells-of-the-table";
const TABLE: &str = "cells-of-the-table";
/// What a server that says when to come back asks for.
pub const ASKED: Duration = Duration::from_secs(3);
const SLOW: Duration = Duration::from_secs(4);

/// One line of the table, with a name that its requests carry.
pub struct Cell {
    pub row: Row,
    pub name: String,
}

pub struct World {
    pub aws: Arc<Aws>,
    pub proxy: HttpProxy,
}

fn bucket(name: &str) -> BucketName {
    BucketName::parse(name).unwrap()
}

fn table() -> TableName {
    TableName::parse(TABLE).unwrap()
}

fn body(name: &str) -> String {
    name.repeat(8 * 1024)
}

/// The words that a request of this call, and no other, has in it.
fn needles(call: &str, name: &str) -> Vec<String> {
    let words: &[&str] = match call {
        "get-object" => &["GET /cells-of-the-table/", name],
        "put-object" => &["PUT /cells-of-the-table/", name],
        "delete-object-of" => &["DELETE /cells-of-the-table/", name],
        "create-bucket" => &["PUT /", name],
        "take-lock" | "correct-digest" => &[".PutItem", name],
        "release-lock" => &[".DeleteItem", name],
        "create-table" => &[".CreateTable", name],
        "create-repository" => &[".CreateRepository", name],
        "create-secret" => &[".CreateSecret", name],
        "put-secret" => &[".PutSecretValue", name],
        "describe-subnets" => &["Action=DescribeSubnets", name],
        "lease" => &["/deployctl/lease.json", name],
        other => panic!("no such call: {other}"),
    };
    words.iter().map(ToString::to_string).collect()
}

/// How the services say it, in the form of their protocol.
fn fault(row: &Row) -> Fault {
    let xml = |status, code: &str| (status, format!("<Error><Code>{code}</Code><Message>a fault</Message></Error>"));
    let json = |status, code: &str| (status, format!("{{\"__type\":\"com.amazonaws#{code}\",\"message\":\"a fault\"}}"));
    let query = |status, code: &str| {
        (status, format!("<Response><Errors><Error><Code>{code}</Code><Message>a fault</Message></Error></Errors></Response>"))
    };
    let s3 = row.call.ends_with("object") || row.call.ends_with("object-of") || row.call.ends_with("bucket");
    let (status, body) = match row.kind {
        Kind::Throttled if s3 => xml(503, "SlowDown"),
        Kind::Throttled if row.call == "describe-subnets" => query(503, "RequestLimitExceeded"),
        Kind::Throttled => json(400, "ThrottlingException"),
        // As a proxy or a gateway says it: no code of the service's.
        Kind::RetryAfter => (429, "too many requests".to_owned()),
        Kind::ServerError if s3 => xml(500, "InternalError"),
        Kind::ServerError => (500, "oh".to_owned()),
        Kind::Silent => return Fault::Silent,
        Kind::Reset => return Fault::Reset,
        Kind::CutRequest => return Fault::CutRequest,
        Kind::LostAnswer => return Fault::LostAnswer,
        Kind::CutAnswer => return Fault::CutAnswer,
        Kind::Slow if row.call == "lease" => return Fault::Slow(Duration::from_secs(2)),
        Kind::Slow => return Fault::Slow(SLOW),
        Kind::Refused => panic!("nobody listens: no request meets it"),
    };
    let headers = if row.kind == Kind::RetryAfter { vec![("retry-after", ASKED.as_secs().to_string())] } else { Vec::new() };
    Fault::Answer { status, headers, body }
}

impl World {
    /// What must be there before.
    async fn prepare(&self, call: &str, name: &str) {
        let aws = &self.aws;
        match call {
            "get-object" | "delete-object-of" => {
                aws.put_object(&bucket(BUCKET), name, body(name), Condition::None).await.unwrap();
            }
            "release-lock" => assert!(aws.take_lock_item(&table(), name, "mine").await.unwrap()),
            "correct-digest" => assert!(self.put_digest(name, "wrong").await),
            "put-secret" => drop(self.put_secret(name, "first").await.unwrap()),
            "lease" => aws.create_bucket(&bucket(name)).await.unwrap(),
            _ => {}
        }
    }

    /// A state's MD5, as terraform writes it.
    async fn put_digest(&self, name: &str, digest: &str) -> bool {
        let scope = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=x";
        let item = serde_json::json!({"TableName": TABLE, "Item": {"LockID": {"S": format!("{name}-md5")}, "Digest": {"S": digest}}});
        let request = reqwest::Client::new().post(self.proxy.base()).header("authorization", scope).body(item.to_string());
        let request = request.header("content-type", "application/x-amz-json-1.0").header("x-amz-target", "DynamoDB_20120810.PutItem");
        request.send().await.unwrap().status().is_success()
    }

    async fn put_secret(&self, name: &str, value: &str) -> Result<deployctl::aws::secrets::StoredSecret, Failure> {
        let (environment, secret) = (EnvironmentName::parse(name).unwrap(), SecretName::parse("token").unwrap());
        self.aws.put_secret(SecretStore::SecretsManager, &environment, &secret, &value.to_owned().into()).await
    }

    /// The call, and whether it brought what it should.
    async fn call(&self, call: &str, name: &str) -> Result<(), Failure> {
        let (aws, bucket_of_all) = (&self.aws, bucket(BUCKET));
        match call {
            "get-object" => {
                let found = aws.get_object(&bucket_of_all, name).await?;
                ensure(found.is_some_and(|found| found.body == body(name)), "the object is as it was written")
            }
            "put-object" => {
                // Refused where the first attempt has arrived: whoever writes under a condition reads back.
                let written = aws.put_object(&bucket_of_all, name, body(name), Condition::Absent).await?;
                let there = aws.get_object(&bucket_of_all, name).await?.is_some_and(|found| found.body == body(name));
                ensure(there && matches!(written, Written::Done { .. } | Written::Refused), "the object is there")
            }
            "delete-object-of" => {
                let etag = aws.get_object(&bucket_of_all, name).await?.unwrap().etag;
                ensure(aws.delete_object_of(&bucket_of_all, name, &etag).await?, "what was deleted counts as deleted")
            }
            "create-bucket" => {
                aws.create_bucket(&bucket(name)).await?;
                ensure(aws.bucket_exists(&bucket(name)).await?, "the bucket is there")
            }
            "take-lock" => {
                ensure(aws.take_lock_item(&table(), name, "mine").await?, "who took the lock knows that he has it")?;
                ensure(aws.lock_item(&table(), name).await?.as_deref() == Some("mine"), "the lock says whose it is")
            }
            "release-lock" => {
                ensure(aws.release_lock_item_of(&table(), name, "mine").await?, "who released the lock knows that he has")?;
                ensure(aws.lock_item(&table(), name).await?.is_none(), "nobody holds it")
            }
            "correct-digest" => {
                ensure(aws.correct_state_digest(&table(), name, "wrong", "right").await?, "who corrected it knows that he has")?;
                ensure(aws.state_digest(&table(), name).await?.as_deref() == Some("right"), "the MD5 is right")
            }
            "create-table" => aws.create_lock_table(&TableName::parse(name).unwrap(), &[], Duration::from_secs(30)).await,
            "create-repository" => {
                let made = aws.ensure_repository(&RepositoryName::parse(name).unwrap(), &Default::default()).await?;
                ensure(made.immutable_tags && made.scans_on_push, "the repository is as asked")
            }
            "create-secret" | "put-secret" => {
                let put = self.put_secret(name, "second").await?;
                let (environment, secret) = (EnvironmentName::parse(name).unwrap(), SecretName::parse("token").unwrap());
                let found = aws.find_secret(SecretStore::SecretsManager, &environment, &secret).await?;
                ensure(found.is_some_and(|found| found.version == put.version), "there is one new version, the one that was put")
            }
            "describe-subnets" => ensure(aws.subnets_tagged("cell", name).await?.is_empty(), "there is no such subnet"),
            "lease" => self.keep_a_lease(name).await,
            other => panic!("no such call: {other}"),
        }
    }

    /// Beats for longer than a lease is believed in without, one answer being lost.
    async fn keep_a_lease(&self, name: &str) -> Result<(), Failure> {
        let (environment, holder) = (EnvironmentName::parse("staging").unwrap(), Holder::this_process("apply"));
        let cancel = Default::default();
        let patience = Patience { limit: Duration::ZERO, cancel: &cancel, waiting: &|_| {}, now: clock::since_boot };
        let records = Arc::new(BucketRecords::alone(self.aws.clone(), bucket(name)));
        let lease = BucketLease::acquire(records, &environment, &holder, &patience).await?;
        let end = Instant::now() + Duration::from_secs(18);
        let (mut beats, mut confirmed) = (0, 0);
        while Instant::now() < end {
            if beats == 2 {
                self.proxy.strike_first(&["PUT /".to_owned(), "/deployctl/lease.json".to_owned(), name.to_owned()], Fault::LostAnswer, 1);
            }
            let next = Instant::now() + BEAT;
            let before = lease.check();
            confirmed += usize::from(lease.heartbeat().await.is_ok());
            ensure(before.is_ok() && lease.check().is_ok(), "the lease is believed in all the time")?;
            beats += 1;
            tokio::time::sleep_until(next).await;
        }
        ensure(confirmed == beats, "every beat leaves it held")?;
        lease.release().await
    }

    /// Strikes and calls.
    async fn prove(&self, cell: &Cell) -> Proof {
        let Cell { row, name } = cell;
        self.prepare(row.call, name).await;
        let attempts = self.proxy.strike_as(row, needles(row.call, name), fault).await;
        prove(row, self.call(row.call, name), attempts).await
    }
}

/// The lines of a dependency, each with a name.
pub fn cells(of: Dependency) -> Vec<Cell> {
    let word = format!("{of:?}").to_lowercase();
    rows(of).into_iter().enumerate().map(|(number, row)| Cell { row, name: format!("{word}-{number:03}-cell") }).collect()
}

#[test]
fn aws_and_the_registry() {
    emulator::with_proxied_aws("aws::aws_and_the_registry", |emulator| async move {
        let endpoint = std::env::var("AWS_ENDPOINT_URL").unwrap();
        let address = endpoint.strip_prefix("http://").unwrap().parse().unwrap();
        let proxy = HttpProxy::start(address, &emulator, reqwest::Client::new()).await;
        let aws = Aws::connect(&Region::parse("us-east-1").unwrap(), None, &AccountId::parse("111122223333").unwrap()).await.unwrap();
        let world = World { aws: Arc::new(aws), proxy };
        world.aws.create_bucket(&bucket(BUCKET)).await.unwrap();
        world.aws.create_lock_table(&table(), &[], Duration::from_secs(30)).await.unwrap();
        let (aws_cells, registry_cells) = (cells(Dependency::Aws), cells(Dependency::Registry));
        // What meets everybody at once comes first, alone; then all the others at once.
        let mut proofs = Vec::new();
        for cell in aws_cells.iter().filter(|cell| cell.row.kind == Kind::Refused) {
            proofs.push(world.prove(cell).await);
        }
        for cell in registry_cells.iter().filter(|cell| cell.row.kind == Kind::Refused) {
            proofs.push(registry::prove_one(&world, cell).await);
        }
        let rest = |cell: &&Cell| cell.row.kind != Kind::Refused;
        let (of_aws, of_registry, jitter, said) = tokio::join!(
            join_all(aws_cells.iter().filter(rest).map(|cell| world.prove(cell))),
            join_all(registry_cells.iter().filter(rest).map(|cell| registry::prove_one(&world, cell))),
            jitter(&world),
            said(&world),
        );
        proofs.extend(of_aws.into_iter().chain(of_registry));
        proofs.push(Proof::of("who were turned away together do not come back together", jitter));
        proofs.push(Proof::of("a step that waits says what for", said));
        report(&proofs);
    });
}

/// Ten who are turned away at the same moment come back at ten different ones.
async fn jitter(world: &World) -> Result<(), Failure> {
    let names: Vec<String> = (0..10).map(|number| format!("jitter-{number}-cell")).collect();
    let first_pauses = |call: &'static str, status: u16| {
        let names = names.clone();
        async move {
            let pauses = names.iter().map(|name| async {
                let needles = needles(call, name);
                world.prepare(call, name).await;
                world.proxy.strike(&needles, Fault::Answer { status, headers: Vec::new(), body: String::new() }, 1);
                let since = Instant::now();
                world.call(call, name).await?;
                let seen = world.proxy.seen(&needles, since);
                ensure(seen.len() == 2, "two attempts")?;
                Ok::<_, Failure>((seen[1].at - seen[0].at).as_millis())
            });
            join_all(pauses).await.into_iter().collect::<Result<Vec<u128>, Failure>>()
        }
    };
    for (call, status) in [("get-object", 503), ("describe-subnets", 503)] {
        let mut pauses = first_pauses(call, status).await?;
        pauses.sort_unstable();
        eprintln!("pauses of ten who were turned away from {call} together: {pauses:?} ms");
        // The middle of them: single ones may be late for other reasons.
        ensure(pauses[7] - pauses[2] >= 50, "they do not come back together")?;
    }
    Ok(())
}

/// A step that waits for a silent service says so every ten seconds.
async fn said(world: &World) -> Result<(), Failure> {
    let (name, events, step) = ("said-cell", Events::default(), StepId::parse("backend").unwrap());
    let mut heard = events.subscribe();
    world.prepare("get-object", name).await;
    world.proxy.strike(&needles("get-object", name), Fault::Silent, 1);
    // What comes of it is another line of the table; this is long enough to hear it twice.
    let waiting = waiting::by_step(&step, &events, world.call("get-object", name));
    drop(tokio::time::timeout(Duration::from_secs(23), waiting).await);
    let mut waits = Vec::new();
    while let Ok(event) = heard.try_recv() {
        if let EventKind::Waiting { what, seconds, deadline_seconds, .. } = event.kind {
            waits.push((what, seconds, deadline_seconds));
        }
    }
    eprintln!("said while waiting: {waits:?}");
    ensure(waits.len() >= 2 && waits.iter().all(|(what, _, deadline)| what.contains(name) && *deadline == 150), "it says what it waits for")
}
