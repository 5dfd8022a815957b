//! A run's journal in the state bucket: the whole text in one object, written on condition that nobody else wrote it meanwhile, and brought
//! back to machines that have not seen it. It is how another machine goes on.
use std::{fs, io::ErrorKind, path::Path, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    journal,
    lease::Lease,
    records::{PREFIX, Records},
    workplace::{StateFolder, private_folder},
};
use crate::{
    aws::s3::{Condition, ObjectSummary, Written},
    failure::{Failure, FailureKind},
    ids::{EnvironmentName, RunId},
    whole_file,
};

/// Journals read at once.
const PARALLEL: usize = 8;
/// Journals that a machine without any reads: recent enough to hold what every step gave last, few enough for a fresh CI runner.
const NEWEST: usize = 25;

fn folder() -> String {
    format!("{PREFIX}runs/")
}

/// The object's key.
pub fn key(run: &RunId) -> String {
    format!("{}{run}.ndjson", folder())
}

/// The object of the journal that this process writes.
pub(super) struct Mirror {
    records: Arc<dyn Records>,
    /// Whoever lost it must not write into the story that the next holder tells.
    lease: Arc<dyn Lease>,
    key: String,
    etag: Option<String>,
    text: Vec<u8>,
}

impl Mirror {
    /// Finds what is there already: a beginning of `text`, or somebody else goes on with this run.
    pub(super) async fn open(lease: Arc<dyn Lease>, records: Arc<dyn Records>, run: &RunId, text: &[u8]) -> Result<Self, Failure> {
        let key = key(run);
        let found = records.read(&key).await?;
        let (etag, there) = found.map_or((None, Vec::new()), |object| (Some(object.etag), object.body.to_vec()));
        let mirror = Self { records, lease, key, etag, text: there };
        if text.starts_with(&mirror.text) { Ok(mirror) } else { Err(mirror.overtaken()) }
    }
    fn place(&self) -> String {
        format!("{}/{}", self.records.place(), self.key)
    }
    fn overtaken(&self) -> Failure {
        let message = format!("the journal {} was written by somebody else: another machine goes on with this run", self.place());
        Failure::new(FailureKind::Locked, message).next("deployctl status")
    }
    /// What of the journal is there.
    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }
    /// Puts the journal there, which has only grown.
    pub(super) async fn write(&mut self, text: Vec<u8>) -> Result<(), Failure> {
        self.lease.check()?;
        let condition = self.etag.clone().map_or(Condition::Absent, |etag| Condition::Unchanged { etag });
        let written = self.records.write(&self.key, text.clone(), condition).await.map_err(|failure| unwritable(&self.place(), failure))?;
        let etag = match written {
            Written::Done { etag } => etag,
            // It may have been ours, with an answer that was lost.
            Written::Refused => match self.records.read(&self.key).await? {
                Some(object) if object.body == text => object.etag,
                _ => return Err(self.overtaken()),
            },
        };
        (self.etag, self.text) = (Some(etag), text);
        Ok(())
    }
}

fn unwritable(place: &str, failure: Failure) -> Failure {
    Failure::new(failure.kind, format!("the journal cannot be written to {place}, and without it another machine could not go on"))
        .next("run the same command again: it goes on from what the journal holds")
        .because(failure)
}

/// Brings journals that this machine lacks, or has less of, from the state bucket: as many of the newest as a run needs.
pub async fn bring(records: &dyn Records, state: &StateFolder, environment: &EnvironmentName) -> Result<(), Failure> {
    bring_newest(records, state, environment, NEWEST).await
}

/// As [`bring`], so many of the newest.
pub async fn bring_newest(records: &dyn Records, state: &StateFolder, environment: &EnvironmentName, newest: usize) -> Result<(), Failure> {
    let listed = records.list(&folder()).await?;
    let run = |key: &str| RunId::parse(key.strip_prefix(&folder())?.strip_suffix(".ndjson")?).ok();
    let runs: Vec<(RunId, &ObjectSummary)> = listed.iter().rev().filter_map(|object| Some((run(&object.key)?, object))).collect();
    let differing = runs.iter().take(newest).enumerate().filter(|(age, (run, object))| {
        let here = fs::metadata(journal::path_in(&state.run(environment, run))).map_or(0, |found| found.len());
        // A journal only grows, so one of the same length is the same; only of the newest may two machines have told different ends.
        *age == 0 || here != object.size
    });
    stream::iter(differing).map(|(_, (run, _))| bring_run(records, state, environment, run)).buffer_unordered(PARALLEL).try_collect().await
}

/// Brings one run's journal, however old it is; nothing happens if it is not there.
pub async fn bring_run(records: &dyn Records, state: &StateFolder, environment: &EnvironmentName, run: &RunId) -> Result<(), Failure> {
    let key = key(run);
    let Some(found) = records.read(&key).await? else { return Ok(()) };
    keep(&state.run(environment, run), &found.body, &format!("{}/{key}", records.place()))
}

/// Keeps a journal that was brought. A longer one here holds what could not be told any more, and stays; one that ends differently was
/// overtaken: whatever it says beyond the common part was never acted upon (see [`journal::Journal::flush`]).
fn keep(folder: &Path, text: &[u8], place: &str) -> Result<(), Failure> {
    journal::read_text(text, Path::new(place))?;
    let path = journal::path_in(folder);
    let fail = |error: std::io::Error| {
        Failure::new(FailureKind::Preflight, format!("the journal {place} cannot be kept as {}", path.display())).because(error)
    };
    let here = match fs::read(&path) {
        Ok(here) if here.starts_with(text) => return Ok(()),
        Ok(here) => Some(here),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(fail(error)),
    };
    private_folder(folder)?;
    let Some(here) = here else {
        // An apply of this machine may have brought it in this moment, and write behind it already.
        return match whole_file::create(&path, text) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(fail(error)),
            _ => Ok(()),
        };
    };
    let whole = here.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if !text.starts_with(&here[..whole]) {
        fs::rename(&path, path.with_extension("overtaken.ndjson")).map_err(fail)?;
    }
    whole_file::write(&path, text).map_err(fail)
}
