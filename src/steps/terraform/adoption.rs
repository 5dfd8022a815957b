//! Taking over what a killed terraform made and did not write down: found by the table, imported by the plan that makes the rest.
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;

use self::{
    planned::{Planned, tags_of},
    table::How,
};
use crate::{
    failure::{Failure, FailureKind, LeftBehind},
    steps::{Action, Change},
    tools::terraform::{
        messages::Diagnostic,
        plan_json::{PlanJson, Resource, ResourceChange},
    },
};

mod live;
mod planned;
mod search;
pub mod table;

pub(super) use live::Live;

/// What is taken over: addresses and import ids.
pub(super) type Taken = BTreeMap<String, String>;

/// A pass finds what the pass before has made known; no stack of resources is deeper than this.
const MOST_PASSES: usize = 12;
/// Between two looks at something that AWS is still making.
pub(super) const PAUSE: Duration = Duration::from_secs(10);
/// Tags of ours begin so.
const OUR_TAGS: &str = "deployctl:";
/// Made first and tagged by a second call; its name belongs to nobody else.
const TAGGED_LATER: [&str; 1] = ["aws_s3_bucket"];

/// What came of a plan with import blocks.
pub(super) enum Attempt {
    /// A plan.
    Planned(Box<PlanJson>),
    /// terraform refused; its errors.
    Refused(Failure, Vec<Diagnostic>),
}

/// What a search came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Import ids of all that it could be.
    These(Vec<String>),
    /// AWS is still making it.
    Unfinished,
    /// Something that the search needs is not known yet.
    NotYet,
}

/// terraform and AWS, or a test's stand-in for both.
pub(super) trait World {
    /// Plans the stack with these taken over.
    fn plan(&mut self, taken: &Taken) -> impl Future<Output = Result<Attempt, Failure>> + Send;
    /// Searches for one thing.
    fn search(&self, how: &How, planned: Planned<'_>) -> impl Future<Output = Result<Seen, Failure>> + Send;
    /// Tells the reader.
    fn say(&self, what: String);
    /// Waits a moment for AWS; fails when that has taken too long in all.
    fn pause(&mut self, what: &str) -> impl Future<Output = Result<(), Failure>> + Send;
    /// What a person would type to take one thing over.
    fn import_command(&self, address: &str, id: &str) -> String;
    /// What a person types who has seen that nothing was made; none if terraform was not killed, and nothing can be unsaved.
    fn if_not_there(&self) -> Option<String>;
    /// The account, and the region of the environment.
    fn place(&self) -> (&str, &str);
}

/// Plans until nothing more is found. `first` was planned without taking anything over; `shown` limits what may be taken.
pub(super) async fn adopt(world: &mut (impl World + Sync), first: PlanJson, shown: &[Change]) -> Result<(PlanJson, Taken), Failure> {
    let mut pass = Pass { shown, plan: first, taken: Taken::new(), absent: BTreeSet::new() };
    for _ in 0..MOST_PASSES {
        let found = pass.look(world).await?;
        if found.is_empty() {
            pass.admit_what_cannot_be_found(world);
            pass.taken.iter().for_each(|(address, id)| world.say(format!("{address}: taken over from {id}")));
            return Ok((pass.plan, pass.taken));
        }
        pass.taken.extend(found);
        pass.plan_with_taken(world).await?;
    }
    Err(Failure::step(format!("after {MOST_PASSES} plans there is still something new to take over")).next("run the same command again"))
}

struct Pass<'a> {
    shown: &'a [Change],
    plan: PlanJson,
    taken: Taken,
    /// Looked for and not there, or not ours.
    absent: BTreeSet<String>,
}

