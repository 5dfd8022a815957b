//! How an agent reaches the uploader: by its address, and where that is a name of HTTPS, at the load balancer that has the name's certificate.
use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use clap::Args;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::Url;

use crate::{failure::Failure, retry};

/// Where requests go, and whom they believe.
#[derive(Args, Clone, Debug)]
pub struct AddressArgs {
    /// The uploader's address
    #[arg(long)]
    address: String,
    /// The load balancer that is asked for the address' name, wherever DNS leads
    #[arg(long)]
    load_balancer: Option<String>,
    /// PEM of the authorities that may have signed the address' certificate, beside the public ones
    #[arg(long, allow_hyphen_values = true)]
    address_authorities: Option<String>,
}

/// Resolves one name as another one; the connection still asks for the first, and holds the certificate against it.
struct Instead {
    name: String,
    other: String,
}

impl Resolve for Instead {
    fn resolve(&self, name: Name) -> Resolving {
        let host = if name.as_str() == self.name { self.other.clone() } else { name.as_str().to_owned() };
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((host, 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

impl AddressArgs {
    /// An address without a scheme is one of HTTP.
    pub(super) fn url(&self, path: &str) -> String {
        let base = if self.address.contains("://") { self.address.clone() } else { format!("http://{}", self.address) };
        format!("{}{path}", base.trim_end_matches('/'))
    }

    /// The name in an address that is a URL.
    fn name(&self) -> Option<String> {
        Url::parse(&self.address).ok()?.host_str().map(str::to_owned)
    }

    pub(super) fn client(&self) -> Result<reqwest::Client, Failure> {
        let mut builder = reqwest::Client::builder();
        if let (Some(name), Some(other)) = (self.name(), self.load_balancer.clone()) {
            builder = builder.dns_resolver(Instead { name, other });
        }
        if let Some(pem) = &self.address_authorities {
            let authorities = reqwest::Certificate::from_pem_bundle(pem.as_bytes());
            builder = builder.tls_certs_merge(authorities.map_err(|e| Failure::usage("--address-authorities").because(e))?);
        }
        client(builder)
    }

    /// What DNS has to be told for others to reach it too; none if its name leads where the load balancer's does. To be asked once the load
    /// balancer has answered: before, its own name may lead nowhere.
    pub(super) async fn unpointed(&self) -> Option<String> {
        let (name, load_balancer) = (self.name()?, self.load_balancer.as_ref()?);
        let [asked, right] = [&name, load_balancer].map(|host| addresses(host.clone()));
        let (asked, right) = tokio::join!(asked, right);
        if asked.is_empty() {
            return Some(format!("nobody finds {name} yet: in DNS, point it to {load_balancer}"));
        }
        // A large load balancer says some of its addresses at a time.
        let elsewhere = !right.is_empty() && asked.is_disjoint(&right);
        elsewhere.then(|| format!("in DNS, {name} leads past {load_balancer}: right only if what it leads to passes requests on"))
    }

    /// A request that got no answer. Its URL is not shown twice.
    pub(super) fn unanswered(&self, url: &str, error: reqwest::Error) -> Failure {
        let (unknown, untrusted) = (error.is_dns() && self.load_balancer.is_none(), retry::untrusted(&error));
        let failure = Failure::step(format!("{url} does not answer")).because(error.without_url());
        match self.name() {
            Some(name) if unknown => {
                failure.next(format!("point {name} to its load balancer, in DNS: kubectl get ingress --all-namespaces"))
            }
            Some(name) if untrusted => failure.next(format!(
                "a certificate for {name}; if no public authority has signed it, `authorities` beside its `certificate_arn`"
            )),
            _ => failure,
        }
    }
}

/// Every request has half a minute.
pub(super) fn client(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, Failure> {
    builder.timeout(Duration::from_secs(30)).build().map_err(|e| Failure::step("no HTTP client").because(e))
}

/// None where the name is not known.
async fn addresses(host: String) -> BTreeSet<IpAddr> {
    let found = tokio::net::lookup_host((host, 443)).await;
    found.map(|found| found.map(|address| address.ip()).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, sync::Arc};

    use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn args(address: &str) -> AddressArgs {
        AddressArgs { address: address.to_owned(), load_balancer: None, address_authorities: None }
    }

    #[test]
    fn an_address_is_a_host_or_a_url() {
        assert_eq!(args("internal-x.elb").url("/readyz"), "http://internal-x.elb/readyz");
        assert_eq!(args("https://up.example.com/").url("/v1/uploads"), "https://up.example.com/v1/uploads");
    }

    #[test]
    fn a_pem_text_is_an_argument() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: AddressArgs,
        }
        let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let line = ["agent", "--address", "https://files.test", "--address-authorities", pem, "--load-balancer", "x.elb"];
        let read = <Line as clap::Parser>::parse_from(line).args;
        assert_eq!((read.address_authorities.as_deref(), read.load_balancer.as_deref()), (Some(pem), Some("x.elb")));
    }

    /// A server of HTTPS with a certificate for this name; the PEM is its authority's.
    async fn server(name: &str) -> (SocketAddr, String) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A caller that does not believe the certificate ends it.
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut request = vec![0; 4096];
                let read = stream.read(&mut request).await.unwrap();
                let host = String::from_utf8_lossy(&request[..read]).to_lowercase();
                let host = host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default().to_owned();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{host}", host.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        (address, made.cert.pem())
    }

    #[tokio::test]
    async fn the_load_balancer_is_asked_for_a_name_that_dns_does_not_know() {
        let (server, authority) = server("files.test").await;
        let known = AddressArgs {
            load_balancer: Some("localhost".into()),
            address_authorities: Some(authority),
            ..args(&format!("https://files.test:{}", server.port()))
        };
        let url = known.url("/");
        let answer = known.client().unwrap().get(&url).send().await.unwrap().text().await.unwrap();
        assert_eq!(answer, format!("files.test:{}", server.port()));
        let missing = known.unpointed().await.unwrap();
        assert_eq!(missing, "nobody finds files.test yet: in DNS, point it to localhost");

        let strict = AddressArgs { address_authorities: None, ..known.clone() };
        let refused = strict.client().unwrap().get(&url).send().await.unwrap_err();
        let refused = strict.unanswered(&url, refused);
        assert!(refused.chain().join(": ").contains("certificate"), "{refused:?}");
        assert!(refused.next.len() == 1 && refused.next[0].contains("`authorities`"), "{refused:?}");
        let other = AddressArgs { address: format!("https://other.test:{}", server.port()), ..known.clone() };
        let refused = other.client().unwrap().get(other.url("/")).send().await.unwrap_err();
        assert!(other.unanswered("it", refused).chain().join(": ").contains("certificate"), "a certificate of another name");

        let others = AddressArgs { load_balancer: None, ..known };
        let refused = others.client().unwrap().get(&url).send().await.unwrap_err();
        let failure = others.unanswered(&url, refused);
        assert!(failure.next.iter().any(|next| next.starts_with("point files.test to its load balancer")), "{failure:?}");
    }

    #[tokio::test]
    async fn a_name_that_leads_elsewhere_is_told() {
        let of = |address: &str| AddressArgs { load_balancer: Some("127.0.0.1".into()), ..args(address) };
        assert_eq!(of("https://localhost").unpointed().await, None);
        assert_eq!(of("localhost").unpointed().await, None, "no URL, no name");
        assert!(of("https://192.0.2.1").unpointed().await.unwrap().contains("leads past 127.0.0.1"));
    }
}
