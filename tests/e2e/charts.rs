//! A chart of the project's own, from its first plan to its end, by the command line alone: refused, pinned, saved, applied, changed, left out.
use std::path::Path;

use super::{
    copy::Copy,
    target::{Target, text},
};

const STEP: &str = "
  - id: thing
    kind: chart
    needs: [cluster, namespace]
    with:
      cluster: \"${steps.cluster.outputs.cluster_name}\"
      chart: charts/thing
      version: 1.0.0
      release: thing
      namespace: apps
      values: { note: one, extra: true }
      charts: \"${env.charts}\"
";
/// What runs is the one image that every sandbox has.
const FILES: [(&str, &str); 3] = [
    ("Chart.yaml", "apiVersion: v2\nname: thing\nversion: 1.0.0\n"),
    (
        "templates/deployment.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {{ .Release.Name }}\nspec:\n  selector: {matchLabels: {app: thing}}\n  template:\n    metadata:\n      labels: {app: thing}\n      annotations: {note: {{ .Values.note | quote }}}\n    spec:\n      automountServiceAccountToken: false\n      securityContext: {runAsNonRoot: true, runAsUser: 65535, seccompProfile: {type: RuntimeDefault}}\n      containers:\n        - name: pause\n          image: localhost/pause:1\n          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}\n",
    ),
    (
        "templates/made-up.yaml",
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: thing\nstringData:\n  word: {{ randAlphaNum 40 }}\n{{- if .Values.extra }}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: thing-extra\ndata: {cluster: {{ .Capabilities.KubeVersion.Version | quote }}}\n{{- end }}\n",
    ),
];

/// A field of an object in `apps`; nothing if it is not there.
fn field(target: &Target, object: &str, path: &str) -> String {
    let path = format!("jsonpath={path}");
    text(&target.command(Path::new("kubectl")).args(["-n", "apps", "get", object, "--ignore-not-found", "-o", &path]).output().unwrap())
}

fn word(target: &Target) -> String {
    field(target, "secret/thing", "{.data.word}")
}

/// See the module.
pub fn of_the_project(target: &Target) {
    let copy = Copy::new();
    for (name, content) in FILES {
        let path = copy.path("charts/thing").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    let plan = std::fs::read_to_string(copy.path("plans/deploy.yaml")).unwrap();
    std::fs::write(copy.path("plans/deploy.yaml"), plan + STEP).unwrap();
    let run = |args: &[&str]| target.deployctl(&[args, &["--project", copy.folder()]].concat());

    let shown = run(&["plan", "--only", "thing"]).expect(0);
    assert!(shown.out.contains("apply refuses this: the chart charts/thing 1.0.0 has no digest"), "{}", shown.out);
    run(&["apply", "--yes", "--only", "thing"]).expect(18);
    run(&["chart", "pin", "thing"]).expect(0);

    let saved = copy.path("plan.json");
    let saved = saved.to_str().unwrap();
    let planned = run(&["plan", "--only", "thing", "--out", saved]).expect(0);
    for line in ["+ Deployment apps/thing", "+ Secret apps/thing", "+ ConfigMap apps/thing-extra"] {
        assert!(planned.out.contains(line), "{}", planned.out);
    }
    target.deployctl(&["apply", saved, "--project", copy.folder()]).expect(0);
    assert_eq!(field(target, "deployment/thing", "{.status.availableReplicas}"), "1", "it was waited for");
    let made = word(target);
    assert!(!made.is_empty() && !std::fs::read_to_string(saved).unwrap().contains(&made), "what a chart makes up is in no plan");
    let again = run(&["apply", "--yes", "--only", "thing"]).expect(0);
    assert!(again.out.contains("Nothing had to be changed"), "{}{}", again.err, again.out);

    copy.replace("plans/deploy.yaml", "{ note: one, extra: true }", "{ note: two, extra: false }");
    let changed = copy.apply(target, "thing").expect(0);
    assert!(changed.out.contains("note: \"one\" -> \"two\"") && changed.out.contains("- ConfigMap apps/thing-extra"), "{}", changed.out);
    assert_eq!(word(target), made, "what a chart makes up stays");
    // Somebody has changed the chart: what is pinned is not what is there.
    copy.replace("charts/thing/templates/deployment.yaml", "name: pause", "name: paused");
    let refused = copy.apply(target, "thing").expect(18);
    assert!(refused.err.contains("deployctl chart -e sandbox pin"), "{}", refused.err);
    copy.replace("charts/thing/templates/deployment.yaml", "name: paused", "name: pause");

    copy.replace("plans/environments/sandbox.yaml", "charts:\n  skip:\n", "charts:\n  skip:\n    thing: nobody needs it any more\n");
    let gone = copy.apply(target, "thing").expect(0);
    assert!(gone.out.contains("- Deployment apps/thing"), "{}", gone.out);
    assert_eq!(word(target), "");
    let left_out = copy.apply(target, "thing").expect(0);
    assert!(left_out.out.contains("nobody needs it any more"), "{}", left_out.out);
}
