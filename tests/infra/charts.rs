//! Charts made for the test, rendered by the real helm and applied to a real API server: from a folder and from a registry, pinned, changed,
//! pruned, taken away; and what is refused.
use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use deployctl::{
    charts::{Origin, Reach, digest_of_folder},
    cluster::Cluster,
    failure::{Failure, FailureKind},
    ids::RepositoryName,
    image::{Blob, Image, Registry},
    manifests::ObjectKey,
    steps::{
        Action, Kind, StepContext, StepPlan,
        chart::{ChartKind, Input},
    },
    tools::helm,
};
use serde_json::{Value, json};

use super::{api_server::ApiServer, emulator::with_proxied_aws, fixture, front, installed};

const FILES: [(&str, &str); 9] = [
    ("Chart.yaml", "apiVersion: v2\nname: thing\nversion: 1.2.3\n"),
    ("values.yaml", "text: one\nservice: true\nsecret: false\nhook: false\n"),
    (
        "crds/gadgets.yaml",
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: gadgetparams.test.deployctl.dev}\nspec:\n  group: test.deployctl.dev\n  scope: Cluster\n  names: {kind: GadgetParams, plural: gadgetparams, singular: gadgetparams, listKind: GadgetParamsList}\n  versions:\n    - name: v1\n      served: true\n      storage: true\n      schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}\n",
    ),
    // Its plural is not the one that Kubernetes' rule would make.
    (
        "templates/gadget.yaml",
        "apiVersion: test.deployctl.dev/v1\nkind: GadgetParams\nmetadata:\n  name: {{ .Release.Name }}\nspec:\n  size: 1\n",
    ),
    (
        "templates/config.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\ndata:\n  text: {{ .Values.text | quote }}\n  kubernetes: {{ .Capabilities.KubeVersion.Version }}\n  knows: {{ .Capabilities.APIVersions.Has \"apps/v1/Deployment\" | quote }}\n  unknown: {{ .Capabilities.APIVersions.Has \"example.org/v1\" | quote }}\n",
    ),
    (
        "templates/service.yaml",
        "{{- if .Values.service }}\napiVersion: v1\nkind: Service\nmetadata:\n  name: {{ .Release.Name }}\nspec:\n  selector: {app: thing}\n  ports: [{port: 80}]\n{{- end }}\n",
    ),
    (
        "templates/secret.yaml",
        "{{- if .Values.secret }}\n{{- $word := randAlphaNum 32 }}\napiVersion: v1\nkind: Secret\nmetadata:\n  name: {{ .Release.Name }}\nstringData:\n  password: {{ $word }}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-check\ndata:\n  hash: {{ $word | sha256sum }}\n{{- end }}\n",
    ),
    (
        "templates/hook.yaml",
        "{{- if .Values.hook }}\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: before\n  annotations:\n    helm.sh/hook: pre-install\n{{- end }}\n",
    ),
    ("templates/tests/test.yaml", "apiVersion: v1\nkind: Pod\nmetadata:\n  name: tried\n  annotations:\n    helm.sh/hook: test\n"),
];

