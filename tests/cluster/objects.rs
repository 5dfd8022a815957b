//! One API server, every behaviour of src/cluster that needs no node.
use std::time::{Duration, Instant};

use deployctl::{
    cluster::{ApplySet, Cluster, Verdict},
    manifests::{Object, ObjectKey},
};
use serde_json::{Value, json};

use crate::api_server::ApiServer;

fn object(value: Value) -> Object {
    Object::new(value, "test.yaml".into(), 1).unwrap()
}

fn namespace(name: &str) -> Object {
    object(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
}

fn config_map(namespace: &str, name: &str, text: &str) -> Object {
    object(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": {"key": text}}))
}

fn deployment(namespace: &str, image: &str) -> Object {
    object(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": namespace},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": image}]}}}}))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_needs_no_node() {
    let Some(server) = ApiServer::start() else { return };
    let cluster = server.cluster_as("test-token").await;
    a_new_set_is_created_and_then_unchanged(&cluster).await;
    two_hundred_objects(&cluster).await;
    a_restart_takes_nothing_over(&cluster).await;
    conflicts_name_their_owner(&cluster, &server).await;
    pruning_spares_namespaces(&cluster).await;
    another_tools_set_is_refused(&cluster).await;
    definitions_come_before_their_objects(&cluster).await;
    waiting_looks_at_generations(&cluster, &server).await;
    a_deadline_says_what_is_missing(&cluster).await;
    forbidden_is_said(&server).await;
    crate::templates::accepted_by_the_api_server(&cluster, kube::Client::try_from(server.config()).unwrap()).await;
}

async fn a_new_set_is_created_and_then_unchanged(cluster: &Cluster) {
    // The config map comes first on purpose: waves put the namespace before it.
    let objects = [config_map("one", "a", "1"), deployment("one", "image:1"), namespace("one")];
    let diffs = cluster.diff(&objects).await.unwrap();
    assert!(diffs.iter().all(|d| d.verdict == Verdict::Create), "{diffs:?}");
    let applied = cluster.apply(&objects, |_| {}).await.unwrap();
    assert_eq!(applied.len(), 3);
    let diffs = cluster.diff(&objects).await.unwrap();
    assert!(diffs.iter().all(|d| d.verdict == Verdict::Unchanged), "{diffs:?}");
    let version =
        |values: &[Value]| values.iter().map(|v| format!("{} {}", v["kind"], v["metadata"]["resourceVersion"])).collect::<Vec<_>>();
    // A Namespace's first unchanged apply is stored once more by the API server itself (kubectl sees the same); all others are not.
    let objects = &objects[..2];
    let applied: Vec<Value> = applied.into_iter().filter(|v| v["kind"] != "Namespace").collect();
    let again = cluster.apply(objects, |_| {}).await.unwrap();
    let (mut before, mut after) = (version(&applied), version(&again));
    before.sort();
    after.sort();
    assert_eq!(before, after, "an unchanged apply must change no resourceVersion");
    let diffs = cluster.diff(&[deployment("one", "image:2")]).await.unwrap();
    assert_eq!(diffs[0].verdict, Verdict::Update(vec!["spec.template.spec.containers[0].image: \"image:1\" -> \"image:2\"".into()]));
    // A key that the API server does not know is refused even where the offline schema was not asked.
    let mut wrong = config_map("one", "b", "1");
    wrong.value["dataa"] = json!({});
    let failure = cluster.apply(&[wrong], |_| {}).await.unwrap_err();
    assert!(failure.message.contains("dataa") && failure.message.contains("test.yaml:1"), "{}", failure.message);
}

async fn two_hundred_objects(cluster: &Cluster) {
    let objects: Vec<Object> = (0..200).map(|i| config_map("one", &format!("many-{i}"), "x")).collect();
    let started = Instant::now();
    cluster.apply(&objects, |_| {}).await.unwrap();
    let created = started.elapsed();
    let started = Instant::now();
    cluster.apply(&objects, |_| {}).await.unwrap();
    eprintln!("200 objects: created in {created:?}, unchanged in {:?}", started.elapsed());
}