impl Pass<'_> {
    /// What the plan would make although it may be there already.
    fn made(&self) -> Vec<&ResourceChange> {
        let shown = |address: &str| self.shown.iter().any(|change| change.name == address && change.action == Action::Create);
        let made = self.plan.resource_changes.iter().filter(|change| change.mode != "data" && change.change.actions == ["create"]);
        made.filter(|change| shown(&change.address) && !self.taken.contains_key(&change.address) && !self.absent.contains(&change.address))
            .collect()
    }

    /// One round of look-ups.
    async fn look(&mut self, world: &mut (impl World + Sync)) -> Result<Taken, Failure> {
        loop {
            match self.look_once(world).await? {
                Looked::Found(found, absent) => {
                    self.absent.extend(absent);
                    return Ok(found);
                }
                Looked::Unfinished(what) => world.pause(&what).await?,
            }
        }
    }

    async fn look_once(&self, world: &(impl World + Sync)) -> Result<Looked, Failure> {
        let (mut found, mut absent) = (Taken::new(), Vec::new());
        let (account, region) = world.place();
        for change in self.made() {
            let how = match table::row(&change.kind).map(|row| row.how) {
                Some(How::Harmless(_)) => continue,
                Some(How::ByHand(command)) => {
                    ask_a_person(world, change, Some(command))?;
                    continue;
                }
                None => {
                    ask_a_person(world, change, None)?;
                    continue;
                }
                Some(how) => how,
            };
            match world.search(&how, Planned::of(change, account, region)).await? {
                Seen::NotYet => {}
                Seen::Unfinished => return Ok(Looked::Unfinished(change.address.clone())),
                Seen::These(mut ids) => {
                    ids.retain(|id| !self.is_known(&change.address, id));
                    match ids.as_slice() {
                        [] => absent.push(change.address.clone()),
                        [one] => drop(found.insert(change.address.clone(), one.clone())),
                        _ => return Err(which_one(world, &[&change.address], &ids)),
                    }
                }
            }
        }
        for (address, id) in &found {
            let is_rival = |other: &str, theirs: &str| theirs == id && self.home(other) == self.home(address);
            let rivals: Vec<&str> =
                found.iter().filter(|(other, theirs)| is_rival(other, theirs)).map(|(other, _)| other.as_str()).collect();
            if rivals.len() > 1 {
                return Err(which_one(world, &rivals, std::slice::from_ref(id)));
            }
        }
        Ok(Looked::Found(found, absent))
    }

    /// Where an id is unique: among things of a type in a region.
    fn home(&self, address: &str) -> Option<(&str, &Value)> {
        let change = self.plan.resource_changes.iter().find(|change| change.address == address)?;
        Some((&change.kind, &change.change.after["region"]))
    }

    /// Whether something else has it already, in the state or by an earlier pass.
    fn is_known(&self, address: &str, id: &str) -> bool {
        let Some((kind, region)) = self.home(address) else { return false };
        let here = |known: &Resource| known.kind == kind && (known.values["region"].is_null() || known.values["region"] == *region);
        let in_state = |known: &Resource| here(known) && known.address != address && known.values["id"] == *id;
        self.plan.prior_resources().into_iter().any(in_state)
            || self.taken.iter().any(|(other, taken)| taken == id && self.home(other) == self.home(address))
    }

    /// Plans with everything found; lets go of what is not there or not ours, and waits for what is not finished.
    async fn plan_with_taken(&mut self, world: &mut (impl World + Sync)) -> Result<(), Failure> {
        loop {
            self.plan = match world.plan(&self.taken).await? {
                Attempt::Planned(plan) => *plan,
                Attempt::Refused(failure, errors) => {
                    if !self.let_go_of_refused(world, &errors) {
                        return Err(failure.next("run the same command again: nothing was changed"));
                    }
                    continue;
                }
            };
            if self.let_go_of_strangers(world) {
                continue;
            }
            if let Some(unfinished) = self.unfinished()? {
                world.pause(&unfinished).await?;
                continue;
            }
            self.refuse_replacements(world)?;
            return Ok(());
        }
    }

    /// Whether any error was about something that is to be taken over.
    fn let_go_of_refused(&mut self, world: &impl World, errors: &[Diagnostic]) -> bool {
        let before = self.taken.len();
        for error in errors {
            let text = format!("{} {}", error.summary, error.detail);
            let named = |address: &String| error.address.as_ref() == Some(address) || text.contains(&format!("{address:?}"));
            let mut about: Vec<String> = self.taken.keys().filter(|address| named(address)).cloned().collect();
            if about.is_empty() {
                about = self.taken.iter().filter(|(_, id)| text.contains(id.as_str())).map(|(address, _)| address.clone()).collect();
            }
            for address in about {
                if !error.summary.contains("non-existent") {
                    world.say(format!("{address}: not taken over: {}", error.summary));
                }
                self.taken.remove(&address);
                self.absent.insert(address);
            }
        }
        self.taken.len() < before
    }

    /// Whether something that was found lacks our tags: it is left alone, and AWS will refuse a second of its name.
    fn let_go_of_strangers(&mut self, world: &impl World) -> bool {
        let strangers: Vec<String> = self
            .plan
            .resource_changes
            .iter()
            .filter(|c| self.taken.contains_key(&c.address) && is_strange(c))
            .map(|c| c.address.clone())
            .collect();
        for address in &strangers {
            world.say(format!("{address}: there is one of this name without our tags: left alone"));
            self.taken.remove(address);
            self.absent.insert(address.clone());
        }
        !strangers.is_empty()
    }

    /// The first thing that AWS is still making.
    fn unfinished(&self) -> Result<Option<String>, Failure> {
        for change in self.plan.resource_changes.iter().filter(|c| self.taken.contains_key(&c.address)) {
            let Some((attribute, value)) = table::row(&change.kind).and_then(|row| row.finished) else { continue };
            let now = change.change.before[attribute].as_str().unwrap_or_default();
            if now.is_empty() || now == value {
                continue;
            }
            let id = &self.taken[&change.address];
            if now.to_lowercase().contains("fail") {
                return Err(Failure::step(format!("{} ({id}) is {now}: it was not made to its end", change.address))
                    .left(LeftBehind::Partial(vec![change.address.clone()]))
                    .next(format!("delete {id} by hand, then run the same command again: it is then made anew")));
            }
            return Ok(Some(format!("{} ({id}) to be {value}; it is {now}", change.address)));
        }
        Ok(None)
    }

    /// Taking over is not for deleting: what would be replaced is another thing than the plan meant.
    fn refuse_replacements(&self, world: &impl World) -> Result<(), Failure> {
        let replaced = self
            .plan
            .resource_changes
            .iter()
            .find(|c| self.taken.contains_key(&c.address) && c.change.actions.iter().any(|action| action == "delete"));
        let Some(change) = replaced else { return Ok(()) };
        let id = &self.taken[&change.address];
        let what: Vec<String> = change.change.replace_paths.iter().map(Value::to_string).collect();
        Err(Failure::new(
            FailureKind::Policy,
            format!("{} is there as {id}, but differs in what cannot be changed: {}", change.address, what.join(", ")),
        )
        .next(format!("if it is wanted as it is: {}", world.import_command(&change.address, id)))
        .next(format!("or delete {id} by hand; then the same command again")))
    }

    /// A generated name can't be known, so it can't be looked for.
    fn admit_what_cannot_be_found(&self, world: &impl World) {
        for change in self.made() {
            let generated = ["name_prefix", "node_group_name_prefix", "identifier_prefix", "bucket_prefix"];
            let is_generated = generated.iter().any(|name| change.change.after[*name].is_string());
            if is_generated && matches!(table::row(&change.kind).map(|row| row.how), Some(How::Named(_))) {
                world.say(format!("{}: its name is generated, so one that is there already cannot be found", change.address));
            }
        }
    }
}

