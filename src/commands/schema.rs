//! `schema`: the JSON schemas of what people write, for editors, and of the stream of events, for scripts. Committed under plans/schema.
use crate::{
    cli::SchemaOf,
    engine::event::Event,
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
        SchemaOf::Event => schemars::schema_for!(Event),
    }
}
