//! A warm standby: the DR region has a cluster of its own, on a machine of its own. With the other region lost it looks into the restored database and
//! tries it as the services would use it; what it cannot do there is told.
use std::{path::PathBuf, process::Output};

use serde_json::Value;

use super::{
    commands::block_on,
    copy::Copy,
    dr::{self, psql},
    permissions::{committed, grant, own},
    target::{Target, text},
};

const LOST: &str = "us-east-1";
const DR: &str = "eu-west-1";
const SOURCE: &str = "deployctl-sandbox";
const ENVIRONMENT: &str = "plans/environments/sandbox.yaml";

/// On a target where everything is deployed.
pub fn looks_into_a_restored_database_and_tries_it(target: &Target) {
    let warm = Copy::new();
    warm.replace(ENVIRONMENT, "standby: pilot-light", "standby: warm");
    let cold = on(target, &warm, &["dr", "status"], 12);
    assert!(cold.contains("no cluster deployctl-sandbox is prepared in eu-west-1") && cold.contains("dr -e sandbox prepare"), "{cold}");
    it_is_prepared(target, &warm);
    both_clusters_are_their_own(target);
    it_is_not_renumbered_nor_cooled_down(target);
    a_drill_is_tried_at_its_own_address(target, &warm);
    roles_are_given_by_pod_identity_from_now_on(target, &warm);

    let snapshot = target.deployctl(&["db", "snapshot", "--pause-writes", "2m", "--output", "json"]).expect(0);
    let snapshot = json(&snapshot.out).as_object().unwrap().keys().next().unwrap().clone();
    assert!(target.sandbox(&["region", "down", LOST]).status.success());
    let lost_at = jiff::Timestamp::now();
    let restore = ["dr", "restore", "--to", DR, "--snapshot", &snapshot, "--yes", "--verify", "full", "--output", "json"];
    let answer = json(&on(target, &warm, &restore, 0));
    it_was_looked_into_and_tried(&answer);
    let database = answer["database"].as_str().unwrap();
    let as_owner = |sql: &str| psql(target, database, &format!("BEGIN; GRANT parser_migrate TO CURRENT_USER; {sql}"));
    assert_eq!(as_owner("SELECT count(*) FROM files WHERE bucket = 'trial'; ROLLBACK"), "0", "a trial leaves nothing");
    what_the_service_may_not_do_any_more_is_told(target, &warm, &restore, as_owner);
    let requests: Vec<Value> = target.requests().into_iter().filter(|request| since(request, lost_at)).collect();
    let asked: Vec<&Value> = requests.iter().filter(|request| request["region"] == LOST).collect();
    assert!(asked.is_empty(), "asked of the lost region: {asked:#?}");
    let of =
        |wanted: &str| requests.iter().filter(|request| request["action"].as_str().is_some_and(|action| action.ends_with(wanted))).count();
    assert_eq!(of("AssumeRoleWithWebIdentity"), 0);
    assert!(of("AssumeRoleForPodIdentity") > 0, "the agent and the parser's own trial came to their roles by it");
    assert!(target.sandbox(&["region", "up", LOST]).status.success());
    let home = target.deployctl(&["apply", "--yes"]).expect(0);
    assert!(format!("{}{}", home.out, home.err).contains("Nothing had to be changed"), "{}", home.err);
}

/// Standard output and standard error of a command on that project.
fn on(target: &Target, project: &Copy, args: &[&str], code: i32) -> String {
    let ended = target.deployctl(&[args, &["--project", project.folder()]].concat()).expect(code);
    if args.contains(&"json") { ended.out } else { ended.out + &ended.err }
}

fn json(out: &str) -> Value {
    serde_json::from_str(out).unwrap_or_else(|error| panic!("{error}: {out}"))
}

fn lines<'a>(answer: &'a Value, key: &str) -> Vec<&'a str> {
    answer[key].as_array().unwrap().iter().filter_map(Value::as_str).collect()
}

