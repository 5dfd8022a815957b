//! Blue-green and canary by the real Argo Rollouts, under load: from one strategy to another, a new version, and one that is worse and goes back.
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{
    commands::block_on,
    copy::Copy,
    rollout::{pods, under_load, update},
    target::{Ended, Target, text},
};

const ENVIRONMENT: &str = "plans/environments/sandbox.yaml";
/// The controller's Go module, and what it must be.
const MODULE: (&str, &str) = ("github.com/argoproj/argo-rollouts@v1.9.1", "h1:+oZciUkeJYVb1vPMOhat4JQlk525j/aT2yizEkVkjLs=");
/// As our chart would install it, as far as it matters here.
const CONTROLLER: &str = "
apiVersion: v1
kind: Namespace
metadata: { name: argo-rollouts }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: argo-rollouts, namespace: argo-rollouts }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: { name: argo-rollouts }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin }
subjects: [{ kind: ServiceAccount, name: argo-rollouts, namespace: argo-rollouts }]
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: argo-rollouts, namespace: argo-rollouts }
spec:
  selector: { matchLabels: { app: argo-rollouts } }
  template:
    metadata: { labels: { app: argo-rollouts } }
    spec:
      serviceAccountName: argo-rollouts
      containers:
        - name: controller
          image: IMAGE
          args: [--leader-elect=false]
          readinessProbe: { httpGet: { path: /healthz, port: 8080 } }
";

/// See the module.
pub fn bring_versions(target: &Target, token: &str) {
    let project = Copy::new();
    argo_rollouts_is_there(target, &project);
    refused_without_argo_rollouts(target);
    project.replace(ENVIRONMENT, "charts:\n  skip:\n", "charts:\n  skip:\n    argo-rollouts: the test's own is there\n");

    eprintln!("from rolling to blue-green");
    let blue_green = "uploader:\n    strategy: blue-green";
    update(target, token, &project, "uploader:\n    strategy: rolling", blue_green).is_whole();
    assert_eq!((exists(target, "deployment/uploader"), phase(target, "uploader")), (false, "Healthy".to_owned()));
    let again = project.apply(target, "uploader").expect(0);
    assert!(again.out.contains("Nothing had to be changed"), "{}", again.out);

    eprintln!("a new version, blue-green");
    update(target, token, &project, "cpu: 50m, memory: 64Mi", "cpu: 51m, memory: 64Mi").is_whole();
    worse_goes_back(target, token, &project, "51m", "52m");

    eprintln!("from blue-green to canary");
    let canary = "uploader:\n    strategy: canary\n    canary: [50]";
    // The pods are as they must be: only how the next ones come changes.
    project.replace(ENVIRONMENT, blue_green, canary);
    let (applied, answers) = under_load(target, token, || project.apply(target, "uploader"));
    applied.expect(0);
    assert_eq!(answers.lost(), 0, "{answers:?}");
    assert!(!exists(target, "service/uploader-preview"));
    eprintln!("a new version, canary");
    update(target, token, &project, "cpu: 51m, memory: 64Mi", "cpu: 53m, memory: 64Mi").is_whole();
    worse_goes_back(target, token, &project, "53m", "54m");

    eprintln!("a reader of a queue");
    project.replace(ENVIRONMENT, "parser:\n    strategy: rolling", "parser:\n    strategy: blue-green");
    let refused = project.apply(target, "parser").expect(10);
    assert!(refused.err.contains("so blue-green is not for it"), "{}", refused.err);
    project.replace(ENVIRONMENT, "parser:\n    strategy: blue-green", "parser:\n    strategy: canary");
    project.apply(target, "parser").expect(0);
    project.replace(ENVIRONMENT, "memory: 128Mi", "memory: 130Mi");
    project.apply(target, "parser").expect(0);
    assert_eq!(phase(target, "parser"), "Healthy");
    target.deployctl(&["apply", "--yes", "--project", project.folder(), "--only", "smoke"]).expect(0);

    eprintln!("back to rolling");
    update(target, token, &project, canary, "uploader:\n    strategy: rolling").is_whole();
    assert!(!exists(target, "rollout/uploader") && !exists(target, "analysistemplate/uploader"));
}

