//! HTTPS in the sandbox: a load balancer with a certificate of ACM's that a private authority has signed, for a name that DNS does not know at first.
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use super::{asked, copy::Copy, target::Target};

const ENVIRONMENT: &str = "plans/environments/sandbox.yaml";
const REGION: &str = "us-east-1";
const HOST: &str = "files.test";

/// An authority, PEM, and who signs in its name.
fn authority() -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), Issuer::new(params, key))
}

/// Imports a certificate for this name; its ARN.
fn imported(target: &Target, issuer: &Issuer<'_, KeyPair>, name: &str) -> String {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, issuer).unwrap();
    let blob = |pem: String| base64::Engine::encode(&base64::prelude::BASE64_STANDARD, pem);
    let wanted = json!({ "Certificate": blob(certificate.pem()), "PrivateKey": blob(key.serialize_pem()) });
    arn(&asked::json(target, "acm", REGION, "CertificateManager.ImportCertificate", &wanted))
}

fn arn(answer: &Value) -> String {
    answer["CertificateArn"].as_str().unwrap().to_owned()
}

/// What `doctor` says of the uploader's certificate.
fn judged(target: &Target, project: &Copy, code: i32) -> String {
    let ended = target.deployctl(&["doctor", "--project", project.folder()]).expect(code);
    ended.out.lines().find(|line| line.contains("certificate of uploader")).unwrap_or_else(|| panic!("{}", ended.out)).to_owned()
}

/// See the module; on a target where everything is deployed.
pub fn is_spoken(target: &Target) {
    let (pem, issuer) = authority();
    let project = Copy::new();
    std::fs::write(project.path("plans/authority.pem"), pem).unwrap();
    let missing = format!("arn:aws:acm:{REGION}:111122223333:certificate/00000000-0000-0000-0000-000000000000");
    let before = "uploader:\n    strategy: rolling";
    let ingress = format!("{before}\n    ingress: {{ certificate_arn: '{missing}', host: {HOST}, authorities: plans/authority.pem }}");
    project.replace(ENVIRONMENT, before, &ingress);

    assert!(judged(target, &project, 12).contains("ACM has no such certificate"));
    let wanted = json!({ "DomainName": HOST, "ValidationMethod": "DNS" });
    let requested = arn(&asked::json(target, "acm", REGION, "CertificateManager.RequestCertificate", &wanted));
    project.replace(ENVIRONMENT, &missing, &requested);
    assert!(judged(target, &project, 12).contains("ACM waits for proof that the name is yours"));
    let other = imported(target, &issuer, "other.test");
    project.replace(ENVIRONMENT, &requested, &other);
    assert!(judged(target, &project, 12).contains("it is for other.test, and not for files.test"));
    let right = imported(target, &issuer, HOST);
    let refused = target.deployctl(&["plan", "--only", "uploader", "--project", project.folder()]).expect(12);
    assert!(refused.err.contains("certificate_arn: arn:aws:acm") && refused.err.contains("it is for other.test"), "{}", refused.err);
    project.replace(ENVIRONMENT, &other, &right);
    assert!(judged(target, &project, 0).contains("issued for files.test"));

    // Checked at the load balancer, which nobody could point a name to before it was there; what nobody can reach by its name is not done.
    let apply = || target.deployctl(&["apply", "--yes", "--project", project.folder()]);
    let first = apply().expect(16);
    eprintln!("{}", first.err);
    assert!(
        first.err.contains("warning: uploader: nobody finds files.test yet: in DNS, point it to internal-k8s-apps-uploader-"),
        "{}",
        first.err
    );
    assert!(
        first.err.contains("uploader: changed") && first.err.contains("point files.test to its load balancer, in DNS"),
        "{}",
        first.err
    );

    let shown = target.kubectl(&["-n", "apps", "get", "ingress", "uploader", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}"]);
    let records = std::path::PathBuf::from(target.variable("KUBECONFIG")).with_file_name("dns").join("records.d/test");
    std::fs::write(&records, format!("{} {HOST}\n", shown.trim())).unwrap();
    let second = apply().expect(0);
    eprintln!("{}", second.err);
    assert!(!second.err.contains("in DNS"), "{}", second.err);
    let smoke = target.deployctl(&["smoke", "--project", project.folder()]).expect(0);
    assert!(!format!("{}{}", smoke.out, smoke.err).contains("in DNS"), "{}", smoke.err);

    // Somebody else's authority is not believed.
    std::fs::write(project.path("plans/authority.pem"), authority().0).unwrap();
    let refused = target.deployctl(&["smoke", "--project", project.folder()]);
    assert!(
        refused.code == Some(16) && refused.err.contains("`authorities` beside its `certificate_arn`"),
        "{:?}: {}",
        refused.code,
        refused.err
    );
    assert!(!refused.err.contains("in DNS"), "{}", refused.err);

    target.deployctl(&["apply", "--yes"]).expect(0);
    std::fs::remove_file(&records).unwrap();
}