fn write(folder: &Path) {
    for (name, text) in FILES {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

fn input(chart: &str, digest: &str, more: Value) -> Input {
    let mut with = json!({"cluster": "test", "chart": chart, "version": "1.2.3", "digest": digest, "release": "thing", "namespace": "things",
        "create_namespace": {"made-by": "the-test"}, "values_files": ["values.yaml.hbs"], "template_values": {"word": "one"}});
    with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(with).unwrap()
}

fn lines(plan: &StepPlan) -> Vec<String> {
    plan.changes.iter().map(|change| format!("{} {} {}", change.action, change.resource, change.name)).collect()
}

fn key(kind: &str, name: &str) -> ObjectKey {
    ObjectKey { api_version: "v1".into(), kind: kind.into(), namespace: Some("things".into()), name: name.into() }
}

struct World {
    cx: StepContext,
    project: PathBuf,
    /// Past the step.
    cluster: Cluster,
    _server: ApiServer,
}

impl World {
    fn digest(&self) -> String {
        digest_of_folder(&self.project.join("charts/thing")).unwrap().to_string()
    }
    fn own(&self, more: Value) -> Input {
        input("charts/thing", &self.digest(), more)
    }
    async fn plan(&self, input: &Input) -> Result<StepPlan, Failure> {
        Box::pin(fixture::planned::<ChartKind>(&self.cx, input)).await
    }
    async fn applied(&self, input: &Input) -> Vec<String> {
        let (plan, _) =
            Box::pin(fixture::run::<ChartKind>(&self.cx, input)).await.unwrap_or_else(|f| panic!("{:?} {:?}", f.chain(), f.evidence));
        let again = self.plan(input).await.unwrap();
        assert_eq!(lines(&again), Vec::<String>::new(), "an unchanged chart changes nothing: {again:?}");
        lines(&plan)
    }
    async fn version_of(&self, kind: &str, name: &str) -> Option<Value> {
        self.cluster.get(&key(kind, name)).await.unwrap().map(|object| object["metadata"]["resourceVersion"].clone())
    }
}

#[test]
fn from_a_folder_and_from_a_registry() {
    const NAME: &str = "charts::from_a_folder_and_from_a_registry";
    // Once for this machine, before the test gets a cache of its own.
    if std::env::var_os("DEPLOYCTL_TEST_INSIDE").is_none() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(helm::program(&Default::default(), &|line| eprintln!("{line}"))).unwrap();
    }
    with_proxied_aws(NAME, |emulator| async {
        // On the heap, as the engine has them: unoptimised, one after the other would not fit into a test's stack.
        let Some(world) = Box::pin(world(emulator)).await else { return };
        a_folder_has_the_digest_that_sha256sum_gives(&world);
        Box::pin(what_is_not_pinned_or_not_itself_is_refused(&world)).await;
        Box::pin(hooks_are_refused_unless_they_are_named(&world)).await;
        Box::pin(a_saved_plan_is_all_that_is_applied(&world)).await;
        Box::pin(what_changes_is_shown_and_what_is_gone_is_pruned(&world)).await;
        Box::pin(what_a_chart_makes_up_stays_and_is_in_no_plan(&world)).await;
        Box::pin(a_registry_gives_what_its_manifest_says(&world)).await;
        Box::pin(left_out_and_taken_away(&world)).await;
    });
}

async fn world(emulator: String) -> Option<World> {
    installed::kube_node()?;
    let folder = fixture::test_dir();
    let address = std::env::var("AWS_ENDPOINT_URL").unwrap();
    let webhook = folder.join("webhook.yaml");
    let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "a", "clusters": [{"name": "a", "cluster": {"server": format!("{address}/tokens")}}],
        "users": [{"name": "a"}], "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}]});
    std::fs::write(&webhook, text.to_string()).unwrap();
    let webhook = format!("--authentication-token-webhook-config-file={}", webhook.display());
    let server = ApiServer::start_with(&[&webhook, "--authentication-token-webhook-version=v1"])?;
    let endpoint = server.config().cluster_url.to_string();
    front::serve(emulator, front::Cluster { name: "test".into(), endpoint, authority: server.authority() }).await;
    let cluster = server.cluster_as("test-token").await;
    let project = folder.join("project");
    write(&project.join("charts/thing"));
    std::fs::write(project.join("values.yaml.hbs"), "text: {{json (concat word \"-\" env.name)}}\n").unwrap();
    let cx = fixture::context("thing", &project).await;
    Some(World { cx, project, cluster, _server: server })
}

/// As src/charts/folder.rs documents it.
fn a_folder_has_the_digest_that_sha256sum_gives(world: &World) {
    let script = r"find . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum";
    let output = Command::new("sh").args(["-c", script]).current_dir(world.project.join("charts/thing")).output().unwrap();
    let hash = String::from_utf8(output.stdout).unwrap();
    assert_eq!(world.digest(), format!("sha256:{}", hash.split(' ').next().unwrap()));
}

async fn what_is_not_pinned_or_not_itself_is_refused(world: &World) {
    let unpinned = world.plan(&world.own(json!({"digest": null}))).await.unwrap_err();
    assert_eq!(unpinned.kind, FailureKind::Policy);
    assert!(unpinned.next[0].contains("deployctl chart pin"), "{:?}", unpinned.next);
    let good = world.digest();
    let template = world.project.join("charts/thing/templates/config.yaml");
    let text = std::fs::read_to_string(&template).unwrap();
    std::fs::write(&template, format!("{text}  more: \"1\"\n")).unwrap();
    let changed = world.plan(&input("charts/thing", &good, json!({}))).await.unwrap_err();
    assert_eq!(changed.kind, FailureKind::Policy, "{changed:?}");
    assert!(changed.message.contains(&good) && changed.message.contains(&world.digest()), "{}", changed.message);
    std::fs::write(&template, text).unwrap();
    let other = world.plan(&world.own(json!({"version": "1.2.4"}))).await.unwrap_err();
    assert_eq!(other.kind, FailureKind::Usage);
    assert!(other.message.contains("1.2.3") && other.message.contains("1.2.4"), "{}", other.message);
    let missing = world.plan(&world.own(json!({"template_values": {}}))).await.unwrap_err();
    assert_eq!(missing.kind, FailureKind::Usage);
    assert!(missing.message.contains("values.yaml.hbs:1"), "values are strict: {}", missing.message);
}

async fn hooks_are_refused_unless_they_are_named(world: &World) {
    let refused = world.plan(&world.own(json!({"values": {"hook": true}}))).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Policy);
    assert_eq!(refused.evidence, ["ConfigMap/before: pre-install (thing/templates/hook.yaml)"]);
    let plan = |what: &str| world.own(json!({"values": {"hook": true}, "hooks": {"ConfigMap/before": what}}));
    let left_out = lines(&world.plan(&plan("leave-out")).await.unwrap());
    assert!(!left_out.iter().any(|line| line.contains("before") || line.contains("tried")), "{left_out:?}");
    let applied = lines(&world.plan(&plan("apply")).await.unwrap());
    assert!(applied.contains(&"create ConfigMap things/before".to_owned()), "{applied:?}");
}

