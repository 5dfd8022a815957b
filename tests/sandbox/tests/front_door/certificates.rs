//! ACM as load balancers see it: what is imported is read and kept for them only, what is requested waits for a proof.
use std::os::unix::fs::PermissionsExt;

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

use crate::{
    aws::{Answer, Call},
    stack::Stack,
};

async fn ask(stack: &Stack, action: &'static str, body: Value) -> Answer {
    let target = format!("CertificateManager.{action}");
    let call = Call::target("acm", &target, &body.to_string()).send(stack.door, &stack.person).await;
    eprintln!("{action}: {} {}", call.status, call.text);
    call
}

fn blob(pem: &str) -> String {
    base64::Engine::encode(&base64::prelude::BASE64_STANDARD, pem)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_imported_is_read_and_what_is_requested_waits() {
    let Some(stack) = Stack::start().await else { return };
    let key = KeyPair::generate().unwrap();
    let made = |names: &[&str], year: i32| {
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.self_signed(&key).unwrap().pem()
    };
    let (good, private) = (made(&["files.test", "*.files.test"], 2090), key.serialize_pem());
    let import = |certificate: &str, key: &str| json!({ "Certificate": blob(certificate), "PrivateKey": blob(key) });
    let other = KeyPair::generate().unwrap().serialize_pem();
    for (wrong, why) in [
        (import(&good, &other), "The private key does not match the certificate."),
        (import(&made(&["files.test"], 2020), &private), "expired"),
        (import("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", &private), "not valid"),
    ] {
        let refused = ask(&stack, "ImportCertificate", wrong).await;
        assert!(refused.status == 400 && refused.text.contains(why), "{}", refused.text);
    }
    let arn = ask(&stack, "ImportCertificate", import(&good, &private)).await.json()["CertificateArn"].clone();
    let described = ask(&stack, "DescribeCertificate", json!({ "CertificateArn": arn })).await.json()["Certificate"].clone();
    assert_eq!((&described["Status"], &described["DomainName"]), (&json!("ISSUED"), &json!("files.test")));
    assert_eq!(described["SubjectAlternativeNames"], json!(["files.test", "*.files.test"]));
    assert_eq!(described["NotAfter"].as_f64(), Some(3_786_912_000.0));
    let shown = ask(&stack, "GetCertificate", json!({ "CertificateArn": arn })).await;
    assert!(!shown.text.contains("PRIVATE"), "{}", shown.text);
    let id = arn.as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let kept = stack.folder.path().join("emulator/certificates").join(id + ".pem");
    let text = std::fs::read_to_string(&kept).unwrap();
    assert!(text.contains(good.trim()) && text.contains(private.trim()));
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    ask(&stack, "DeleteCertificate", json!({ "CertificateArn": arn })).await;
    assert!(!kept.exists());
    let requested = ask(&stack, "RequestCertificate", json!({ "DomainName": "files.test" })).await.json()["CertificateArn"].clone();
    let described = ask(&stack, "DescribeCertificate", json!({ "CertificateArn": requested })).await.json()["Certificate"].clone();
    assert_eq!(described["Status"], "PENDING_VALIDATION");
}
