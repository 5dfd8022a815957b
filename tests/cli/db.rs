//! `db`: refuses before anything is asked of AWS where there is no database to work on.
use crate::project::Project;

#[test]
fn without_migrations_there_is_nothing_to_do() {
    let project = Project::new();
    for command in ["status", "migrate", "snapshot"] {
        let shown = project.run(&["db", command]);
        assert!(shown.contains("no step of the plan file has `migrations`") && shown.ends_with("--- exit 10\n"), "{shown}");
    }
}
