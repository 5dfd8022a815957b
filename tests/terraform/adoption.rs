//! The adoption table: a row for every resource type of our stacks and of the modules that they call, in words of the provider's schema.
use std::{
    collections::BTreeSet,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use deployctl::steps::terraform::adoption::table::{How, Row, TABLE, row};
use serde_json::Value;

use crate::{Outcome, ensure, workspace::project};

/// Every .tf file below a folder.
fn configuration(folder: &Path, found: &mut Vec<PathBuf>) -> Outcome {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            configuration(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "tf") {
            found.push(path);
        }
    }
    Ok(())
}

/// Types of `resource` blocks in our stacks and in the sandbox's modules.
fn written() -> Outcome<BTreeSet<String>> {
    let mut files = Vec::new();
    for folder in ["terraform", "tests/sandbox/modules"] {
        configuration(&project().join(folder), &mut files)?;
    }
    let mut types = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file)?;
        types.extend(text.lines().filter_map(|line| line.strip_prefix("resource \"")?.split('"').next().map(str::to_owned)));
    }
    ensure(types.contains("aws_s3_bucket") && types.contains("aws_vpc"), || format!("the stacks' types were not found: {types:?}"))?;
    Ok(types)
}

/// Types of the real modules, with everything in them: vpc 6.6.0, eks 21.19.0 and the kms module that eks calls.
fn of_modules() -> Outcome<BTreeSet<String>> {
    let mut types = BTreeSet::new();
    for module in ["vpc", "eks", "kms"] {
        let list = fs::read_to_string(project().join(format!("tests/terraform/interfaces/types-{module}.txt")))?;
        types.extend(list.lines().map(str::to_owned));
    }
    Ok(types)
}

#[test]
fn every_type_has_a_row() -> Outcome {
    let all: BTreeSet<String> = written()?.union(&of_modules()?).cloned().collect();
    let without: Vec<&String> = all.iter().filter(|kind| row(kind).is_none()).collect();
    ensure(without.is_empty(), || {
        format!("no row in src/steps/terraform/adoption/table.rs: {without:?}; after a kill apply could make these a second time")
    })?;
    let needless: Vec<&str> = TABLE.iter().map(|row| row.kind).filter(|kind| !all.contains(*kind)).collect();
    ensure(needless.is_empty(), || format!("rows for types that nothing makes: {needless:?}"))?;
    let once: BTreeSet<&str> = TABLE.iter().map(|row| row.kind).collect();
    ensure(once.len() == TABLE.len(), || "a type has two rows".to_owned())
}

/// What our own stacks make is found without a person.
#[test]
fn our_types_need_nobody() -> Outcome {
    let by_hand: Vec<String> =
        written()?.into_iter().filter(|kind| matches!(row(kind).map(|row| row.how), Some(How::ByHand(_)) | None)).collect();
    ensure(by_hand.is_empty(), || format!("a person would have to look for {by_hand:?}"))
}

fn schema() -> Outcome<Value> {
    let file = fs::File::open(project().join("tests/sandbox/provider/schema/aws-6.62.0.json.gz"))?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

/// The block of an attribute: `oidc.name` is the attribute `name` of the block `oidc`.
fn has(block: &Value, path: &str) -> bool {
    match path.split_once('.') {
        Some((name, rest)) => has(&block["block_types"][name]["block"], rest),
        None => !block["attributes"][path].is_null(),
    }
}

#[test]
fn rows_speak_the_providers_language() -> Outcome {
    let schema = schema()?;
    let unknown = |row: &Row| {
        let block = &schema["resource_schemas"][row.kind]["block"];
        // Types of the new plugin framework have the merged tags too, but their schema was brought in without what is only computed.
        let tagged = |name: &str| name == "tags_all" && has(block, "tags");
        let wrong: Vec<&str> = row.attributes().into_iter().filter(|name| !has(block, name) && !tagged(name)).collect();
        (!wrong.is_empty()).then(|| format!("{}: {wrong:?}", row.kind))
    };
    let wrong: Vec<String> = TABLE.iter().filter(|row| row.kind.starts_with("aws_")).filter_map(unknown).collect();
    ensure(wrong.is_empty(), || format!("the provider's schema has no such attributes: {wrong:?}"))
}
