//! What commands on an environment begin with: project, environment, definition, AWS, folders, signals, lease, history.
use std::{path::PathBuf, process, sync::Arc};

use jiff::SignedDuration;
use tokio_util::sync::CancellationToken;

use crate::{
    aws::Aws,
    cli::Globals,
    clock,
    engine::{
        apply,
        cancel::{self, InFlight},
        event::Events,
        history::History,
        lease::{EnvironmentLease, Holder, Kept, Lease, Patience},
        mirror,
        records::{BucketRecords, Records},
        workplace::{StateFolder, Workplace, private_folder},
    },
    failure::{Failure, FailureKind, exit},
    ids::{EnvironmentName, RunId},
    permit::Permit,
    plan::{definition::Definition, environment::Environment, read},
    steps::{Data, registry::Registry, state_backend::Names},
    ui::{self, Ui},
};

/// The project's folder.
pub fn project(globals: &Globals) -> Result<PathBuf, Failure> {
    let here = std::env::current_dir().map_err(|error| Failure::usage("there is no current folder").because(error))?;
    let project = read::find_project(globals.project.as_deref(), &here)?;
    Ok(std::path::absolute(&project).unwrap_or(project))
}

/// The environment that was named; the project's only one if none was.
pub fn environment(globals: &Globals, project: &std::path::Path) -> Result<EnvironmentName, Failure> {
    if let Some(name) = &globals.environment {
        return Ok(name.clone());
    }
    let all = read::environments(project);
    match all.as_slice() {
        [only] => EnvironmentName::parse(only.as_str()).map_err(|error| Failure::usage(error.to_string())),
        _ => Err(Failure::usage("no environment was named").next(format!("name one with -e: {}", all.join(", ")))),
    }
}

/// Where a session works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the environment's own region.
    Home,
    /// In the region that it is restored in, whose runs are those of `dr …` alone: copies of the other region's journals are there too, and
    /// what was in flight there when it was lost is no reason to wait.
    DrRegion,
}

impl Place {
    fn records(self, aws: &Arc<Aws>, environment: &Environment) -> Result<BucketRecords, Failure> {
        match self {
            Self::Home => BucketRecords::of(aws, environment),
            // Its environment has the two regions exchanged: its own bucket is the one there.
            Self::DrRegion => Ok(BucketRecords::alone(aws.clone(), Names::of(environment)?.bucket)),
        }
    }
    fn runs(self, mut history: History) -> History {
        if self == Self::DrRegion {
            history.runs.retain(|run| run.attempts.last().is_some_and(|holder| holder.what.starts_with("dr ")));
        }
        history
    }
}

/// What a session works on.
pub struct Subject {
    /// Where.
    pub place: Place,
    /// The project's folder.
    pub project: PathBuf,
    /// Plan file and environment file.
    pub definition: Definition,
    /// The kinds.
    pub registry: Registry,
    /// Where journals are.
    pub state: StateFolder,
}

impl Subject {
    /// The deployment: plans/deploy.yaml in the environment's own region.
    fn deployment(globals: &Globals, name: &EnvironmentName) -> Result<Self, Failure> {
        let (project, registry) = (project(globals)?, Registry::standard());
        let definition = read::definition(&project, name, &registry)?;
        Ok(Self { place: Place::Home, project, definition, registry, state: StateFolder::of_this_user()? })
    }
}

/// Everything that planning and applying need.
pub struct Session {
    /// For the engine.
    pub work: Workplace,
    /// Where journals are.
    pub state: StateFolder,
    /// What was done before, here and, once there is a state bucket, anywhere.
    pub history: History,
    /// This run, new or gone on with.
    pub run: RunId,
    /// The state bucket, which may not be there yet.
    pub records: Arc<dyn Records>,
    /// The right to change the environment.
    held: Option<Held>,
}