fn since(request: &Value, at: jiff::Timestamp) -> bool {
    request["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap() >= at
}

/// As the role would be bootstrapped for it, and not with less.
fn it_is_prepared(target: &Target, warm: &Copy) {
    let mut policy = own();
    policy["Statement"].as_array_mut().unwrap().extend(committed("warm.json")["Statement"].as_array().unwrap().clone());
    grant(target, policy.clone(), |action| action != "eks:CreateNodegroup");
    let refused = target.deployctl(&["dr", "prepare", "--yes", "--project", warm.folder()]);
    assert!(refused.code == Some(15) && refused.err.contains("eks:CreateNodegroup"), "{}", refused.err);
    grant(target, policy, |_| true);
    let prepared = on(target, warm, &["dr", "prepare", "--yes"], 0);
    for said in ["recovery-cluster", "recovery-identity", "2 roles are given to their own service accounts"] {
        assert!(prepared.contains(said), "{said}:\n{prepared}");
    }
    let again = on(target, warm, &["dr", "prepare", "--yes"], 0);
    assert!(again.contains("Nothing had to be changed"), "{again}");
    let status = on(target, warm, &["dr", "status"], 0);
    assert!(
        status.contains("for a look into the database: cluster deployctl-sandbox in eu-west-1, in which 111122223333.dkr.ecr.eu-west-1"),
        "{status}"
    );
}

fn kubeconfig(target: &Target) -> PathBuf {
    PathBuf::from(target.variable("KUBECONFIG")).with_file_name("dr-cluster").join("person.kubeconfig")
}

fn kubectl_there(target: &Target, args: &[&str]) -> Output {
    let mut kubectl = target.command(std::path::Path::new("kubectl"));
    kubectl.env("KUBECONFIG", kubeconfig(target)).args(["--request-timeout", "10s"]).args(args).output().unwrap()
}

/// Names, issuers, roles, nodes, objects: the same in neither.
fn both_clusters_are_their_own(target: &Target) {
    let [home, there] = [LOST, DR].map(|region| {
        let found = block_on(aws_sdk_eks::Client::new(&target.sdk(region)).describe_cluster().name(SOURCE).send()).unwrap();
        let cluster = found.cluster().unwrap().clone();
        let issuer = cluster.identity().unwrap().oidc().unwrap().issuer().unwrap().to_owned();
        [cluster.endpoint().unwrap().to_owned(), cluster.role_arn().unwrap().to_owned(), cluster.arn().unwrap().to_owned(), issuer]
    });
    assert!(home.iter().zip(&there).all(|(home, there)| home != there), "{home:?} {there:?}");
    assert!(there[1].ends_with(":role/deployctl-sandbox-cluster-dr") && there[3].contains("oidc.eks.eu-west-1"), "{there:?}");
    let role = "jsonpath={.metadata.annotations.eks\\.amazonaws\\.com/role-arn}";
    let account = ["-n", "apps", "get", "serviceaccount", "parser", "-o", role];
    assert_eq!(text(&kubectl_there(target, &account)), "arn:aws:iam::111122223333:role/deployctl-sandbox-apps-parser-dr");
    assert_eq!(target.kubectl(&account), "arn:aws:iam::111122223333:role/deployctl-sandbox-apps-parser");
    let nodes = text(&kubectl_there(target, &["get", "nodes", "--no-headers"]));
    assert!(nodes.lines().count() == 1 && nodes.contains("eu-west-1.compute.internal") && nodes.contains(" Ready "), "{nodes}");
    assert!(text(&target.sandbox(&["status"])).contains("dr-kube-apiserver"));
}

/// Other addresses would be another VPC, and a pilot light no way out; neither is done to what stands.
fn it_is_not_renumbered_nor_cooled_down(target: &Target) {
    let renumbered = Copy::new();
    renumbered.replace(ENVIRONMENT, "standby: pilot-light, cidr: 10.41.0.0/16", "standby: warm, cidr: 10.42.0.0/16");
    // Also where the environment protects nothing.
    renumbered.replace(ENVIRONMENT, "tags: {", "guards: { max_deletions: 500, protected: [] }\ntags: {");
    let refused = on(target, &renumbered, &["dr", "prepare", "--yes"], 18);
    assert!(
        refused.contains("would replace module.vpc.aws_vpc.this") && refused.contains("put recovery.cidr back to what it was"),
        "{refused}"
    );
    assert!(refused.contains("10.41.0.0/16") && refused.contains("10.42.0.0/16"), "{refused}");
    let cooled = target.deployctl(&["dr", "prepare", "--yes"]).expect(18);
    assert!(cooled.err.contains("a pilot light would leave it without a way out"), "{}", cooled.err);
}

/// One key of the plan file, in the cluster that stands.
fn roles_are_given_by_pod_identity_from_now_on(target: &Target, warm: &Copy) {
    warm.replace("plans/warm-dr.yaml", "\ncredentials: irsa\n", "\ncredentials: pod-identity\n");
    // The add-on is made first; the changed roles, which nobody was shown, are then shown.
    let stopped = on(target, warm, &["dr", "prepare", "--yes"], 13);
    assert!(stopped.contains("not shown: update aws_iam_role") && stopped.contains("run plan again"), "{stopped}");
    let prepared = on(target, warm, &["dr", "prepare", "--yes"], 0);
    for said in ["2 roles trust EKS for exactly their service accounts", "2 roles are given to their own service accounts"] {
        assert!(prepared.contains(said), "{said}:\n{prepared}");
    }
    let again = on(target, warm, &["dr", "prepare", "--yes"], 0);
    assert!(again.contains("Nothing had to be changed"), "{again}");
}

/// No secret says a drill's address, and the service's own credentials fit it all the same.
fn a_drill_is_tried_at_its_own_address(target: &Target, warm: &Copy) {
    psql(target, SOURCE, "CREATE TABLE warm (id int); INSERT INTO warm VALUES (1)");
    dr::wait_until_replicated(target, &jiff::Timestamp::now());
    let answer = json(&on(target, warm, &["dr", "drill", "--yes", "--output", "json"], 0));
    let tried = lines(&answer, "checked").into_iter().find(|line| line.starts_with("apps/parser reads and writes in it as parser_run: "));
    assert!(tried.is_some_and(|line| line.contains("9 statements of services/parser/trial.sql")), "{answer:#}");
    assert_eq!(answer["rpo"]["bound"], "exact", "{answer:#}");
}

fn it_was_looked_into_and_tried(answer: &Value) {
    let (checked, unchecked) = (lines(answer, "checked"), lines(answer, "not_checked"));
    assert!(lines(answer, "differs").is_empty() && lines(answer, "wrong").is_empty(), "{answer:#}");
    for said in ["held against it, row by row", "apps/parser reads and writes in it as parser_run, by the address in secret database: "] {
        assert!(checked.iter().any(|line| line.contains(said)), "{said}: {answer:#}");
    }
    // Nothing that was not tried is claimed.
    for said in ["nothing in eu-west-1 reads its address", "a file through the whole system"] {
        assert!(unchecked.iter().any(|line| line.contains(said)), "{said}: {answer:#}");
    }
    assert!(!unchecked.iter().any(|line| line.contains("the services' roles")), "{answer:#}");
}

/// The same command tries again. That a service's password does not fit any more is in no record of what the database held; it is found, and ends
/// the command with 16.
fn what_the_service_may_not_do_any_more_is_told(target: &Target, warm: &Copy, restore: &[&str], as_owner: impl Fn(&str) -> String) {
    as_owner("ALTER ROLE parser_run VALID UNTIL '2026-01-01'; REVOKE parser_migrate FROM CURRENT_USER; COMMIT");
    let ended = target.deployctl(&[restore, &["--project", warm.folder()]].concat()).expect(16);
    let answer = json(&ended.out);
    let wrong = lines(&answer, "wrong").join("\n");
    assert!(
        wrong.contains("apps/parser: Job apps/trial-")
            && wrong.contains(": parser_run cannot connect to ")
            && wrong.contains("password authentication failed"),
        "{answer:#}"
    );
    assert!(ended.err.contains("is restored, but "), "{}", ended.err);
    as_owner("ALTER ROLE parser_run VALID UNTIL 'infinity'; REVOKE parser_migrate FROM CURRENT_USER; COMMIT");
    let good = json(&on(target, warm, restore, 0));
    assert!(lines(&good, "wrong").is_empty(), "{good:#}");
}