/// Pods are replaced once for each address, and the step that owns the Deployment has nothing to do because of it.
async fn a_restart_takes_nothing_over(cluster: &Cluster) {
    let ours = deployment("one", "image:1");
    let generation = async || {
        let found = cluster.get(&ours.key).await.unwrap().unwrap();
        (found["metadata"]["generation"].clone(), found["spec"]["template"]["metadata"]["annotations"].clone())
    };
    let (before, _) = generation().await;
    cluster.restart(&ours.key, "deployctl/started-for", "db-2:5432").await.unwrap();
    let (restarted, annotations) = generation().await;
    assert!(restarted != before && annotations == json!({ "deployctl/started-for": "db-2:5432" }), "{annotations}");
    cluster.restart(&ours.key, "deployctl/started-for", "db-2:5432").await.unwrap();
    assert_eq!(generation().await.0, restarted, "the same address is no reason to replace pods");
    assert_eq!(cluster.diff(std::slice::from_ref(&ours)).await.unwrap()[0].verdict, Verdict::Unchanged);
    cluster.apply(std::slice::from_ref(&ours), |_| {}).await.unwrap();
    assert_eq!(generation().await, (restarted, annotations), "an apply leaves the annotation");
}

async fn conflicts_name_their_owner(cluster: &Cluster, server: &ApiServer) {
    use kube::api::{Api, Patch, PatchParams};
    let client = kube::Client::try_from(server.config()).unwrap();
    let api: Api<k8s_openapi::api::core::v1::ConfigMap> = Api::namespaced(client, "one");
    let theirs = config_map("one", "theirs", "theirs").value;
    api.patch("theirs", &PatchParams::apply("somebody-else"), &Patch::Apply(&theirs)).await.unwrap();
    let failure = cluster.apply(&[config_map("one", "theirs", "ours")], |_| {}).await.unwrap_err();
    assert!(failure.evidence.iter().any(|line| line.contains(".data.key") && line.contains("somebody-else")), "{failure:?}");
}

async fn pruning_spares_namespaces(cluster: &Cluster) {
    let set = ApplySet::new("step", "one");
    let mut objects = vec![namespace("two"), config_map("one", "p1", "x"), config_map("two", "p2", "x"), config_map("one", "kept", "x")];
    set.mark(&mut objects);
    cluster.apply(&objects[..1], |_| {}).await.unwrap();
    cluster.widen(&set, &objects, &[]).await.unwrap();
    cluster.apply(&objects, |_| {}).await.unwrap();
    assert_eq!(cluster.prunable(&set, &objects).await.unwrap(), []);
    // The namespace and two config maps leave the templates; a config map of nobody's is there too.
    cluster.apply(&[config_map("one", "foreign", "x")], |_| {}).await.unwrap();
    let rest = &objects[3..];
    let prunable = cluster.prunable(&set, rest).await.unwrap();
    let names: Vec<String> = prunable.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["one/p1", "two/p2"]);
    cluster.widen(&set, rest, &prunable).await.unwrap();
    cluster.prune(&set, rest, &prunable).await.unwrap();
    assert!(cluster.get(&prunable[0]).await.unwrap().is_none());
    assert!(cluster.get(&objects[0].key).await.unwrap().is_some(), "a namespace is never pruned");
    assert!(cluster.get(&objects[3].key).await.unwrap().is_some());
    assert_eq!(cluster.prunable(&set, rest).await.unwrap(), []);
}

async fn another_tools_set_is_refused(cluster: &Cluster) {
    let set = ApplySet::new("foreign", "one");
    let mut parent = config_map("one", &set.name, "x");
    parent.value["metadata"]["annotations"] = json!({"applyset.kubernetes.io/tooling": "kubectl/v1.34"});
    cluster.apply(&[parent], |_| {}).await.unwrap();
    let failure = cluster.prunable(&set, &[]).await.unwrap_err();
    assert_eq!(failure.kind, deployctl::failure::FailureKind::Policy);
}

