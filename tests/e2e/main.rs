//! The whole plan on a sandbox of its own: planned, applied, applied again, looked at by hand, broken on purpose. Needs root.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test may panic and says what it saw")]
mod asked;
mod bad_input;
mod canary;
mod charts;
mod commands;
mod copy;
mod database;
mod destroy;
mod dr;
mod drills;
mod every_role;
mod https;
mod images;
mod killed;
mod known;
mod least_privilege;
mod machines;
mod matrix;
mod parameters;
mod permissions;
mod places;
mod planned;
mod pod_identity;
mod processes;
#[path = "../replay/mod.rs"]
mod replay;
mod rollout;
mod sandbox;
mod services;
mod strategies;
mod target;
mod unseen;
mod verification;
mod warm;

use std::path::Path;

use target::{Target, project, text};

/// Verbs of calls that change nothing.
const READS: [&str; 8] = ["Describe", "Get", "List", "Head", "BatchGet", "Assume", "Simulate", "Lookup"];

#[test]
fn the_whole_plan_for_real() {
    let target = Target::up();
    let secrets = canary::Canaries::set(&target);
    planning_changes_nothing(&target);
    // The images may be compiled here already, beside what is refused.
    let watch = processes::Watch::start();
    permissions::a_missing_one_is_named(&target);
    let mut watched = watch.stop();
    killed::is_taken_over(&target);
    machines::is_lost(&target);
    let watch = processes::Watch::start();
    let applied = target.deployctl_loud(&["apply", "--yes", "--json-into", secrets.events()], None).expect(0);
    watched.extend(watch.stop());
    let told: String = applied.err.lines().filter(|line| !canary::is_logged(line)).map(|line| format!("{line}\n")).collect();
    eprintln!("{told}");
    let steps = "backend network cluster data identity images namespace config uploader parser smoke observability dashboards";
    for step in steps.split(' ') {
        assert!(
            applied.err.lines().any(|line| line.starts_with(&format!("{step}: ")) && line.contains("changed")),
            "{step} did not end well"
        );
    }
    by_hand(&target);
    services::are_real(&target, secrets.token());
    services::meet_the_rare(&target, secrets.token());
    least_privilege::is_used_up(&target, |_| true);
    least_privilege::ends_at_its_own(&target);
    let again = target.deployctl(&["apply", "--yes"]).expect(0);
    assert!(format!("{}{}", again.out, again.err).contains("Nothing had to be changed"), "{}", again.err);
    // The promise is 20 s; the rest is for a machine that others use.
    assert!(again.seconds < 30.0, "an unchanged apply took {} s", again.seconds);
    once_deployed(&target, secrets, &watched);
}

/// A target where everything is there: one that stands already, or its own.
fn deployed() -> Target {
    let target = Target::up();
    if !Target::stands() {
        canary::Canaries::set(&target);
        target.deployctl(&["apply", "--yes"]).expect(0);
    }
    target
}

/// What follows once everything is there.
fn once_deployed(target: &Target, secrets: canary::Canaries, watched: &[processes::Seen]) {
    planned::by_who_may_only_read(target);
    known::everywhere(target);
    commands::work(target, &secrets.every_command(target), &secrets.plan());
    database::is_looked_at(target);
    drills::are_known_to_be_overdue(target);
    images::retire(target);
    machines::take_turns(target);
    sandbox::is_closed(target);
    sandbox::is_repaired(target);
    charts::of_the_project(target);
    the_wrong_account_is_refused(target);
    bad_input::is_told(target);
    let after = target.deployctl(&["apply", "--yes"]).expect(0);
    eprintln!("{}", after.err);
    secrets.are_found_nowhere(target, watched);
    matrix::sample(target);
}

#[test]
#[ignore = "a part of the whole plan, for whoever works on what is not its first apply"]
fn only_once_deployed() {
    let target = Target::up();
    let secrets = canary::Canaries::set(&target);
    let watch = processes::Watch::start();
    target.deployctl_loud(&["apply", "--yes", "--json-into", secrets.events()], None).expect(0);
    once_deployed(&target, secrets, &watch.stop());
}

#[test]
#[ignore = "a part of the whole plan, for whoever works on the failure matrix"]
fn only_the_sample() {
    let target = Target::up();
    canary::Canaries::set(&target);
    target.deployctl(&["apply", "--yes"]).expect(0);
    matrix::sample(&target);
}

#[test]
#[ignore = "all of the failure matrix takes most of an hour: `make soak`"]
fn every_step_at_every_moment() {
    let target = deployed();
    matrix::everything(&target);
}

