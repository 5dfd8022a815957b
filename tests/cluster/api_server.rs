//! Starts etcd and kube-apiserver on free ports of loopback in a folder of the test, and ends them with it.
use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use deployctl::{cluster::Cluster, ids::ClusterName};

use crate::installed;

/// A running API server; everything ends when it is dropped.
pub struct ApiServer {
    children: Vec<Child>,
    folder: tempfile::TempDir,
    port: u16,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl ApiServer {
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// With further arguments of the API server.
    pub fn start_with(further: &[&str]) -> Option<Self> {
        let binary = installed::kube_node()?;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let (etcd, peer, port) = (free_port(), free_port(), free_port());
        for name in ["etcd", "kube-apiserver"] {
            std::os::unix::fs::symlink(&binary, path.join(name)).unwrap();
        }
        openssl(path, &["genrsa", "-out", "sa.key", "2048"]);
        openssl(
            path,
            &["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=test-ca"],
        );
        openssl(path, &["req", "-newkey", "rsa:2048", "-nodes", "-keyout", "api.key", "-out", "api.csr", "-subj", "/CN=kube-apiserver"]);
        std::fs::write(path.join("ext"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
        openssl(
            path,
            &[
                "x509",
                "-req",
                "-in",
                "api.csr",
                "-CA",
                "ca.crt",
                "-CAkey",
                "ca.key",
                "-CAcreateserial",
                "-days",
                "2",
                "-extfile",
                "ext",
                "-out",
                "api.crt",
            ],
        );
        std::fs::write(path.join("tokens.csv"), "test-token,admin,admin,\"system:masters\"\nother-token,other,other\n").unwrap();
        let mut server = Self { children: Vec::new(), folder, port };
        let (client, peer) = (format!("http://127.0.0.1:{etcd}"), format!("http://127.0.0.1:{peer}"));
        server.spawn(
            "etcd",
            &[
                "--data-dir",
                "etcd-data",
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
                "--initial-cluster",
                &format!("default={peer}"),
                "--unsafe-no-fsync",
                "--log-level",
                "error",
            ],
        );
        server.spawn(
            "kube-apiserver",
            &[
                further,
                &[
                    "--etcd-servers",
                    &client,
                    "--secure-port",
                    &port.to_string(),
                    "--bind-address",
                    "127.0.0.1",
                    "--advertise-address",
                    "127.0.0.1",
                    "--service-cluster-ip-range",
                    "198.19.128.0/17",
                    "--tls-cert-file",
                    "api.crt",
                    "--tls-private-key-file",
                    "api.key",
                    "--client-ca-file",
                    "ca.crt",
                    "--token-auth-file",
                    "tokens.csv",
                    "--service-account-key-file",
                    "sa.key",
                    "--service-account-signing-key-file",
                    "sa.key",
                    "--service-account-issuer",
                    "https://kubernetes.default.svc",
                    "--authorization-mode",
                    "RBAC",
                    "--endpoint-reconciler-type",
                    "none",
                    "--disable-admission-plugins",
                    "ServiceAccount",
                    "--cert-dir",
                    "certs",
                ],
            ]
            .concat(),
        );
        Some(server)
    }

    fn spawn(&mut self, name: &str, args: &[&str]) {
        let log = std::fs::File::create(self.folder.path().join(format!("{name}.log"))).unwrap();
        let mut command = Command::new(self.folder.path().join(name));
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.children.push(command.spawn().unwrap());
    }

    /// A cluster as the holder of a token, once the server answers.
    pub async fn cluster_as(&self, token: &str) -> Cluster {
        let mut config = self.config();
        config.auth_info.token = Some(token.to_owned().into());
        let cluster = Cluster::with_config(&ClusterName::parse("test").unwrap(), config).unwrap();
        let started = Instant::now();
        while let Err(failure) = cluster.version().await {
            assert!(started.elapsed() < Duration::from_secs(90), "{:?}\n{}", failure.chain(), self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        cluster
    }

    /// The authority of its certificate, as PEM.
    #[allow(dead_code, reason = "one of the programs that have this file asks for it")]
    pub fn authority(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("ca.crt")).unwrap()
    }

    pub fn config(&self) -> kube::Config {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let mut config = kube::Config::new(format!("https://127.0.0.1:{}", self.port).parse().unwrap());
        let ca = CertificateDer::from_pem_file(self.folder.path().join("ca.crt")).unwrap();
        config.root_cert = Some(vec![ca.to_vec()]);
        config.auth_info.token = Some("test-token".to_owned().into());
        config
    }

    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.folder.path().join("kube-apiserver.log")).unwrap_or_default();
        text.lines().rev().take(15).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        for child in self.children.iter_mut().rev() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn openssl(folder: &Path, args: &[&str]) {
    let output = Command::new("openssl").args(args).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
