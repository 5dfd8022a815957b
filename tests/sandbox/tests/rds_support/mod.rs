//! A sandbox that is nothing but RDS: router, servers on 127.0.1.x, a supervisor and an account of its own.
mod account;
mod database;
mod supervisor;

use std::{
    fmt::Debug,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use account::Account;
use aws_sdk_rds::{
    Client, Config,
    config::{BehaviorVersion, Credentials, Region as AwsRegion},
    error::{ProvideErrorMetadata, SdkError},
    operation::create_db_instance::builders::CreateDBInstanceFluentBuilder,
    primitives::DateTime,
    types::DbInstance,
};
use axum::{extract::Request, middleware::Next};
use deployctl_sandbox::{
    layout::{Layout, Site},
    rds::{Addresses, Interface, Rds},
};
use supervisor::Supervisor;
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::Instant};

pub const HOME: &str = "us-east-1";
pub const DR: &str = "eu-west-1";
const DEADLINE: Duration = Duration::from_secs(90);

/// One RDS with its own folder and addresses; `stop` ends its servers.
pub struct Sandbox {
    folder: TempDir,
    first: u8,
    layout: Layout,
    endpoint: SocketAddr,
    rds: Rds,
    serving: JoinHandle<()>,
    pub supervisor: Arc<Supervisor>,
    pub account: Arc<Account>,
}

/// The AWS error code of a call that must be refused.
pub fn code<T: Debug, E: ProvideErrorMetadata + Debug>(result: Result<T, SdkError<E>>) -> String {
    match result.unwrap_err() {
        SdkError::ServiceError(error) => error.err().code().unwrap_or_default().to_owned(),
        other => panic!("{other:?}"),
    }
}

impl Sandbox {
    /// `first`: the last number of the first address, so that tests can run side by side.
    pub async fn start(first: u8) -> Self {
        let folder = tempfile::Builder::new().prefix("rds-").tempdir_in(std::env::var("HOME").unwrap()).unwrap();
        Self::open(folder, first, Arc::new(Account::default())).await
    }

    async fn open(folder: TempDir, first: u8, account: Arc<Account>) -> Self {
        let state = folder.path().to_owned();
        let layout = Layout { name: "rds".into(), slot: 0, state: state.clone(), cache: state.clone(), project: state, site: Site::Home };
        let supervisor = Arc::new(Supervisor::new(layout.file("log")));
        let addresses =
            Addresses { pool: (first..first + 40).map(|last| Ipv4Addr::new(127, 0, 1, last)).collect(), interface: Interface::Loopback };
        let rds = Rds::open(&layout, Arc::clone(&supervisor) as _, Arc::clone(&account) as _, addresses).unwrap();
        rds.resume().await.unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap();
        let router = rds.router().layer(axum::middleware::from_fn(authenticate));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { folder, first, layout, endpoint, rds, serving, supervisor, account }
    }

    /// What a daemon's crash and successor are to RDS: a new service on the same folder.
    pub async fn restart(self) -> Self {
        self.serving.abort();
        self.rds.close().await.unwrap();
        self.supervisor.stop_all().await;
        Self::open(self.folder, self.first, self.account).await
    }

    pub async fn stop(self) {
        self.serving.abort();
        self.rds.close().await.unwrap();
        self.supervisor.stop_all().await;
        // A folder that cannot be removed means that something still writes into it.
        self.folder.close().unwrap();
    }

    /// Where the API is.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.endpoint)
    }

    pub fn client(&self, region: &str) -> Client {
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(format!("http://{}", self.endpoint))
            .region(AwsRegion::new(region.to_owned()))
            .retry_config(aws_sdk_rds::config::retry::RetryConfig::disabled())
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .build();
        Client::from_conf(config)
    }

    pub fn creation(&self, client: &Client, id: &str) -> CreateDBInstanceFluentBuilder {
        let creation = client.create_db_instance().db_instance_identifier(id).engine("postgres").engine_version("15");
        let creation = creation.db_instance_class("db.t4g.micro").allocated_storage(20).db_name("deployctl");
        creation.master_username("deployctl_admin").manage_master_user_password(true).backup_retention_period(7)
    }

    pub async fn create(&self, client: &Client, id: &str, encrypted: bool) {
        let made = self.creation(client, id).storage_encrypted(encrypted).send().await.unwrap();
        assert_eq!(made.db_instance().unwrap().db_instance_status(), Some("creating"));
        self.available(client, id).await;
    }

    pub async fn instance(&self, client: &Client, id: &str) -> DbInstance {
        client.describe_db_instances().db_instance_identifier(id).send().await.unwrap().db_instances()[0].clone()
    }

    pub async fn available(&self, client: &Client, id: &str) {
        self.status(client, id, "available").await;
    }

    pub async fn status(&self, client: &Client, id: &str, wanted: &str) {
        let end = Instant::now() + DEADLINE;
        loop {
            let found = client.describe_db_instances().db_instance_identifier(id).send().await;
            let status = found.ok().and_then(|found| found.db_instances()[0].db_instance_status().map(str::to_owned));
            if status.as_deref() == Some(wanted) {
                return;
            }
            if status.as_deref() == Some("failed") || Instant::now() > end {
                let events = client.describe_events().send().await.unwrap();
                panic!("{id} is {status:?}, not {wanted}: {:?}", events.events().last());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn gone(&self, client: &Client, id: &str) {
        let end = Instant::now() + DEADLINE;
        while client.describe_db_instances().db_instance_identifier(id).send().await.is_ok() {
            assert!(Instant::now() < end, "{id} is still there");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn snapshot_available(&self, client: &Client, id: &str) {
        let end = Instant::now() + DEADLINE;
        loop {
            let found = client.describe_db_snapshots().db_snapshot_identifier(id).send().await.unwrap();
            let snapshot = &found.db_snapshots()[0];
            if snapshot.status() == Some("available") {
                assert_eq!(snapshot.percent_progress(), Some(100));
                return;
            }
            assert!(snapshot.status() != Some("failed") && Instant::now() < end, "{snapshot:?}");
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    pub async fn restorable_until(&self, client: &Client, id: &str, moment: DateTime) {
        let end = Instant::now() + DEADLINE;
        while self.instance(client, id).await.latest_restorable_time().is_none_or(|latest| *latest <= moment) {
            assert!(Instant::now() < end, "{id} cannot be restored to {moment:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn replicated_until(&self, client: &Client, arn: &str, moment: DateTime) {
        let end = Instant::now() + DEADLINE;
        loop {
            let found = client.describe_db_instance_automated_backups().db_instance_automated_backups_arn(arn).send().await.unwrap();
            let backup = &found.db_instance_automated_backups()[0];
            if backup.restore_window().and_then(|window| window.latest_time()).is_some_and(|latest| *latest > moment) {
                return;
            }
            assert!(Instant::now() < end, "{backup:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Takes a region down and waits until its servers are.
    pub async fn lose(&self, region: &str) {
        let folder = self.layout.file("regions-down");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(region), "").unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
    }

    pub fn find(&self, region: &str) {
        std::fs::remove_file(self.layout.file("regions-down").join(region)).unwrap();
    }
}

/// What the emulator does in front of the router: the region comes out of the signature's scope.
async fn authenticate(mut request: Request, next: Next) -> axum::response::Response {
    let scope = request.headers().get("authorization").unwrap().to_str().unwrap().to_owned();
    let region = scope.split('/').nth(2).unwrap().parse().unwrap();
    request.headers_mut().insert("x-sandbox-region", region);
    next.run(request).await
}
