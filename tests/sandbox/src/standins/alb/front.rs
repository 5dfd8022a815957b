//! What a load balancer shows: a port, and for HTTPS a certificate, which ACM keeps for load balancers (`emulator/certificates.py`).
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::networking::v1::Ingress;
use tokio_rustls::TlsAcceptor;

use super::annotation;
use crate::{layout::Layout, tls};

/// One that differs is another listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Front {
    pub address: SocketAddr,
    /// Certificate, chain and key, PEM.
    certificate: Option<String>,
}

impl Front {
    /// As the annotations ask for it. Refused, as by the controller: HTTPS with a certificate that ACM has not.
    pub fn of(ingress: &Ingress, layout: &Layout) -> Result<Self> {
        for asked in ["mutual-authentication", "auth-type"] {
            if annotation(ingress, asked).is_some() {
                bail!("{asked}: a sandbox's load balancer asks nobody who he is, and so lets nobody in");
            }
        }
        let (protocol, port) = match annotation(ingress, "listen-ports") {
            Some(text) => {
                let listed: Vec<BTreeMap<String, u16>> = serde_json::from_str(text).with_context(|| format!("listen-ports: {text}"))?;
                listed.into_iter().next().and_then(|first| first.into_iter().next()).with_context(|| format!("listen-ports: {text}"))?
            }
            // The controller's own choice.
            None if annotation(ingress, "certificate-arn").is_some() => ("HTTPS".to_owned(), 443),
            None => ("HTTP".to_owned(), 80),
        };
        let certificate = match (protocol.as_str(), annotation(ingress, "certificate-arn")) {
            ("HTTP", _) => None,
            ("HTTPS", Some(arn)) => Some(kept(arn, layout)?),
            ("HTTPS", None) => bail!("no certificate is named for HTTPS, and none is looked for by its name here"),
            (other, _) => bail!("listen-ports: unknown protocol {other}"),
        };
        Ok(Self { address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), certificate })
    }

    /// The same at an address.
    pub fn at(mut self, address: Ipv4Addr) -> Self {
        self.address.set_ip(IpAddr::V4(address));
        self
    }

    /// What TLS is spoken with; none for HTTP.
    pub fn acceptor(&self) -> Result<Option<TlsAcceptor>> {
        self.certificate.as_ref().map(|pem| tls::acceptor(pem, pem)).transpose()
    }
}

fn kept(arn: &str, layout: &Layout) -> Result<String> {
    let id = arn.rsplit_once(":certificate/").map_or("", |(_, id)| id);
    if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        bail!("certificate-arn: {arn} is no certificate of ACM");
    }
    let file = layout.shared("emulator/certificates").join(format!("{id}.pem"));
    std::fs::read_to_string(&file).with_context(|| format!("certificate-arn: {arn} is not in ACM, or not issued"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::layout::Site;

    #[test]
    fn https_needs_a_certificate_that_acm_has() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().to_owned();
        let layout = Layout { name: "t".into(), slot: 0, state: state.clone(), cache: state.clone(), project: state, site: Site::Home };
        let of = |annotations: serde_json::Value| {
            let named: BTreeMap<String, serde_json::Value> = serde_json::from_value(annotations).unwrap();
            let named: BTreeMap<String, serde_json::Value> =
                named.into_iter().map(|(name, value)| (format!("alb.ingress.kubernetes.io/{name}"), value)).collect();
            Front::of(&serde_json::from_value(json!({ "metadata": { "annotations": named } })).unwrap(), &layout)
        };
        let arn = "arn:aws:acm:us-east-1:111122223333:certificate/0-1";
        assert_eq!(of(json!({})).unwrap().address.port(), 80);
        assert_eq!(of(json!({ "listen-ports": "[{\"HTTP\": 8080}]" })).unwrap().address.port(), 8080);
        let https = || of(json!({ "listen-ports": "[{\"HTTPS\": 443}]", "certificate-arn": arn }));
        assert!(format!("{:#}", https().unwrap_err()).contains("is not in ACM, or not issued"));
        std::fs::create_dir_all(folder.path().join("emulator/certificates")).unwrap();
        std::fs::write(folder.path().join("emulator/certificates/0-1.pem"), "first").unwrap();
        let first = https().unwrap().at(Ipv4Addr::LOCALHOST);
        assert_eq!(first.address.to_string(), "127.0.0.1:443");
        assert_eq!(of(json!({ "certificate-arn": arn })).unwrap().at(Ipv4Addr::LOCALHOST), first, "the controller's own choice");
        std::fs::write(folder.path().join("emulator/certificates/0-1.pem"), "next").unwrap();
        assert_ne!(https().unwrap().at(Ipv4Addr::LOCALHOST), first, "another certificate is another listener");
        for wrong in [
            json!({ "listen-ports": "[{\"HTTPS\": 443}]" }),
            json!({ "certificate-arn": "arn:aws:acm:us-east-1:111122223333:certificate/../../x" }),
            json!({ "listen-ports": "[{\"TCP\": 1}]" }),
            json!({ "listen-ports": "443" }),
            json!({ "certificate-arn": arn, "auth-type": "oidc" }),
            json!({ "certificate-arn": arn, "mutual-authentication": "[]" }),
        ] {
            assert!(of(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
