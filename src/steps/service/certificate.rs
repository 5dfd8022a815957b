//! The certificate of a service's load balancer, and who signed it: what is wrong with them is said before anything is made. Its controller would say
//! it in an event, after a cluster and a database were made, and wait for ever.
use std::{collections::BTreeMap, path::PathBuf};

use rustls::{
    RootCertStore,
    pki_types::{
        CertificateDer,
        pem::{PemObject, SectionKind},
    },
};

use crate::{
    aws::certificates::Certificate,
    clock,
    engine::event::EventKind,
    failure::{Failure, FailureKind},
    ids::ServiceName,
    plan::environment::Ingress,
    steps::StepContext,
};

/// An agent takes them as one argument, and Linux takes none of more than 128 KiB (execve(2)).
const MOST: usize = 64 * 1024;

/// Refuses a certificate that no load balancer takes, and authorities that are none. Where ACM does not answer, or not to us, that is told, and the
/// rest is left to the controller.
pub(super) async fn is_taken(cx: &StepContext, service: &ServiceName, ingress: &Ingress) -> Result<(), Failure> {
    let refuse = |field: &str, why: String| Failure::new(FailureKind::Preflight, format!("services.{service}.ingress.{field}: {why}"));
    if let Some(file) = &ingress.authorities {
        let path = cx.project.join(file);
        let text = std::fs::read(&path).map_err(|e| refuse("authorities", file.display().to_string()).because(e))?;
        are_authorities(&text).map_err(|why| refuse("authorities", format!("{}: {why}", file.display())))?;
    }
    let (Some(arn), Some(host)) = (&ingress.certificate_arn, &ingress.host) else { return Ok(()) };
    let found = match cx.aws.certificate(arn).await {
        Ok(found) => found,
        Err(failure) => {
            let message = format!("{}: whether {arn} is issued for {host} is not known: {}", cx.step, failure.chain().join(": "));
            cx.events.emit(EventKind::Warning { message });
            return Ok(());
        }
    };
    match Certificate::objection(found.as_ref(), host, clock::now()) {
        Some(objection) => Err(refuse("certificate_arn", format!("{arn}: {}", objection.why)).next(objection.fix)),
        None => Ok(()),
    }
}

/// A bundle of certificates and nothing else: it is shown to whoever may look at Jobs.
fn are_authorities(pem: &[u8]) -> Result<(), String> {
    if pem.len() > MOST {
        return Err(format!("{} bytes, {MOST} at most: the authorities that signed this certificate are enough", pem.len()));
    }
    let mut roots = RootCertStore::empty();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
        match section.map_err(|error| format!("it is no PEM file: {error}"))? {
            (SectionKind::Certificate, der) => {
                roots.add(CertificateDer::from(der)).map_err(|error| format!("one is no certificate of an authority: {error}"))?;
            }
            (other, _) => return Err(format!("it holds {other:?}, and only certificates belong there")),
        }
    }
    if roots.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(()) }
}

/// The file of an agent's command with the authorities of the address that it asks, if there is one.
pub fn address_authorities(file: Option<&PathBuf>) -> BTreeMap<String, PathBuf> {
    file.map(|file| ("--address-authorities".to_owned(), file.clone())).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_certificates_and_nothing_else() {
        let made = rcgen::generate_simple_self_signed(["files.test".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        assert_eq!(are_authorities((certificate.clone() + &certificate).as_bytes()), Ok(()));
        let spoiled = certificate.lines().enumerate().filter(|(number, _)| *number != 2).map(|(_, line)| format!("{line}\n"));
        for (wrong, why) in [
            (String::new(), "it holds no certificate"),
            ("no PEM".to_owned(), "it holds no certificate"),
            (certificate.clone() + &key, "only certificates belong there"),
            (spoiled.collect(), "one is no certificate of an authority"),
            (certificate.repeat(200), "65536 at most"),
        ] {
            let refused = are_authorities(wrong.as_bytes()).unwrap_err();
            assert!(refused.contains(why), "{why}: {refused}");
        }
    }
}