#[test]
#[ignore = "a part of the whole plan, for whoever works on permissions and images alone"]
fn only_the_permissions() {
    let target = Target::up();
    let secrets = canary::Canaries::set(&target);
    permissions::a_missing_one_is_named(&target);
    let applied = target.deployctl(&["apply", "--yes"]).expect(0);
    eprintln!("{}", applied.err);
    services::are_real(&target, secrets.token());
    commands::work(&target, &secrets.every_command(&target), &secrets.plan());
    images::retire(&target);
}

#[test]
#[ignore = "a part of the whole plan, for whoever works on it alone"]
fn only_what_was_killed() {
    let target = Target::up();
    killed::is_taken_over(&target);
}

/// In `make soak`.
#[test]
#[ignore = "a part of the soak test"]
fn only_a_lost_machine() {
    let target = Target::up();
    machines::is_lost_before_its_first_state(&target);
}

/// Every command of plans/runbooks/migration-failed.md, and a restore in place that is killed on the way; in `make soak`.
#[test]
#[ignore = "a part of the soak test"]
fn a_migration_failed() {
    let target = Target::up();
    canary::Canaries::set(&target);
    target.deployctl(&["apply", "--yes"]).expect(0);
    database::is_brought_back(&target);
}

#[test]
#[ignore = "a part of the whole plan, for whoever works on charts alone"]
fn only_a_chart() {
    let target = Target::up();
    target.deployctl(&["apply", "--yes", "--only", "backend,network,cluster,data,identity,namespace"]).expect(0);
    charts::of_the_project(&target);
}

/// What is planned, saved and known elsewhere.
#[test]
#[ignore = "a part of the whole plan, for whoever works on it alone"]
fn only_who_plans() {
    let target = Target::up();
    let _secrets = canary::Canaries::set(&target);
    planning_changes_nothing(&target);
    for _ in 0..2 {
        let applied = target.deployctl(&["apply", "--yes"]).expect(0);
        eprintln!("{}", applied.err);
    }
    planned::by_who_may_only_read(&target);
    known::everywhere(&target);
}

/// Rolling updates under load, with and without what a pod does before it leaves; in `make soak`.
#[test]
#[ignore = "a part of the soak test"]
fn only_the_rollout() {
    let target = Target::up();
    let secrets = canary::Canaries::set(&target);
    target.deployctl(&["apply", "--yes"]).expect(0);
    rollout::loses_nothing(&target, secrets.token());
}

/// Blue-green and canary by the real Argo Rollouts; in `make soak`.
#[test]
#[ignore = "a part of the soak test"]
fn only_the_strategies() {
    let target = Target::up();
    let secrets = canary::Canaries::set(&target);
    strategies::bring_versions(&target, secrets.token());
}

/// HTTPS with a certificate of ACM's; in `make soak`.
#[test]
#[ignore = "a part of the soak test"]
fn only_https() {
    let target = deployed();
    https::is_spoken(&target);
}

/// The end of an environment, twice: without its data and with it; in `make soak`.
#[test]
#[ignore = "a part of the soak test"]
fn only_the_destroy() {
    let target = Target::up();
    canary::Canaries::set(&target);
    target.deployctl(&["apply", "--yes"]).expect(0);
    destroy::leaves_what_was_not_named(&target);
}

/// What the services' roles may do, and what they were seen to do.
#[test]
#[ignore = "a part of the whole plan, for whoever works on it alone"]
fn only_least_privilege() {
    let target = Target::up();
    let secrets = canary::Canaries::set(&target);
    target.deployctl(&["apply", "--yes"]).expect(0);
    services::are_real(&target, secrets.token());
    services::meet_the_rare(&target, secrets.token());
    least_privilege::is_used_up(&target, |_| true);
    least_privilege::ends_at_its_own(&target);
}

/// A whole life of an environment, and what each role was seen to do in it; in `make soak`.
#[test]
#[ignore = "takes as long as the rest of the end-to-end test"]
fn only_what_every_role_does() {
    let target = Target::up();
    every_role::does_what_it_may(&target);
}

/// In `make soak`.
#[test]
#[ignore = "a first apply for each group of actions that it is refused takes most of an hour"]
fn every_action_taken_away() {
    let target = Target::up();
    let _secrets = canary::Canaries::set(&target);
    permissions::asks_for_what_it_needs(&target, &permissions::own(), &["apply", "--yes"]);
}

