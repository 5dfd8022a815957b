//! The table's searches, carried out: what there is in AWS that could be the thing that a plan would make.
use std::collections::BTreeMap;

use super::{
    Seen,
    planned::{Filled, Planned},
    table::{Ask, Ec2, How, Is},
};
use crate::{
    aws::{Aws, Element},
    failure::Failure,
    ids::Region,
};

/// States of objects that have gone, or never came.
const GONE: [&str; 8] = ["deleted", "deleting", "failed", "rejected", "expired", "delete-complete", "delete-in-progress", "disassociated"];

/// Searches for one thing in the region where it would be made.
pub(super) async fn search(aws: &Aws, how: &How, planned: Planned<'_>) -> Result<Seen, Failure> {
    let elsewhere = Region::parse(planned.region()).ok().filter(|region| region != aws.region()).map(|region| aws.in_region(&region));
    let aws = elsewhere.as_ref().unwrap_or(aws);
    match how {
        How::Named(templates) => Ok(named(planned.fill_first(templates))),
        How::ClassicRule => Ok(named(planned.classic_rule())),
        How::Ec2(ec2) => objects(aws, ec2, planned).await,
        How::Asked(ask) => asked(aws, *ask, planned).await,
        How::Harmless(_) | How::ByHand(_) => Ok(Seen::These(Vec::new())),
    }
}

fn named(filled: Filled) -> Seen {
    match filled {
        Filled::Text(id) => Seen::These(vec![id]),
        Filled::NotYet => Seen::NotYet,
        Filled::Null => Seen::These(Vec::new()),
    }
}

async fn objects(aws: &Aws, ec2: &Ec2, planned: Planned<'_>) -> Result<Seen, Failure> {
    let mut filters = Vec::new();
    let mut elements = Vec::new();
    let mut wanted = BTreeMap::new();
    match ec2.is {
        Is::Tagged => {
            let Some(tags) = planned.tags() else { return Ok(Seen::NotYet) };
            // Without a tag everything of its type would be it.
            if tags.is_empty() {
                return Ok(Seen::These(Vec::new()));
            }
            filters.extend(tags.iter().map(|(key, value)| (format!("tag:{key}"), value.clone())));
            wanted = tags;
        }
        Is::Equal(parts) => {
            for (filter, element, template) in parts {
                let value = match planned.fill(template) {
                    Filled::Text(value) => value,
                    Filled::NotYet => return Ok(Seen::NotYet),
                    Filled::Null if template.ends_with("?}") => continue,
                    Filled::Null => return Ok(Seen::These(Vec::new())),
                };
                if !filter.is_empty() {
                    filters.push(((*filter).to_owned(), value.clone()));
                }
                if !element.is_empty() {
                    elements.push((*element, value));
                }
            }
        }
    }
    let id_of = |object: &Element| match planned.fill(ec2.id) {
        Filled::Text(id) if ec2.id.contains('{') => Some(id),
        _ => object.text(ec2.id).map(str::to_owned),
    };
    let objects = aws.ec2_objects(ec2.action, ec2.items, &filters).await?;
    Ok(matching(&objects, &wanted, &elements, id_of))
}

/// Filters are EC2's to obey; what it gave is looked at again, because a wrong one would be taken over.
fn matching(
    objects: &[Element],
    wanted: &BTreeMap<String, String>,
    elements: &[(&str, String)],
    id_of: impl Fn(&Element) -> Option<String>,
) -> Seen {
    let mut ids = Vec::new();
    for object in objects {
        let state = object.text("state").or_else(|| object.text("state/state")).or_else(|| object.text("associationState/state"));
        let state = state.unwrap_or_default().to_lowercase();
        let carried = object.tags();
        let is_it = wanted.iter().all(|(key, value)| carried.get(key) == Some(value))
            && elements.iter().all(|(element, value)| object.text(element) == Some(value));
        if !is_it || GONE.contains(&state.as_str()) {
            continue;
        }
        if state == "pending" {
            return Seen::Unfinished;
        }
        ids.extend(id_of(object).filter(|id| !ids.contains(id)));
    }
    Seen::These(ids)
}

async fn asked(aws: &Aws, ask: Ask, planned: Planned<'_>) -> Result<Seen, Failure> {
    if ask == Ask::Key {
        let (Some(tags), description) = (planned.tags(), planned.attribute("description")) else { return Ok(Seen::NotYet) };
        if tags.is_empty() {
            return Ok(Seen::These(Vec::new()));
        }
        // AWS keeps an empty text where nothing is written.
        let description = if let Filled::Text(text) = description { text } else { String::new() };
        return aws.kms_keys(&tags, &description).await.map(Seen::These);
    }
    let mut values = Vec::new();
    for attribute in ask.attributes() {
        match planned.attribute(attribute) {
            Filled::Text(value) => values.push(value),
            Filled::NotYet => return Ok(Seen::NotYet),
            Filled::Null => return Ok(Seen::These(Vec::new())),
        }
    }
    let found = match (ask, values.as_slice()) {
        (Ask::Secret, [name]) => aws.secret_arn(name).await?.into_iter().collect(),
        (Ask::Queue, [name]) => aws.queue_url(name).await?.into_iter().collect(),
        (Ask::ReplicatedBackups, [source]) => aws.replicated_backups(source).await?,
        (Ask::PodIdentity, [cluster, namespace, account]) => {
            let ids = aws.pod_identity_associations(cluster, namespace, account).await?;
            ids.into_iter().map(|id| format!("{cluster},{id}")).collect()
        }
        _ => Vec::new(),
    };
    Ok(Seen::These(found))
}
