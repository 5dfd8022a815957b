//! A database client as a pod is one: by host name, TLS verified against the sandbox's CA, password from the secret.
use std::{fs, net::Ipv4Addr, path::Path, sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_postgres::{Config, NoTls, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{DEADLINE, HOME, Sandbox};

const GIVEN_PASSWORD: &str = "given-by-the-test-1";

impl Sandbox {
    fn about(&self, region: &str, id: &str) -> serde_json::Value {
        let path = self.layout.file(format!("rds/{region}/connect/{id}.json"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    async fn try_connect(&self, region: &str, id: &str) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let about = self.about(region, id);
        let password = match about["secret_arn"].as_str() {
            Some(arn) => self.account.secret(arn)["password"].as_str().unwrap().to_owned(),
            None => GIVEN_PASSWORD.to_owned(),
        };
        let mut config = Config::new();
        config.host(about["host"].as_str().unwrap()).hostaddr(about["address"].as_str().unwrap().parse().unwrap());
        config.user(about["user"].as_str().unwrap()).password(password).dbname(about["dbname"].as_str().unwrap());
        config.port(about["port"].as_u64().unwrap() as u16).ssl_mode(SslMode::Require).connect_timeout(Duration::from_secs(5));
        let (client, connection) = config.connect(self.verifying()).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    fn verifying(&self) -> MakeRustlsConnect {
        use rustls::pki_types::{CertificateDer, pem::PemObject as _};
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.layout.database_ca()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        MakeRustlsConnect::new(config.with_root_certificates(roots).with_no_client_auth())
    }

    pub async fn connect(&self, region: &str, id: &str) -> tokio_postgres::Client {
        self.try_connect(region, id).await.unwrap()
    }

    pub async fn refused_without_tls(&self, id: &str) {
        let about = self.about(HOME, id);
        let mut config = Config::new();
        config
            .host(about["address"].as_str().unwrap())
            .user("deployctl_admin")
            .password("wrong")
            .ssl_mode(SslMode::Disable)
            .dbname("deployctl");
        let Err(error) = config.connect(NoTls).await else { panic!("connected without TLS") };
        assert!(format!("{error:?}").contains("no encryption"), "{error:?}");
    }

    pub async fn count(&self, region: &str, id: &str, table: &str) -> i64 {
        self.connect(region, id).await.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0)
    }

    pub async fn count_within(&self, region: &str, id: &str, table: &str, wanted: i64) {
        let end = Instant::now() + DEADLINE;
        loop {
            if let Ok(client) = self.try_connect(region, id).await {
                let row = client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await;
                if let Ok(row) = row {
                    assert_eq!(row.get::<_, i64>(0), wanted);
                    return;
                }
            }
            assert!(Instant::now() < end, "{id} did not come back");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// A restored instance keeps its old password unless it is given one.
    pub async fn set_password(&self, client: &aws_sdk_rds::Client, id: &str) {
        client.modify_db_instance().db_instance_identifier(id).master_user_password(GIVEN_PASSWORD).send().await.unwrap();
        self.available(client, id).await;
    }

    pub async fn pid(&self, id: &str) -> u32 {
        let address: Ipv4Addr = self.about(HOME, id)["address"].as_str().unwrap().parse().unwrap();
        self.supervisor.pid_at(address)
    }

    pub async fn kill(&self, id: &str) -> u32 {
        let pid = self.pid(id).await;
        let target = rustix::process::Pid::from_raw(pid as i32).unwrap();
        rustix::process::kill_process(target, rustix::process::Signal::KILL).unwrap();
        pid
    }

    /// Every password that was in a secret, searched for in everything that RDS wrote.
    pub fn no_password_on_disk(&self) {
        let mut passwords: Vec<String> = vec![GIVEN_PASSWORD.into()];
        for text in self.account.secrets.lock().unwrap().values() {
            let secret: serde_json::Value = serde_json::from_str(text).unwrap();
            passwords.push(secret["password"].as_str().unwrap().to_owned());
        }
        search(self.folder.path(), &passwords);
    }
}

fn search(folder: &Path, passwords: &[String]) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            search(&path, passwords);
        } else if let Ok(bytes) = fs::read(&path) {
            for password in passwords {
                let found = bytes.windows(password.len()).any(|window| window == password.as_bytes());
                assert!(!found, "a password is in {}", path.display());
            }
        }
    }
}