async fn a_saved_plan_is_all_that_is_applied(world: &World) {
    let input = world.own(json!({}));
    let plan = world.plan(&input).await.unwrap();
    let created = [
        "create Namespace things",
        "create CustomResourceDefinition gadgetparams.test.deployctl.dev",
        "create ConfigMap things/thing",
        "create GadgetParams thing",
        "create Service things/thing",
    ];
    let mut found = lines(&plan);
    found.sort();
    let mut wanted = created.to_vec();
    wanted.sort_unstable();
    assert_eq!(found, wanted);
    assert_eq!(plan.payload["chart"], world.digest());
    let config = plan.payload["release"]["objects"].as_array().unwrap().iter().find(|object| object["key"]["kind"] == "ConfigMap").unwrap();
    assert_eq!(config["value"]["data"], json!({"text": "one-sandbox", "kubernetes": "v1.34.4", "knows": "true", "unknown": "false"}));
    // Nothing is rendered any more: the chart is not even there.
    let (chart, aside) = (world.project.join("charts/thing"), world.project.join("aside"));
    std::fs::rename(&chart, &aside).unwrap();
    let saved: StepPlan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
    ChartKind::apply(&world.cx, &input, &saved).await.unwrap_or_else(|f| panic!("{:?} {:?}", f.chain(), f.evidence));
    std::fs::rename(&aside, &chart).unwrap();
    let live = world.cluster.get(&key("ConfigMap", "thing")).await.unwrap().unwrap();
    assert_eq!(live["data"], config["value"]["data"]);
    let before = [world.version_of("ConfigMap", "thing").await, world.version_of("Service", "thing").await];
    assert_eq!(world.applied(&input).await, Vec::<String>::new());
    assert_eq!(before, [world.version_of("ConfigMap", "thing").await, world.version_of("Service", "thing").await]);
    let present = |name: &str| world.own(json!({"present": [format!("apiextensions.k8s.io/v1 CustomResourceDefinition {name}")]}));
    world.applied(&present("gadgetparams.test.deployctl.dev")).await;
}

