//! `schema`: the JSON schemas of what people write, for editors. Committed under plans/schema.
use crate::{
    cli::SchemaOf,
    failure::{Failure, exit},
    plan::{environment::Environment, file::PlanFile},
    ui::Ui,
};

/// Prints one.
pub fn run(of: SchemaOf, ui: &Ui) -> Result<u8, Failure> {
    ui.json(&schema(of)).map(|()| exit::DONE)
}

fn schema(of: SchemaOf) -> schemars::Schema {
    match of {
        SchemaOf::Plan => schemars::schema_for!(PlanFile),
        SchemaOf::Environment => schemars::schema_for!(Environment),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn the_committed_schemas_are_current() {
        for (of, file) in [(SchemaOf::Plan, "plan"), (SchemaOf::Environment, "environment")] {
            let path = format!("{}/plans/schema/{file}.schema.json", env!("CARGO_MANIFEST_DIR"));
            let committed = std::fs::read_to_string(&path).unwrap_or_default();
            let current = serde_json::to_string_pretty(&schema(of)).unwrap() + "\n";
            assert!(committed == current, "{path} is not current: deployctl schema {file} > plans/schema/{file}.schema.json");
        }
    }
}
