//! The sandbox's RDS certificate authority and the server certificates that it signs.
use std::{fs, net::Ipv4Addr, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};

use super::records::write_whole;

/// Signs servers; its certificate is what clients get as their CA bundle.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

/// A server's certificate and key, PEM.
pub struct ServerIdentity {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Authority {
    /// Opens the authority whose certificate is at this path (the key lies beside it), or makes it.
    pub fn open(certificate: &Path) -> Result<Self> {
        let key_path = certificate.with_extension("key");
        if certificate.exists() && key_path.exists() {
            let key = KeyPair::from_pem(&fs::read_to_string(&key_path)?).with_context(|| format!("reading {}", key_path.display()))?;
            let issuer = Issuer::from_ca_cert_pem(&fs::read_to_string(certificate)?, key)
                .with_context(|| format!("reading {}", certificate.display()))?;
            return Ok(Self { issuer });
        }
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "deployctl sandbox RDS root");
        let own = params.self_signed(&key)?;
        // The key goes first: a certificate without its key would be handed out and could never sign.
        write_whole(&key_path, key.serialize_pem().as_bytes())?;
        fs::set_permissions(&key_path, fs::Permissions::from_mode(0o600))?;
        write_whole(certificate, own.pem().as_bytes())?;
        fs::set_permissions(certificate, fs::Permissions::from_mode(0o644))?;
        Ok(Self { issuer: Issuer::new(params, key) })
    }

    /// A certificate for a server.
    pub fn sign(&self, host: &str, address: Ipv4Addr) -> Result<ServerIdentity> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![host.to_owned()])?;
        params.subject_alt_names.push(SanType::IpAddress(address.into()));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        // RDS' common name is the host name, which X.509 limits to 64 characters; longer ones are in the SAN only.
        let name = if host.len() <= 64 { host } else { "rds" };
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(ServerIdentity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}