async fn what_changes_is_shown_and_what_is_gone_is_pruned(world: &World) {
    let input = world.own(json!({"values": {"text": "two", "service": false}}));
    let plan = world.plan(&input).await.unwrap();
    assert_eq!(lines(&plan), ["update ConfigMap things/thing", "delete Service things/thing"]);
    assert_eq!(plan.changes[0].details, ["data.text: \"one-sandbox\" -> \"two\""]);
    world.applied(&input).await;
    assert_eq!(world.version_of("Service", "thing").await, None);
}

async fn what_a_chart_makes_up_stays_and_is_in_no_plan(world: &World) {
    let input = world.own(json!({"values": {"text": "two", "service": false, "secret": true}}));
    let plan = world.plan(&input).await.unwrap();
    let secret = plan.payload["release"]["objects"].as_array().unwrap().iter().find(|object| object["key"]["kind"] == "Secret").unwrap();
    assert!(secret["value"]["data"]["password"].as_str().unwrap().starts_with("(made up"), "{secret}");
    // `applied` plans once more: what differs at every rendering is no change.
    assert_eq!(world.applied(&input).await, ["create Secret things/thing", "create ConfigMap things/thing-check"]);
    let made = world.cluster.get(&key("Secret", "thing")).await.unwrap().unwrap()["data"]["password"].clone();
    let hash = |live: &Value| live["data"]["hash"].clone();
    let check = hash(&world.cluster.get(&key("ConfigMap", "thing-check")).await.unwrap().unwrap());
    assert!(!serde_json::to_string(&plan).unwrap().contains(made.as_str().unwrap()));
    use base64::Engine;
    let password = base64::engine::general_purpose::STANDARD.decode(made.as_str().unwrap()).unwrap();
    assert_eq!(check, Blob::new(password).unwrap().digest.as_str().strip_prefix("sha256:").unwrap(), "both are of one rendering");
    // Something else changes: what was made up stays.
    let changed = world.own(json!({"values": {"text": "three", "service": false, "secret": true}}));
    assert_eq!(world.applied(&changed).await, ["update ConfigMap things/thing"]);
    assert_eq!(world.cluster.get(&key("Secret", "thing")).await.unwrap().unwrap()["data"]["password"], made);
    // One half is lost: both are made anew, for one does not fit the other.
    world.cluster.delete(&key("Secret", "thing")).await.unwrap();
    let mended = world.applied(&changed).await;
    assert_eq!(mended, ["create Secret things/thing", "update ConfigMap things/thing-check"]);
    assert_ne!(hash(&world.cluster.get(&key("ConfigMap", "thing-check")).await.unwrap().unwrap()), check);
}

/// Packed as `helm package` does it.
fn packed(folder: &Path) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_dir_all("thing", folder).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&archive.into_inner().unwrap()).unwrap();
    gzip.finish().unwrap()
}

/// As `helm push` does it: returns the manifest's digest.
async fn pushed(world: &World, repository: &RepositoryName, packed: Vec<u8>, tag: &str) -> String {
    let (config, layer) = (Blob::new(b"{\"name\":\"thing\",\"version\":\"1.2.3\"}".to_vec()).unwrap(), Blob::new(packed).unwrap());
    let part = |kind: &str, blob: &Blob| json!({"mediaType": kind, "digest": blob.digest, "size": blob.bytes.len()});
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": part("application/vnd.cncf.helm.config.v1+json", &config),
        "layers": [part("application/vnd.cncf.helm.chart.content.v1.tar+gzip", &layer)]});
    let manifest = Blob::new(manifest.to_string().into_bytes()).unwrap();
    let image = Image { blobs: vec![config, layer], manifest, media_type: media_type.into() };
    let registry = Registry::connect(&world.cx.aws).await.unwrap();
    registry.push(repository, &image, &[tag.to_owned()]).await.unwrap().digest.to_string()
}

