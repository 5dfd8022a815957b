//! Looking inside a database as its master user: one that was restored, and the one that a drill or a snapshot is taken of. Changes nothing: what
//! is needed for looking is rolled back.
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio_postgres::Client;

use super::{
    account::AccountArgs,
    checked,
    database::{Credentials, PATIENCE, read},
    say,
};
use crate::{
    database::{
        audit::{self, Depth},
        connect::{Target, connect},
        examine,
        hold::{self, HoldError},
        watermark,
    },
    failure::{Failure, FailureKind},
};

/// How often a hold looks whether it still holds; a server ends a transaction that is idle for minutes.
const BEAT: Duration = Duration::from_secs(1);

/// As long as a quick look may read rows: a database that was just restored fetches each of its blocks from far away.
const QUICK: Duration = Duration::from_secs(60);

/// Which database, and as whom: an address that no secret says yet, or that of the moment.
#[derive(Args, Clone, Debug)]
pub struct AddressArgs {
    #[command(flatten)]
    account: AccountArgs,
    /// The database's host
    #[arg(long)]
    host: String,
    /// Its port
    #[arg(long)]
    port: u16,
    /// The database in it
    #[arg(long)]
    dbname: String,
    /// The secret with username and password
    #[arg(long)]
    credentials_secret: String,
    /// PEM file of the authorities that sign the server's certificate
    #[arg(long)]
    authorities: PathBuf,
}

/// `deployctl agent audit` and `watermark`.
#[derive(Args, Clone, Debug)]
pub struct AuditArgs {
    #[command(flatten)]
    address: AddressArgs,
    /// How much is looked at
    #[arg(long, value_enum, default_value_t)]
    depth: Depth,
}

impl AuditArgs {
    fn budget(&self) -> Option<Duration> {
        (self.depth == Depth::Quick).then_some(QUICK)
    }
}

/// `deployctl agent hold-writes`.
#[derive(Args, Clone, Debug)]
pub struct HoldArgs {
    #[command(flatten)]
    address: AddressArgs,
    /// Seconds to wait for whoever is writing, with everybody else queued behind
    #[arg(long, default_value_t = 5)]
    lock_seconds: u64,
    /// Give up after so many seconds: nobody is kept from writing for ever
    #[arg(long)]
    seconds: u64,
}

impl AddressArgs {
    async fn connect(&self) -> Result<Client, Failure> {
        let aws = self.account.connect().await?;
        let Credentials { username, password } = read(&aws, &self.credentials_secret).await?;
        let target = Target { host: self.host.clone(), port: self.port, database: self.dbname.clone(), user: username, password };
        connect(&target, &self.authorities, PATIENCE).await.map_err(|error| {
            Failure::step(format!("{} can't be reached from inside the cluster", self.host))
                .because(error)
                .next("check that its security group lets this cluster's nodes in")
        })
    }
}

fn failed(error: tokio_postgres::Error) -> Failure {
    Failure::step("the database could not be looked at").because(error)
}

/// What it holds, what is wrong with it, up to when it has what was committed.
pub async fn run(args: &AuditArgs) -> Result<Value, Failure> {
    let mut client = args.address.connect().await?;
    let started = Instant::now();
    let watermark = watermark::watermark(&mut client, args.budget()).await.map_err(failed)?;
    checked("the newest commit", started)?;
    let started = Instant::now();
    let record = audit::record(&mut client, args.depth).await.map_err(failed)?;
    checked("what it holds", started)?;
    let started = Instant::now();
    let examined = examine::examine(&mut client, args.depth).await.map_err(failed)?;
    checked("indexes and sequences", started)?;
    Ok(json!({ "record": record, "examined": examined, "watermark": watermark }))
}

/// Up to when it has what was committed.
pub async fn watermark(args: &AuditArgs) -> Result<Value, Failure> {
    let mut client = args.address.connect().await?;
    Ok(json!({ "watermark": watermark::watermark(&mut client, args.budget()).await.map_err(failed)? }))
}

/// Holds writes until it is ended from outside: that is its good end, and its result says that the locks were there all the time. Says `held`,
/// then `record`.
pub async fn hold_writes(args: &HoldArgs) -> Result<Value, Failure> {
    let unheard = |error| Failure::new(FailureKind::Internal, "signals cannot be listened for").because(error);
    let mut ended = signal(SignalKind::terminate()).map_err(unheard)?;
    let mut client = args.address.connect().await?;
    let hold = hold::hold(&mut client, Duration::from_secs(args.lock_seconds)).await.map_err(|error| {
        let kind = if matches!(error, HoldError::Refused(..)) { FailureKind::Policy } else { FailureKind::Step };
        Failure::new(kind, "writes could not be paused").because(error).next("take the snapshot when fewer write, or without pausing them")
    })?;
    say(&json!({ "held": true }))?;
    let holding = async {
        say(&json!({ "record": hold.record().await.map_err(failed)? }))?;
        loop {
            if let Err(broken) = hold.is_held().await {
                return Err::<(), Failure>(failed(broken));
            }
            tokio::time::sleep(BEAT).await;
        }
    };
    let limit = Duration::from_secs(args.seconds);
    tokio::select! {
        broken = holding => broken,
        _ = ended.recv() => Ok(()),
        () = tokio::time::sleep(limit) => Err(Failure::timeout("the snapshot, with writes paused", limit)),
    }?;
    // One transaction, from the first lock to here: nobody has written in between.
    hold.is_held().await.map_err(failed)?;
    hold.release().await.map_err(failed)?;
    Ok(json!({ "held": true }))
}
