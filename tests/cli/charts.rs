//! Charts in a plan file, as far as files go: what is not pinned is shown by plan and refused by apply, and `chart pin` writes the digest.
use crate::project::{PLAN, Project};

const CHART: &str = "  # A chart of the project's own.
  - id: cache
    kind: chart
    needs: [backend]
    with:
      cluster: test
      chart: charts/cache
      version: 1.0.0   # as in Chart.yaml
      release: cache
      namespace: apps
      charts: \"${env.charts}\"
";

fn project() -> Project {
    let project = Project::new();
    project.write("plans/deploy.yaml", &format!("{PLAN}{CHART}"));
    project.write("charts/cache/Chart.yaml", "apiVersion: v2\nname: cache\nversion: 1.0.0\n");
    project.write("charts/cache/templates/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n");
    project
}

fn plan_file(project: &Project) -> String {
    std::fs::read_to_string(project.path().join("plans/deploy.yaml")).unwrap()
}

#[test]
fn what_is_not_pinned_is_shown_and_refused() {
    let project = project();
    let planned = project.run(&["plan", "--offline"]);
    assert!(
        planned.contains("! apply refuses this: the chart charts/cache 1.0.0 has no digest") && planned.contains("--- exit 0"),
        "{planned}"
    );
    // Nobody answers at the endpoint: this is said before anybody is asked.
    let applied = project.run(&["apply", "--yes"]);
    assert!(applied.contains("--- exit 18") && applied.contains("deployctl chart -e sandbox pin"), "{applied}");
    let other = project.run(&["apply", "--yes", "--only", "backend"]);
    assert!(!other.contains("--- exit 18"), "a step that is not run is not refused: {other}");
}

#[test]
fn a_pin_is_written_beside_the_version_and_nothing_else_changes() {
    let project = project();
    let printed = project.run(&["chart", "pin", "--print"]);
    assert!(printed.contains("cache  charts/cache 1.0.0  sha256:") && printed.contains("(new)"), "{printed}");
    assert_eq!(plan_file(&project), format!("{PLAN}{CHART}"));
    let digest = printed.split("sha256:").nth(1).unwrap()[..64].to_owned();
    project.run(&["chart", "pin"]);
    let line = "      version: 1.0.0   # as in Chart.yaml\n";
    assert_eq!(plan_file(&project), format!("{PLAN}{CHART}").replace(line, &format!("{line}      digest: sha256:{digest}\n")));
    assert!(!project.run(&["plan", "--offline"]).contains("apply refuses"));
    assert!(project.run(&["chart", "pin"]).contains("(as it was)"));
    // The project's own files change with the project: their pin follows.
    project.write("charts/cache/templates/a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\n");
    let again = project.run(&["chart", "pin", "cache"]);
    assert!(again.contains(&format!("(was sha256:{digest})")) && !plan_file(&project).contains(&digest), "{again}");
    let unknown = project.run(&["chart", "pin", "backend"]);
    assert!(unknown.contains("no step `backend` of kind chart") && unknown.contains("--- exit 10"), "{unknown}");
}

/// With the helm of this machine, where there is one already: here nothing is built for it.
#[test]
fn a_chart_is_rendered_without_a_cluster() {
    let Some(helm) = deployctl::tools::helm::find() else { return };
    let project = project();
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata: {of: {{ .Values.vpc | quote }}, kubernetes: {{ .Capabilities.KubeVersion.Version | quote }}}\n";
    project.write("charts/cache/templates/a.yaml", template);
    let text = plan_file(&project)
        .replace("      namespace: apps\n", "      namespace: apps\n      values: { vpc: \"in ${steps.images.outputs.uploader}\" }\n");
    project.write(
        "plans/deploy.yaml",
        &text.replace("needs: [backend]\n    with:\n      cluster: test", "needs: [images]\n    with:\n      cluster: test"),
    );
    let unpinned = project.run(&["chart", "render"]);
    assert!(unpinned.contains("has no digest") && unpinned.contains("--- exit 18"), "{unpinned}");
    project.run(&["chart", "pin"]);
    let mut command = project.command(&["chart", "render", "cache", "--output", "json"]);
    let output = command.env("PATH", helm.parent().unwrap()).output().unwrap();
    let objects: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", project.shown(&output)));
    assert_eq!(objects[0]["metadata"]["namespace"], "apps");
    assert_eq!(objects[0]["data"], serde_json::json!({"of": "in steps-images-outputs-uploader", "kubernetes": "v1.34.0"}));
}

#[test]
fn an_environment_leaves_charts_out_by_their_names() {
    let project = project();
    let environment = include_str!("../../plans/environments/sandbox.yaml");
    let skip = |name: &str| {
        environment.split_once("charts:").unwrap().0.to_owned() + &format!("charts: {{ skip: {{ {name}: nobody needs it }} }}\n")
    };
    project.write("plans/environments/sandbox.yaml", &skip("cache"));
    let planned = project.run(&["plan", "--offline"]);
    assert!(planned.contains("cache    skipped (nobody needs it)") && !planned.contains("apply refuses"), "{planned}");
    project.write("plans/environments/sandbox.yaml", &skip("cahce"));
    let refused = project.run(&["plan", "--offline"]);
    assert!(refused.contains("did you mean `cache`?") && refused.contains("--- exit 10"), "{refused}");
}