async fn a_registry_gives_what_its_manifest_says(world: &World) {
    let repository = RepositoryName::parse("charts/thing").unwrap();
    let config = aws_config::load_defaults(aws_config::BehaviorVersion::latest()).await;
    let ecr = aws_sdk_ecr::Client::new(&config.into_builder().region(aws_config::Region::new("us-east-1")).build());
    ecr.create_repository().repository_name(repository.as_str()).send().await.unwrap();
    let digest = pushed(world, &repository, packed(&world.project.join("charts/thing")), "1.2.3").await;
    let place = format!("oci://{}/{repository}", world.cx.aws.registry_host());
    let values = json!({"values": {"text": "three", "service": false, "secret": true}});
    // The same chart by another way: nothing changes.
    let plan = world.plan(&input(&place, &digest, values.clone())).await.unwrap();
    assert_eq!(lines(&plan), Vec::<String>::new());
    assert_eq!(plan.payload["chart"], digest);

    let origin = Origin::parse(&place, None).unwrap();
    let reach = Reach { project: &world.project, aws: Some(&world.cx.aws) };
    assert_eq!(origin.digest("1.2.3", &reach).await.unwrap().to_string(), digest, "what `deployctl chart pin` finds");
    assert!(origin.digest("9.9.9", &reach).await.is_err());
    let wrong = format!("sha256:{}", "0".repeat(64));
    let refused = world.plan(&input(&place, &wrong, values.clone())).await.unwrap_err();
    assert_eq!(refused.kind, FailureKind::Policy, "{refused:?}");
    // What was fetched once is taken from here, and only while it is what its name says.
    let cache = deployctl::cache::folder().unwrap().join("charts");
    let kept: Vec<PathBuf> = std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(kept.len(), 2, "manifest and packed chart: {kept:?}");
    for path in &kept {
        std::fs::write(path, "somebody was here").unwrap();
    }
    assert_eq!(lines(&world.plan(&input(&place, &digest, values.clone())).await.unwrap()), Vec::<String>::new());
    // An image under the chart's name is none.
    let image = Blob::new(b"{}".to_vec()).unwrap();
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let part = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": image.digest, "size": 2});
    let manifest = Blob::new(json!({"schemaVersion": 2, "config": part, "layers": []}).to_string().into_bytes()).unwrap();
    let no_chart = Image { blobs: vec![image], manifest, media_type: media_type.into() };
    let registry = Registry::connect(&world.cx.aws).await.unwrap();
    let no_chart = registry.push(&repository, &no_chart, &["image".to_owned()]).await.unwrap().digest.to_string();
    let refused = world.plan(&input(&place, &no_chart, values)).await.unwrap_err();
    assert!(refused.message.contains("is an image and no chart"), "{}", refused.message);
}

async fn left_out_and_taken_away(world: &World) {
    let there = json!({"values": {"text": "three", "service": true, "secret": true}});
    world.applied(&world.own(there)).await;
    let out = world.own(json!({"charts": {"skip": {"thing": "not here"}}}));
    let plan = world.plan(&out).await.unwrap();
    assert!(!plan.changes.is_empty() && plan.changes.iter().all(|change| change.action == Action::Delete), "{plan:?}");
    let goes: BTreeMap<&str, &str> = plan.changes.iter().map(|change| (change.resource.as_str(), change.name.as_str())).collect();
    assert!(goes.contains_key("Secret") && goes.contains_key("GadgetParams"), "{goes:?}");
    assert!(!goes.contains_key("CustomResourceDefinition") && !goes.contains_key("Namespace"), "{goes:?}");
    world.applied(&out).await;
    assert_eq!(world.version_of("ConfigMap", "thing").await, None);
    // And by `destroy`, after it was there again.
    let back = world.own(json!({}));
    world.applied(&back).await;
    assert!(!ChartKind::would_delete(&world.cx, &back).await.unwrap().is_empty());
    ChartKind::undo(&world.cx, &back).await.unwrap();
    assert_eq!(world.version_of("ConfigMap", "thing").await, None);
    let definition = ObjectKey {
        api_version: "apiextensions.k8s.io/v1".into(),
        kind: "CustomResourceDefinition".into(),
        namespace: None,
        name: "gadgetparams.test.deployctl.dev".into(),
    };
    assert!(world.cluster.get(&definition).await.unwrap().is_some(), "definitions are never deleted with a step");
}