enum Looked {
    Found(Taken, Vec<String>),
    Unfinished(String),
}

/// Whether what is there was not made by this stack.
fn is_strange(change: &ResourceChange) -> bool {
    let Some(wanted) = tags_of(&change.change.after["tags_all"]) else { return false };
    let carried = tags_of(&change.change.before["tags_all"]).or_else(|| tags_of(&change.change.before["tags"])).unwrap_or_default();
    if carried.is_empty() && TAGGED_LATER.contains(&change.kind.as_str()) {
        return false;
    }
    let ours: Vec<_> = wanted.iter().filter(|(key, _)| key.starts_with(OUR_TAGS)).collect();
    let told_by = if ours.is_empty() { wanted.iter().collect() } else { ours };
    told_by.into_iter().any(|(key, value)| carried.get(key) != Some(value))
}

fn which_one(world: &impl World, addresses: &[&str], ids: &[String]) -> Failure {
    let mut failure = Failure::new(
        FailureKind::Policy,
        format!(
            "an interrupted apply may have made {}, and which of what is there it is cannot be told: {}",
            addresses.join(" and "),
            ids.join(", ")
        ),
    );
    for address in addresses {
        failure =
            ids.iter().fold(failure, |failure, id| failure.next(format!("if {id} is {address}: {}", world.import_command(address, id))));
    }
    failure.next("delete by hand what is nobody's; then the same command again")
}

/// Only after a kill can it be there without the state knowing; then nobody but a person can tell.
fn ask_a_person(world: &impl World, change: &ResourceChange, command: Option<&str>) -> Result<(), Failure> {
    let Some(if_not_there) = world.if_not_there() else { return Ok(()) };
    let (address, kind) = (&change.address, &change.kind);
    let failure = Failure::new(
        FailureKind::Policy,
        format!("a terraform that was killed may have made {address}, and deployctl cannot look for a {kind}"),
    );
    let look = command.map_or_else(|| "look whether it is there".to_owned(), |command| format!("look whether it is there: {command}"));
    let failure = failure.next(look).next(format!("if it is: {}", world.import_command(address, "ID")));
    Err(failure.next(format!("if it is not: {if_not_there}")).next("then the same command again"))
}

#[cfg(test)]
#[path = "adoption/tests.rs"]
mod tests;