/// Secrets in Parameter Store; in `make soak`.
#[test]
#[ignore = "a deployment of its own, with another key in the environment file"]
fn only_the_parameter_store() {
    let target = Target::up();
    parameters::keep_the_secrets(&target);
}

/// Pod Identity instead of IRSA, and back; in `make soak`.
#[test]
#[ignore = "a deployment of its own, with another key in the plan file"]
fn only_pod_identity() {
    let target = Target::up();
    pod_identity::gives_pods_their_roles(&target);
    pod_identity::gives_way_to_irsa(&target);
}

#[test]
#[ignore = "two minutes more than `make test` has; `make soak` runs it"]
fn only_the_recovery() {
    let target = Target::up();
    target.deployctl(&["apply", "--yes", "--only", "backend,network,cluster,data"]).expect(0);
    dr::brings_the_database_back(&target);
}

#[test]
#[ignore = "minutes more than `make test` has; `make soak` runs it"]
fn only_the_verification() {
    let target = deployed();
    verification::says_what_psql_says(&target);
}

#[test]
#[ignore = "a second cluster, and minutes more than `make test` has; `make soak` runs it"]
fn only_the_warm_standby() {
    let target = deployed();
    warm::looks_into_a_restored_database_and_tries_it(&target);
}

#[test]
#[ignore = "a gigabyte takes minutes; `make soak` runs it"]
fn only_a_gigabyte() {
    let target = deployed();
    verification::of_a_gigabyte(&target);
}

/// A third of the time of the whole, for whoever works on the canaries.
#[test]
#[ignore = "a part of the other one"]
fn the_canaries_alone() {
    let target = Target::up();
    let secrets = canary::Canaries::set(&target);
    let watch = processes::Watch::start();
    target.deployctl_loud(&["apply", "--yes", "--json-into", secrets.events()], None).expect(0);
    secrets.every_command(&target);
    secrets.are_found_nowhere(&target, &watch.stop());
}

fn planning_changes_nothing(target: &Target) {
    let before = target.requests().len();
    let plan = target.deployctl(&["plan", "--detailed-exitcode"]).expect(2);
    assert!(plan.out.contains("backend") && plan.out.contains("deferred"), "{}", plan.out);
    for request in &target.requests()[before..] {
        let action = request["action"].as_str().unwrap_or_default();
        let verb = action.split(':').next_back().unwrap_or_default();
        // The emulator names no action for what is not there: then the record holds the request line.
        let looks = action.starts_with("HEAD ") || action.starts_with("GET ") || READS.iter().any(|read| verb.starts_with(read));
        assert!(looks, "plan called {action}");
    }
}

/// What a person would look at afterwards.
fn by_hand(target: &Target) {
    let kubectl = target
        .command(Path::new("kubectl"))
        .args(["-n", "apps", "get", "pods", "-o", "jsonpath={.items[*].status.phase}"])
        .output()
        .unwrap();
    assert!(kubectl.status.success() && text(&kubectl).split(' ').all(|phase| phase == "Running"), "{}", text(&kubectl));
    // The master user is no superuser: it sees that the parser's tables are there and may not read them, as on RDS.
    let query = "SELECT count(*) FROM pg_tables WHERE tableowner = 'parser_migrate'";
    let psql = target.sandbox(&["exec", "psql", "-Atc", query]);
    assert_eq!(text(&psql).trim(), "5", "the parser's four tables and Flyway's history");
}

fn the_wrong_account_is_refused(target: &Target) {
    let elsewhere = tempfile::tempdir().unwrap();
    for folder in ["plans", "templates", "terraform", "services"] {
        std::os::unix::fs::symlink(project().join(folder), elsewhere.path().join(folder)).unwrap();
    }
    std::fs::remove_file(elsewhere.path().join("plans")).unwrap();
    std::fs::create_dir_all(elsewhere.path().join("plans/environments")).unwrap();
    std::fs::copy(project().join("plans/deploy.yaml"), elsewhere.path().join("plans/deploy.yaml")).unwrap();
    let file = std::fs::read_to_string(project().join("plans/environments/sandbox.yaml")).unwrap();
    std::fs::write(elsewhere.path().join("plans/environments/sandbox.yaml"), file.replace("111122223333", "444455556666")).unwrap();
    let refused = target.deployctl(&["plan", "--project", elsewhere.path().to_str().unwrap()]).expect(11);
    assert!(refused.err.contains("444455556666") || refused.err.contains("111122223333"), "{}", refused.err);
}