/// Judged by what it answers, given up, and the version before it has all requests again. The same command says why, and a better one goes on.
fn worse_goes_back(target: &Target, token: &str, project: &Copy, good: &str, worse: &str) {
    eprintln!("a worse version");
    // Nothing makes the uploader answer 5xx at will: what it does answer counts as bad instead.
    let (judgement, condition, no) = ("templates/uploader/15-judgement.yaml.hbs", r#"status=~"5..""#, r#"status=~"2..""#);
    let (good, worse) = (format!("cpu: {good}, memory: 64Mi"), format!("cpu: {worse}, memory: 64Mi"));
    project.replace(judgement, condition, no).replace(ENVIRONMENT, &good, &worse);
    let (ended, answers) = under_load(target, token, || project.apply(target, "uploader"));
    answers.is_whole();
    is_given_up(&ended);
    is_given_up(&project.apply(target, "uploader"));
    project.replace(judgement, no, condition).replace(ENVIRONMENT, &worse, &good);
    project.apply(target, "uploader").expect(0);
    assert_eq!(phase(target, "uploader"), "Healthy");
    let serving = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_null();
    let asked: Vec<String> = pods(target)
        .values()
        .filter(|pod| serving(pod))
        .map(|pod| pod["spec"]["containers"][0]["resources"]["requests"]["cpu"].as_str().unwrap().to_owned())
        .collect();
    assert!(asked.iter().any(|cpu| good.contains(cpu)), "{asked:?}");
}

fn is_given_up(ended: &Ended) {
    assert_eq!(ended.code, Some(15), "{}", ended.err);
    for word in
        ["step uploader: Rollout apps/uploader has failed", "aborted", "failing-requests", "kubectl describe rollout uploader -n apps"]
    {
        assert!(ended.err.contains(word), "{word}: {}", ended.err);
    }
}

fn refused_without_argo_rollouts(target: &Target) {
    let project = Copy::new();
    project.replace(ENVIRONMENT, "uploader:\n    strategy: rolling", "uploader:\n    strategy: canary");
    let refused = target.deployctl(&["plan", "--project", project.folder()]).expect(10);
    assert!(refused.err.contains("put argo-rollouts under charts.chosen"), "{}", refused.err);
}

fn exists(target: &Target, object: &str) -> bool {
    !target.kubectl(&["-n", "apps", "get", object, "--ignore-not-found", "-o", "name"]).is_empty()
}

fn phase(target: &Target, rollout: &str) -> String {
    target.kubectl(&["-n", "apps", "get", "rollout", rollout, "-o", "jsonpath={.status.phase}"])
}

/// Built from its module, brought into the registry by step `images` like any other program, and run as a pod.
fn argo_rollouts_is_there(target: &Target, project: &Copy) {
    let (source, program) = (module(), project.path("rollouts-controller"));
    let flags = [("CGO_ENABLED", "0"), ("GOFLAGS", "-trimpath -buildvcs=false -gcflags=all=-dwarf=false"), ("GOGC", "400")];
    let mut go = std::process::Command::new("go");
    let go = go.current_dir(&source).envs(flags).args(["build", "-mod=readonly", "-ldflags", "-s -w", "-o"]).arg(&program);
    let built = go.arg("./cmd/rollouts-controller").output().unwrap();
    assert!(built.status.success(), "{}", text(&built));
    project.replace(ENVIRONMENT, "programs: { ", &format!("programs: {{ argo-rollouts: {}, ", program.display()));
    target.deployctl(&["apply", "--yes", "--project", project.folder()]).expect(0);
    let ecr = aws_sdk_ecr::Client::new(&target.sdk("us-east-1"));
    let images = block_on(ecr.describe_images().repository_name("deployctl-sandbox/argo-rollouts").send()).unwrap();
    let digest = images.image_details()[0].image_digest().unwrap();
    let image = format!("111122223333.dkr.ecr.us-east-1.amazonaws.com/deployctl-sandbox/argo-rollouts@{digest}");
    let manifest = project.path("argo-rollouts.yaml");
    std::fs::write(&manifest, CONTROLLER.replace("IMAGE", &image)).unwrap();
    let definitions = source.join("manifests/crds");
    target.kubectl(&["apply", "--server-side", "-k", definitions.to_str().unwrap()]);
    target.kubectl(&["apply", "--server-side", "-f", manifest.to_str().unwrap()]);
    target.kubectl(&["-n", "argo-rollouts", "rollout", "status", "deployment/argo-rollouts", "--timeout=120s"]);
}

/// Where Go has unpacked it.
fn module() -> PathBuf {
    let (module, sum) = MODULE;
    let fetched = std::process::Command::new("go").args(["mod", "download", "-json", module]).current_dir("/").output().unwrap();
    let said: Value = serde_json::from_slice(&fetched.stdout).unwrap();
    assert_eq!(said["Sum"], sum, "{}", text(&fetched));
    Path::new(said["Dir"].as_str().unwrap()).to_owned()
}
