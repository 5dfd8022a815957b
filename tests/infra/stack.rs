//! A stack that needs no provider: builtin terraform_data, some of it slow.
#![allow(dead_code, reason = "each test program uses a part of it")]
use std::path::{Path, PathBuf};

use deployctl::{
    ids::TableName,
    steps::{
        StepContext,
        state_backend::{Names, StateBackend},
        terraform::{Input, process_record},
    },
    tools::watchdog,
};
use serde_json::json;

use super::fixture;

/// Writes the stack into a project folder of the test's own.
pub fn project(name: &str) -> PathBuf {
    watchdog::use_program(env!("CARGO_BIN_EXE_deployctl").into());
    let project = fixture::test_dir().join(name);
    write(&project, 0);
    project
}

/// `slow` seconds is what each of three resources takes to make.
pub fn write(project: &Path, slow: u32) {
    let text = format!(
        r#"
resource "terraform_data" "first" {{
  input = var.name_prefix
}}
resource "terraform_data" "thing" {{
  count = var.size
  input = "${{terraform_data.first.output}}-${{count.index}}"
  provisioner "local-exec" {{
    command = "echo made ${{count.index}} >> {made}; sleep {slow}"
  }}
}}
resource "terraform_data" "last" {{
  depends_on = [terraform_data.thing]
  input      = 1
}}
output "names" {{ value = terraform_data.thing[*].output }}
output "hidden" {{
  value     = "a secret"
  sensitive = true
}}
"#,
        made = project.join("made").display()
    );
    write_resources(project, &text);
}

/// The stack with other resources; what it is given stays.
pub fn write_resources(project: &Path, resources: &str) {
    let stack = project.join("terraform/things");
    std::fs::create_dir_all(&stack).unwrap();
    let variables = "variable \"name_prefix\" { type = string }\nvariable \"size\" { type = number }\n";
    std::fs::write(stack.join("main.tf"), format!("{variables}{resources}")).unwrap();
}

pub fn input(size: u32) -> Input {
    serde_json::from_value(json!({"stack": "terraform/things", "variables": {"size": size}})).unwrap()
}

pub async fn make_backend(cx: &StepContext) {
    fixture::run::<StateBackend>(cx, &serde_json::from_value(json!({})).unwrap()).await.unwrap();
}

/// Lines that the slow resources have written: what was really made, whatever the state says.
pub fn made(project: &Path) -> Vec<String> {
    std::fs::read_to_string(project.join("made")).unwrap_or_default().lines().map(str::to_owned).collect()
}

pub struct Locks {
    pub table: TableName,
    pub id: String,
    pub names: Names,
}

pub fn locks(cx: &StepContext) -> Locks {
    let names = Names::of(&cx.environment).unwrap();
    Locks { table: names.table.clone(), id: format!("{}/things/terraform.tfstate", names.bucket), names }
}

/// Where the watchdog's record is.
pub fn record(cx: &StepContext) -> PathBuf {
    process_record(&cx.environment, &cx.aws, Path::new("terraform/things")).unwrap()
}

/// Whether terraform's lock is held: in the table, in the bucket.
pub async fn held(cx: &StepContext) -> (bool, bool) {
    let Locks { table, id, names } = locks(cx);
    let object = cx.aws.get_object(&names.bucket, "things/terraform.tfstate.tflock").await.unwrap();
    (cx.aws.lock_item(&table, &id).await.unwrap().is_some(), object.is_some())
}
