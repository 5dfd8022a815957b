//! `history`: the runs of an environment, and journals that cannot be read.
use crate::{
    project::Project,
    status::{FAILED, JOURNAL},
};

#[test]
fn lists_runs_and_names_what_it_cannot_read() {
    let project = Project::new();
    project.write(JOURNAL, FAILED);
    project.write(&JOURNAL.replace("000000000001", "000000000002"), "damaged\n");
    insta::assert_snapshot!(project.run(&["history", "--offline"]));
}

#[test]
fn an_illegal_transition_is_damage() {
    let project = Project::new();
    let jumped: String = FAILED.lines().filter(|line| !line.contains("\"applied\"")).map(|line| format!("{line}\n")).collect();
    project.write(JOURNAL, &jumped);
    insta::assert_snapshot!(project.run(&["history", "--offline"]));
}