struct Held {
    kept: Kept,
    holder: Holder,
}

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To look. Files of steps go with the process.
    Plan,
    /// To change, and to go on with what was begun: files of steps are kept until the run has ended well; the command's name.
    Resume(&'static str),
    /// To change, always as a run of its own; the command's name.
    Once(&'static str),
    /// As to go on with what was begun, but only with what was cut off, and lately: what has ended, well or not, is a result. The command's name.
    GoOn(&'static str, SignedDuration),
}

impl Purpose {
    fn holder(self) -> Option<Holder> {
        match self {
            Self::Plan => None,
            Self::Resume(what) | Self::Once(what) | Self::GoOn(what, _) => Some(Holder::this_process(what)),
        }
    }
}

/// Whoever changes something must know all that was begun.
fn readable(purpose: Purpose, history: History) -> Result<History, Failure> {
    if purpose == Purpose::Plan || history.unreadable.is_empty() { Ok(history) } else { Err(history.damaged()) }
}

/// Whether the newest run stopped in the middle, no longer ago than this.
fn was_cut_off(history: &History, within: SignedDuration) -> bool {
    let newest = history.runs.last().filter(|run| run.finished.is_none());
    newest.and_then(|run| run.ended).is_some_and(|last| clock::now().duration_since(last) <= within)
}

fn run_of(purpose: Purpose, history: &History, definition: &str) -> Result<RunId, Failure> {
    let resumed = match purpose {
        Purpose::Plan | Purpose::Once(_) => None,
        Purpose::Resume(_) => apply::run_to_resume(history, definition),
        Purpose::GoOn(_, within) => apply::run_to_resume(history, definition).filter(|_| was_cut_off(history, within)),
    };
    resumed.map_or_else(apply::new_run_id, Ok)
}

impl Session {
    /// Reads both files, checks the account, listens for Ctrl-C, takes the lease if anything is to be changed, reads what was done before.
    pub async fn open(globals: &Globals, name: &EnvironmentName, purpose: Purpose, ui: &Ui) -> Result<Self, Failure> {
        Self::open_on(globals, Subject::deployment(globals, name)?, purpose, ui).await
    }

    /// The same for another plan file or another region.
    pub async fn open_on(globals: &Globals, subject: Subject, purpose: Purpose, ui: &Ui) -> Result<Self, Failure> {
        let Subject { place, project, definition, registry, state } = subject;
        let definition = Arc::new(definition);
        let name = &definition.environment.name.clone();
        let (cancel, in_flight, events) = (CancellationToken::new(), InFlight::default(), Events::default());
        cancel::on_signals(cancel.clone(), events.clone(), in_flight.clone(), |left| {
            let left: Vec<String> = left.iter().map(|(step, phase)| format!("{step} ({})", ui::lines::phase_text(*phase))).collect();
            let left = if left.is_empty() { "nothing in flight".to_owned() } else { left.join(", ") };
            ui::to_stderr(&format!("left at once: {left}; the same command goes on from the journal"));
            process::exit(exit::INTERRUPTED.into());
        })?;
        // The session's name in CloudTrail; another machine's run that is gone on with shows only once the bucket was read.
        let likely = run_of(purpose, &readable(purpose, place.runs(History::read(&state, name)?))?, &definition.digest)?;
        let aws = &definition.environment.aws;
        let aws = tokio::select! {
            connected = Aws::connect_for_run(&aws.region, aws.deployer_role_arn.as_ref(), &aws.account_id, &likely) => Arc::new(connected?),
            () = cancel.cancelled() => return Err(Failure::new(FailureKind::Interrupted, "interrupted; nothing was changed")),
        };
        let permit = Permit::to_look();
        let records: Arc<dyn Records> = Arc::new(place.records(&aws, &definition.environment)?);
        let held = match purpose.holder() {
            None => None,
            Some(holder) => {
                let waiting = |what: String| ui.note(&format!("waiting for {what}"));
                let limit = globals.lock_timeout.unsigned_abs();
                let patience = Patience { limit, cancel: &cancel, waiting: &waiting, now: clock::since_boot };
                let lease = EnvironmentLease::acquire(&state.locks(), records.clone(), name, &holder, &patience).await?;
                let lease: Arc<dyn Lease> = Arc::new(lease);
                permit.lease(lease.clone());
                let (calls, steps) = (permit.clone(), in_flight.clone());
                let under_way = move || {
                    let steps = steps.now().into_iter().map(|(step, phase)| format!("{step} ({})", ui::lines::phase_text(phase)));
                    steps.chain(calls.under_way()).collect()
                };
                Some(Held { kept: Kept::start(lease, cancel.clone(), under_way), holder })
            }
        };
        let opened = async {
            mirror::bring(&*records, &state, name).await?;
            let history = readable(purpose, place.runs(History::read(&state, name)?))?;
            let run = run_of(purpose, &history, &definition.digest)?;
            let scratch = match purpose {
                Purpose::Resume(_) | Purpose::GoOn(..) => state.run(name, &run).join("scratch"),
                Purpose::Plan | Purpose::Once(_) => state.plans(name).join(run.as_str()),
            };
            private_folder(&scratch)?;
            Ok((history, run, scratch))
        };
        let (history, run, scratch) = match opened.await {
            Ok(opened) => opened,
            Err(failure) => {
                if let Some(held) = held {
                    held.kept.end().await?;
                }
                return Err(failure);
            }
        };
        let work = Workplace {
            registry: Arc::new(registry),
            project,
            scratch,
            aws: Arc::new(aws.with_permit(permit)),
            events,
            cancel,
            in_flight,
            parallel: globals.parallel,
            data: Data::Stays,
            definition,
        };
        Ok(Self { work, state, history, run, records, held })
    }
    /// The lease and who holds it; none while only looking.
    pub fn held(&self) -> Result<(&Arc<dyn Lease>, &Holder), Failure> {
        let held = self.held.as_ref().ok_or_else(|| Failure::new(FailureKind::Internal, "nobody holds the environment's lease"))?;
        Ok((held.kept.lease(), &held.holder))
    }
    /// Gives the lease back. A lost one is the reason of whatever else went wrong.
    pub async fn end<T>(self, result: Result<T, Failure>) -> Result<T, Failure> {
        self.work.aws.permit().end();
        let lost = match self.held {
            Some(held) => held.kept.end().await.err(),
            None => None,
        };
        match (lost, result) {
            (None, result) => result,
            (Some(lost), Ok(_)) => Err(lost),
            (Some(mut lost), Err(failure)) => {
                lost.evidence.push(failure.chain().join(": "));
                lost.evidence.extend(failure.evidence);
                lost.left_behind = failure.left_behind;
                lost.step = failure.step;
                Err(lost)
            }
        }
    }
    /// Removes what steps kept for this run.
    pub fn tidy(&self) {
        if let Err(error) = std::fs::remove_dir_all(&self.work.scratch) {
            // Left files are no failure of the run; they are private and the next run makes its own.
            tracing::warn!("cannot remove {}: {error}", self.work.scratch.display());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::engine::journal::{self, Entry, Header};

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    /// A drill whose last line was written at that moment.
    fn drill(last: Timestamp, finished: Option<bool>) -> History {
        let run = apply::new_run_id().unwrap();
        let header = Header::new(run, EnvironmentName::parse("sandbox").unwrap(), "sha256:d".to_owned());
        let holder = Holder::this_process("dr drill");
        let attempt = Entry::Attempt { holder, plan: "sha256:p".to_owned(), selection: Default::default(), lease: None };
        let mut text = serde_json::to_string(&header).unwrap() + "\n";
        for entry in [attempt].into_iter().chain(finished.map(|succeeded| Entry::Finished { succeeded })) {
            let mut line = serde_json::to_value(entry).unwrap();
            line["at"] = json!(last);
            text += &(line.to_string() + "\n");
        }
        let (record, _) = journal::read_text(text.as_bytes(), std::path::Path::new("journal")).unwrap();
        History { runs: vec![record], unreadable: Vec::new() }
    }

    #[test]
    fn a_drill_goes_on_only_with_one_that_was_killed_lately() {
        let goes_on = |history: &History, purpose| {
            let run = run_of(purpose, history, "sha256:d").unwrap();
            run == history.runs[0].header.run
        };
        let (now, drilling) = (clock::now(), Purpose::GoOn("dr drill", HOUR));
        assert!(goes_on(&drill(now, None), drilling));
        assert!(!goes_on(&drill(now - HOUR * 2, None), drilling), "the instance may be anybody's by now, and its time no drill's");
        assert!(!goes_on(&drill(now, Some(false)), drilling), "one that failed is a result");
        assert!(goes_on(&drill(now, Some(false)), Purpose::Resume("dr restore")), "a restore that failed is gone on with");
        assert!(!goes_on(&drill(now, None), Purpose::Once("dr drill --clean")));
    }
}