async fn definitions_come_before_their_objects(cluster: &Cluster) {
    let definition = object(json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "gadgets.example.org"},
        "spec": {"group": "example.org", "scope": "Namespaced", "names": {"kind": "Gadget", "plural": "gadgets", "singular": "gadget", "listKind": "GadgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
                "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}}}}]}}));
    let gadget = object(
        json!({"apiVersion": "example.org/v1", "kind": "Gadget", "metadata": {"name": "g", "namespace": "one"}, "spec": {"size": 1}}),
    );
    let objects = [gadget, definition];
    let diffs = cluster.diff(&objects).await.unwrap();
    assert!(diffs.iter().all(|d| d.verdict == Verdict::Create));
    cluster.apply(&objects, |_| {}).await.unwrap();
    assert!(cluster.diff(&objects).await.unwrap().iter().all(|d| d.verdict == Verdict::Unchanged));
}

async fn waiting_looks_at_generations(cluster: &Cluster, server: &ApiServer) {
    use kube::api::{Api, Patch, PatchParams};
    let client = kube::Client::try_from(server.config()).unwrap();
    let api: Api<k8s_openapi::api::apps::v1::Deployment> = Api::namespaced(client, "one");
    let key = deployment("one", "x").key;
    let finish = |generation: i64| {
        let api = api.clone();
        async move {
            let status = json!({"status": {"observedGeneration": generation, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}});
            api.patch_status("web", &PatchParams::default(), &Patch::Merge(&status)).await.unwrap();
        }
    };
    let generation = cluster.get(&key).await.unwrap().unwrap()["metadata"]["generation"].as_i64().unwrap();
    finish(generation).await;
    cluster.wait_until_current(std::slice::from_ref(&key), Duration::from_secs(5), |_| {}).await.unwrap();
    // A new generation: the old status still says that all is well, and must not be believed.
    cluster.apply(&[deployment("one", "image:3")], |_| {}).await.unwrap();
    let waiting = cluster.wait_until_current(std::slice::from_ref(&key), Duration::from_millis(700), |_| {}).await;
    assert!(waiting.unwrap_err().is_timeout());
    let later = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        finish(generation + 1).await;
        Instant::now()
    };
    let keys = std::slice::from_ref(&key);
    let waited = async {
        cluster.wait_until_current(keys, Duration::from_secs(10), |_| {}).await.unwrap();
        Instant::now()
    };
    let (finished, noticed) = tokio::join!(later, waited);
    assert!(noticed.saturating_duration_since(finished) < Duration::from_millis(1500), "a watch notices at once");
}

async fn a_deadline_says_what_is_missing(cluster: &Cluster) {
    let key = ObjectKey { api_version: "batch/v1".into(), kind: "Job".into(), namespace: Some("one".into()), name: "nothing".into() };
    let failure = cluster.wait_until_current(&[key], Duration::from_millis(500), |_| {}).await.unwrap_err();
    assert!(failure.message.contains("Job one/nothing: it does not exist"), "{}", failure.message);
    assert!(failure.next.iter().any(|next| next.starts_with("kubectl describe job nothing -n one")), "{:?}", failure.next);
}

async fn forbidden_is_said(server: &ApiServer) {
    let cluster = server.cluster_as("other-token").await;
    let failure = cluster.apply(&[config_map("one", "z", "1")], |_| {}).await.unwrap_err();
    assert_eq!(failure.kind, deployctl::failure::FailureKind::Credentials);
    assert!(failure.message.contains("forbidden"), "{}", failure.message);
    // A plan shows that it does not know, and why, instead of failing.
    let unknown = |found: &Verdict, why: &str| matches!(found, Verdict::Unknown(reason) if reason.contains(why));
    let diffs = cluster.diff(&[config_map("one", "kept", "2")]).await.unwrap();
    assert!(unknown(&diffs[0].verdict, "reading ConfigMap one/kept: forbidden") && diffs[0].live.is_null(), "{diffs:?}");
    let role = object(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "reader"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]}));
    let binding = object(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "other"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "other"}]}));
    server.cluster_as("test-token").await.apply(&[role, binding], |_| {}).await.unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    // The authorizer hears of a new binding a moment later.
    let diffs = loop {
        let diffs = cluster.diff(&[config_map("one", "kept", "2"), config_map("one", "not-there", "1")]).await.unwrap();
        if diffs.iter().all(|diff| unknown(&diff.verdict, "a dry run is forbidden")) {
            break diffs;
        }
        assert!(Instant::now() < end, "{diffs:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(diffs[0].live["data"]["key"], "x");
}
