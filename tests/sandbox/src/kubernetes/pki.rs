//! Keys and certificates of the cluster, and the kubeconfigs made of them. All private, all below the state folder.
use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_RSA_SHA256,
    RsaKeySize, SanType,
};
use serde_json::json;

use crate::{
    claim::write_private,
    layout::{KUBERNETES_SERVICE, Layout},
};

/// The cluster's authority and everything that it signed.
#[derive(Clone, Debug)]
pub struct Pki {
    folder: PathBuf,
    /// The authority's certificate.
    pub ca_pem: String,
    /// Checks service account tokens.
    pub service_account_public_pem: String,
}

enum Purpose<'a> {
    Server(&'a [SanType]),
    Client { group: Option<&'a str> },
}

impl Pki {
    /// Reads it, making what is missing.
    pub fn ensure(layout: &Layout) -> Result<Self> {
        let folder = layout.file("pki");
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let issuer = authority(&folder)?;
        let ca_pem = read(&folder.join("ca.crt"))?;
        let node = super::node_name(layout);
        let address = |a: Ipv4Addr| SanType::IpAddress(a.into());
        let webhooks = [SanType::IpAddress(layout.webhooks().ip()), dns("localhost")?];
        let api_server = [
            address(Ipv4Addr::LOCALHOST),
            address(layout.node_address()),
            address(KUBERNETES_SERVICE),
            dns("localhost")?,
            dns("kubernetes")?,
            dns("kubernetes.default")?,
            dns("kubernetes.default.svc")?,
            dns("kubernetes.default.svc.cluster.local")?,
        ];
        let kubelet = [address(layout.node_address()), dns(&node)?];
        let node_user = format!("system:node:{node}");
        let leaves = [
            ("apiserver", "kube-apiserver", Purpose::Server(&api_server)),
            ("webhooks", "deployctl-sandbox", Purpose::Server(&webhooks)),
            ("kubelet-serving", node_user.as_str(), Purpose::Server(&kubelet)),
            ("kubelet-client", super::bootstrap::KUBELET_CLIENT, Purpose::Client { group: None }),
            ("admin", "sandbox-admin", Purpose::Client { group: Some("system:masters") }),
            ("controller-manager", "system:kube-controller-manager", Purpose::Client { group: None }),
            ("scheduler", "system:kube-scheduler", Purpose::Client { group: None }),
            ("node", node_user.as_str(), Purpose::Client { group: Some("system:nodes") }),
            ("proxy", "system:kube-proxy", Purpose::Client { group: None }),
            ("coredns", super::bootstrap::COREDNS, Purpose::Client { group: None }),
        ];
        for (file, user, purpose) in leaves {
            let is_client = matches!(purpose, Purpose::Client { .. });
            sign(&folder, &issuer, file, user, &purpose)?;
            if is_client {
                kubeconfig(&folder, &layout.api_server_url(), &ca_pem, file)?;
            }
        }
        let service_account_public_pem = service_account_key(&folder)?;
        Ok(Self { folder, ca_pem, service_account_public_pem })
    }

    /// A file of it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The kubeconfig of one of its users.
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.folder.join(format!("{user}.kubeconfig"))
    }

    /// Certificate and key, PEM.
    pub fn pair(&self, name: &str) -> Result<(String, String)> {
        Ok((read(&self.file(&format!("{name}.crt")))?, read(&self.file(&format!("{name}.key")))?))
    }
}

fn authority(folder: &Path) -> Result<Issuer<'static, KeyPair>> {
    let (key_file, cert_file) = (folder.join("ca.key"), folder.join("ca.crt"));
    if !cert_file.exists() {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, "deployctl sandbox cluster");
        let cert = params.self_signed(&key)?;
        write_private(&key_file, key.serialize_pem().as_bytes())?;
        // The certificate is written last: where it is, the key is too.
        write_private(&cert_file, cert.pem().as_bytes())?;
    }
    Ok(Issuer::from_ca_cert_pem(&read(&cert_file)?, KeyPair::from_pem(&read(&key_file)?)?)?)
}

fn sign(folder: &Path, issuer: &Issuer<'_, KeyPair>, file: &str, user: &str, purpose: &Purpose<'_>) -> Result<()> {
    let cert_file = folder.join(format!("{file}.crt"));
    if cert_file.exists() {
        return Ok(());
    }
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, user);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    match purpose {
        Purpose::Server(names) => {
            params.subject_alt_names = names.to_vec();
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }
        Purpose::Client { group } => {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            if let Some(group) = group {
                params.distinguished_name.push(DnType::OrganizationName, *group);
            }
        }
    }
    let cert = params.signed_by(&key, issuer)?;
    write_private(&folder.join(format!("{file}.key")), key.serialize_pem().as_bytes())?;
    write_private(&cert_file, cert.pem().as_bytes())
}

/// RSA, because AWS verifies service account tokens with RS256.
fn service_account_key(folder: &Path) -> Result<String> {
    let (key_file, public_file) = (folder.join("service-account.key"), folder.join("service-account.pub"));
    if !public_file.exists() {
        let key = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
        write_private(&key_file, key.serialize_pem().as_bytes())?;
        write_private(&public_file, key.public_key_pem().as_bytes())?;
    }
    read(&public_file)
}

fn kubeconfig(folder: &Path, server: &str, ca_pem: &str, user: &str) -> Result<()> {
    let encode = |name: String| -> Result<String> { Ok(BASE64_STANDARD.encode(read(&folder.join(name))?)) };
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "sandbox", "cluster": { "server": server, "certificate-authority-data": BASE64_STANDARD.encode(ca_pem) } }],
        "users": [{ "name": user, "user": {
            "client-certificate-data": encode(format!("{user}.crt"))?,
            "client-key-data": encode(format!("{user}.key"))?,
        } }],
        "contexts": [{ "name": "sandbox", "context": { "cluster": "sandbox", "user": user } }],
        "current-context": "sandbox",
    });
    // JSON is YAML.
    write_private(&folder.join(format!("{user}.kubeconfig")), &serde_json::to_vec_pretty(&config)?)
}

fn dns(name: &str) -> Result<SanType> {
    Ok(SanType::DnsName(name.try_into()?))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}
