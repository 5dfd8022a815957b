//! Rolling updates under load, through the sandbox's load balancer: no request is lost, and where a pod leaves sooner than its load balancer
//! lets go of it, requests are.
use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{copy::Copy, target::Target};

const DEPLOYMENT: &str = "templates/uploader/20-workload.yaml.hbs";
/// Callers at a time; together they stay below what one pod lets a caller ask.
const CALLERS: u64 = 4;
/// An old pod is gone after preStop, its drain and what is in flight; in blue-green a minute later.
const GONE: Duration = Duration::from_secs(180);

/// Both: with what the templates do for it, and without.
pub fn loses_nothing(target: &Target, token: &str) {
    let project = Copy::new();
    // Pods that were there before their load balancer have no gate; what follows them has.
    let first = update(target, token, &project, "cpu: 50m", "cpu: 51m");
    first.is_whole();
    pods_waited_for_their_target(target);
    let second = update(target, token, &project, "cpu: 51m", "cpu: 52m");
    second.is_whole();

    // Taken away: preStop, and the service's own drain, which would stand in for it.
    project.replace(
        DEPLOYMENT,
        "              sleep:\n                seconds: 20\n",
        "              sleep:\n                seconds: 0\n",
    );
    project.replace(DEPLOYMENT, "value: \"10\"", "value: \"0\"");
    update(target, token, &project, "cpu: 52m", "cpu: 53m").is_whole();
    let hasty = update(target, token, &project, "cpu: 53m", "cpu: 54m");
    assert!(hasty.lost() > 0, "a pod that leaves at once loses nothing: the load balancer is too kind: {hasty:?}");
    eprintln!("without preStop {} of {} requests were lost: {:?}", hasty.lost(), hasty.all(), hasty.0);
    target.deployctl(&["apply", "--yes", "--only", "uploader"]).expect(0);
}

/// What came of the requests, by answer.
#[derive(Debug)]
pub struct Answers(BTreeMap<String, u64>);

impl Answers {
    pub fn all(&self) -> u64 {
        self.0.values().sum()
    }
    pub fn lost(&self) -> u64 {
        self.all() - self.0.get(StatusCode::CREATED.as_str()).copied().unwrap_or(0)
    }
    pub fn is_whole(&self) {
        eprintln!("{} requests meanwhile: {:?}", self.all(), self.0);
        assert!(self.all() > 100, "no load: {self:?}");
        assert_eq!(self.lost(), 0, "requests were lost: {self:?}");
    }
}

/// Work, while callers ask.
pub fn under_load<T>(target: &Target, token: &str, work: impl FnOnce() -> T) -> (T, Answers) {
    let url = format!("http://{}/v1/uploads", address(target));
    let (stop, answers) = (AtomicBool::new(false), Mutex::new(BTreeMap::new()));
    let done = std::thread::scope(|scope| {
        scope.spawn(|| target.inside(callers(&url, token, &stop, &answers)));
        // A panic must not leave the callers calling.
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::Relaxed);
        done
    });
    let done = done.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked));
    (done, Answers(answers.into_inner().unwrap()))
}

/// A new version, rolled out by deployctl while callers ask; until its predecessor's pods are gone.
pub fn update(target: &Target, token: &str, project: &Copy, from: &str, to: &str) -> Answers {
    project.replace("plans/environments/sandbox.yaml", from, to);
    let before = pods(target);
    let (applied, answers) = under_load(target, token, || {
        let applied = project.apply(target, "uploader");
        let end = Instant::now() + GONE;
        while pods(target).keys().any(|name| before.contains_key(name)) && applied.code == Some(0) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(500));
        }
        applied
    });
    applied.expect(0);
    let left: Vec<String> = pods(target).into_keys().filter(|name| before.contains_key(name)).collect();
    assert!(left.is_empty(), "{left:?} are still there");
    answers
}

async fn callers(url: &str, token: &str, stop: &AtomicBool, answers: &Mutex<BTreeMap<String, u64>>) {
    let asked = json!({ "filename": "a.csv", "content_type": "text/csv", "size_bytes": 4, "sha256": "0".repeat(64) });
    let each = (0..CALLERS).map(|number| {
        // Half of them keep their connections, half come with a new one each time.
        let kept = if number % 2 == 0 { usize::MAX } else { 0 };
        let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(kept).timeout(Duration::from_secs(30)).build().unwrap();
        let asked = &asked;
        async move {
            while !stop.load(Ordering::Relaxed) {
                let answer = client.post(url).bearer_auth(token).json(asked).send().await;
                let said = answer.map_or_else(|error| format!("{:?}", error.without_url()), |answer| answer.status().as_str().to_owned());
                *answers.lock().unwrap().entry(said).or_default() += 1;
                tokio::time::sleep(Duration::from_millis(CALLERS * 125)).await;
            }
        }
    });
    futures::future::join_all(each).await;
}

fn address(target: &Target) -> String {
    target.kubectl(&["-n", "apps", "get", "ingress", "uploader", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}"])
}

/// The uploader's, by name.
pub fn pods(target: &Target) -> BTreeMap<String, Value> {
    let found = target.kubectl(&["-n", "apps", "get", "pods", "-l", "app.kubernetes.io/name=uploader", "-o", "json"]);
    let found: Value = serde_json::from_str(&found).unwrap();
    let named = |pod: &Value| (pod["metadata"]["name"].as_str().unwrap().to_owned(), pod.clone());
    found["items"].as_array().unwrap().iter().map(named).collect()
}

/// Each has a readiness gate, which the load balancer has opened.
fn pods_waited_for_their_target(target: &Target) {
    for (name, pod) in pods(target) {
        let gate = pod["spec"]["readinessGates"][0]["conditionType"].as_str().unwrap_or_else(|| panic!("{name} has no readiness gate"));
        assert!(gate.starts_with("target-health.elbv2.k8s.aws/k8s-apps-uploader-"), "{gate}");
        let condition = pod["status"]["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == gate);
        assert_eq!(condition.map(|condition| &condition["status"]), Some(&json!("True")), "{name}: {gate}");
    }
}
