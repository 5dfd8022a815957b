//! The intent log of a run: appended and synced before an effect and after it, one JSON object a line. The truth for resuming. Once there is
//! a state bucket, every line that goes before an effect is there too before the effect (`mirror.rs`).
use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    dr_copy::DrCopy,
    event::Events,
    lease::Lease,
    mirror::Mirror,
    status::{Status, StepEvent, StepRecords},
};
use crate::{
    clock,
    failure::{Failure, FailureKind, LeftBehind},
    ids::{EnvironmentName, RunId, StepId},
    plan::selection::Selection,
    redact,
    steps::Intents,
    whole_file,
};

const FORMAT: &str = "deployctl-journal";
const VERSION: u32 = 2;

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Always `deployctl-journal`.
    pub format: String,
    /// Of the format; another is refused.
    pub version: u32,
    /// The run.
    pub run: RunId,
    /// Where it goes.
    pub environment: EnvironmentName,
    /// Digest of plan file and environment file: a resumed run has the same.
    pub definition: String,
}

impl Header {
    /// The header of a new run.
    pub fn new(run: RunId, environment: EnvironmentName, definition: String) -> Self {
        Self { format: FORMAT.to_owned(), version: VERSION, run, environment, definition }
    }
}

/// Every other line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum Entry {
    /// A process begins to work on the run: the first one, or one that resumes it.
    Attempt {
        /// Who.
        holder: super::lease::Holder,
        /// Digest of the plan that it follows.
        plan: String,
        /// What part of the plan file it runs, and why.
        selection: Selection,
        /// The number of the lease that it holds; none before there is a state bucket.
        lease: Option<u64>,
    },
    /// A person has made sure that nothing of the last attempt runs any more, where this could not be proven.
    DeclaredDead {
        /// Who.
        by: super::lease::Holder,
    },
    /// Something happened to a step.
    Step {
        /// Which.
        step: StepId,
        /// What.
        #[serde(flatten)]
        event: StepEvent,
    },
    /// An abandoned run meant to use this value in a step that it did not finish: no client token is made twice.
    Inherited {
        /// Which step.
        step: StepId,
        /// The intent's name.
        key: String,
        /// Its value.
        value: Value,
    },
    /// The attempt ended.
    Finished {
        /// Whether every step ended well.
        succeeded: bool,
    },
}

#[derive(Serialize, Deserialize)]
struct Line {
    at: Timestamp,
    #[serde(flatten)]
    entry: Entry,
}

/// What a journal says, folded.
#[derive(Clone, Debug, Serialize)]
pub struct RunRecord {
    /// The first line.
    pub header: Header,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When its last line was written.
    pub ended: Option<Timestamp>,
    /// Processes that have worked on it, the newest last.
    pub attempts: Vec<super::lease::Holder>,
    /// The number of the newest attempt's lease; none if it had none yet.
    pub lease: Option<u64>,
    /// Whether a person has declared the newest attempt dead.
    pub declared_dead: bool,
    /// What part of the plan file the newest attempt ran.
    pub selection: Selection,
    /// How the newest attempt ended; nothing if it has not.
    pub finished: Option<bool>,
    /// Its steps.
    pub steps: StepRecords,
}

impl RunRecord {
    fn new(header: Header) -> Self {
        Self {
            header,
            started: None,
            ended: None,
            attempts: Vec::new(),
            lease: None,
            declared_dead: false,
            selection: Selection::default(),
            finished: None,
            steps: StepRecords::new(),
        }
    }
    /// Follows one line.
    fn follow(&mut self, at: Timestamp, entry: &Entry) -> Result<(), String> {
        match entry {
            Entry::Attempt { holder, selection, lease, .. } => {
                self.steps.values_mut().for_each(super::status::StepRecord::begin_attempt);
                self.attempts.push(holder.clone());
                self.selection = selection.clone();
                self.lease = *lease;
                self.finished = None;
                self.declared_dead = false;
            }
            _ if self.attempts.is_empty() || self.finished.is_some() => return Err("no attempt is under way".to_owned()),
            Entry::Step { step, event } => {
                self.steps.entry(step.clone()).or_default().follow(event).map_err(|error| format!("step {step}: {error}"))?;
            }
            Entry::DeclaredDead { .. } => self.declared_dead = true,
            Entry::Inherited { step, key, value } => {
                self.steps.entry(step.clone()).or_default().intents.insert(key.clone(), value.clone());
            }
            Entry::Finished { succeeded } => self.finished = Some(*succeeded),
        }
        self.started.get_or_insert(at);
        self.ended = Some(at);
        Ok(())
    }
    /// Whether the same command would go on with it.
    pub fn is_unfinished(&self) -> bool {
        self.finished != Some(true)
    }
    /// The command that goes on with it, as its newest attempt was begun.
    pub fn command(&self) -> &str {
        self.attempts.last().map_or("apply", |holder| holder.what.as_str())
    }
    /// Steps that were in flight when the newest attempt stopped.
    pub fn in_flight(&self) -> Vec<StepId> {
        self.steps
            .iter()
            .filter(|(_, record)| matches!(record.status, Status::Started | Status::Applied))
            .map(|(id, _)| id.clone())
            .collect()
    }
}

fn cannot(what: &str, path: &Path) -> Failure {
    Failure::new(FailureKind::Internal, format!("the journal {} cannot be {what}", path.display()))
        .next("free space or permissions there, then run the same command: it goes on from what the journal holds")
}

/// Reads a journal and the length of its whole lines. A torn last line is what a crash leaves, and is passed over; anything else is an error.
pub fn read(path: &Path) -> Result<(RunRecord, u64), Failure> {
    let text = std::fs::read(path).map_err(|error| cannot("read", path).because(error))?;
    read_text(&text, path)
}

/// As [`read`], of a journal's text; `path` is where it is, for messages.
pub fn read_text(text: &[u8], path: &Path) -> Result<(RunRecord, u64), Failure> {
    let broken = |line: usize, why: String| {
        Failure::new(FailureKind::Internal, format!("the journal {} is damaged at line {line}: {why}", path.display()))
            .next("move that file away if its run is of no use any more; the next apply observes everything again")
    };
    let mut record: Option<RunRecord> = None;
    let mut whole = 0u64;
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if line.last() != Some(&b'\n') {
            break;
        }
        let number = number + 1;
        match &mut record {
            None => {
                let header: Header = serde_json::from_slice(line).map_err(|error| broken(number, error.to_string()))?;
                if header.format != FORMAT || header.version != VERSION {
                    return Err(broken(
                        number,
                        format!("format {} {}, this deployctl reads {FORMAT} {VERSION}", header.format, header.version),
                    ));
                }
                record = Some(RunRecord::new(header));
            }
            Some(record) => {
                let line: Line = serde_json::from_slice(line).map_err(|error| broken(number, error.to_string()))?;
                record.follow(line.at, &line.entry).map_err(|why| broken(number, why))?;
            }
        }
        whole += u64::try_from(line.len()).unwrap_or_default();
    }
    Ok((record.ok_or_else(|| broken(1, "it has no first line".to_owned()))?, whole))
}

struct Open {
    file: File,
    record: RunRecord,
    /// All that is in the file: what the mirror writes.
    text: Vec<u8>,
    /// Why a line could not be written: it may be there whole, in part or not at all, so nothing may be written behind it.
    broken: Option<String>,
}

/// A journal that is being written.
pub struct Journal {
    path: PathBuf,
    open: Mutex<Open>,
    mirror: tokio::sync::Mutex<Option<Mirror>>,
    copy: Mutex<Option<DrCopy>>,
}

/// The journal's file in a run's folder.
pub fn path_in(folder: &Path) -> PathBuf {
    folder.join("journal.ndjson")
}

impl Journal {
    /// Makes the journal of a new run; its folder too.
    pub fn create(folder: &Path, header: Header) -> Result<Self, Failure> {
        let path = path_in(folder);
        let fail = |error: std::io::Error| cannot("written", &path).because(error);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fail)?;
        let mut line = to_line(&header)?;
        line.push('\n');
        // It gets its name once it has a first line: an empty journal would look damaged to whoever comes after a crash.
        let file = whole_file::create(&path, line.as_bytes()).map_err(fail)?;
        // The run's folder must survive a power cut as well as what is in it.
        folder.parent().map_or(Ok(()), |runs| File::open(runs)?.sync_all()).map_err(fail)?;
        let open = Open { file, record: RunRecord::new(header), text: line.into_bytes(), broken: None };
        Ok(Self { open: Mutex::new(open), path, mirror: tokio::sync::Mutex::default(), copy: Mutex::default() })
    }
    /// Opens the journal of an unfinished run to go on with it; cuts off a torn last line.
    pub fn resume(folder: &Path) -> Result<Self, Failure> {
        let path = path_in(folder);
        let mut text = std::fs::read(&path).map_err(|error| cannot("read", &path).because(error))?;
        let (record, whole) = read_text(&text, &path)?;
        text.truncate(usize::try_from(whole).unwrap_or(usize::MAX));
        let fail = |error: std::io::Error| cannot("written", &path).because(error);
        let file = OpenOptions::new().append(true).open(&path).map_err(fail)?;
        file.set_len(whole).and_then(|()| file.sync_all()).map_err(fail)?;
        Ok(Self {
            open: Mutex::new(Open { file, record, text, broken: None }),
            path,
            mirror: tokio::sync::Mutex::default(),
            copy: Mutex::default(),
        })
    }
    fn open(&self) -> MutexGuard<'_, Open> {
        // A panic while the lock was held cannot leave a half-followed record: the record is replaced only after the write.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Appends and syncs one line; on return it is on disk.
    /// Synchronous on purpose: a line is a few hundred bytes, and nothing may happen before it is there.
    /// After a failure nothing more is written: the next attempt reads what is there.
    pub fn append(&self, entry: &Entry) -> Result<(), Failure> {
        let at = clock::now();
        let mut open = self.open();
        let lost = |why: String| {
            let unknown = LeftBehind::Unknown("whatever was in flight; nothing new was started".to_owned());
            cannot("written", &self.path).because(why).left(unknown)
        };
        if let Some(why) = &open.broken {
            return Err(lost(why.clone()));
        }
        let mut next = open.record.clone();
        next.follow(at, entry)
            .map_err(|why| Failure::new(FailureKind::Internal, format!("refused to write to {}: {why}", self.path.display())))?;
        let mut line = to_line(&Line { at, entry: entry.clone() })?;
        line.push('\n');
        if let Err(error) = open.file.write_all(line.as_bytes()).and_then(|()| open.file.sync_data()) {
            open.broken = Some(error.to_string());
            return Err(lost(error.to_string()));
        }
        open.record = next;
        open.text.extend_from_slice(line.as_bytes());
        Ok(())
    }
    /// Appends an event of a step.
    pub fn step(&self, step: &StepId, event: StepEvent) -> Result<(), Failure> {
        self.append(&Entry::Step { step: step.clone(), event })
    }
    /// From now on it is kept in the state bucket too, for as long as the lease is held, and after that in the DR region, as far as that
    /// answers; nothing happens if there is no state bucket yet.
    pub async fn mirror_with(&self, lease: &Arc<dyn Lease>, events: &Events) -> Result<(), Failure> {
        let Some(records) = lease.records() else { return Ok(()) };
        let mut mirror = self.mirror.lock().await;
        if mirror.is_none() {
            let text = self.open().text.clone();
            let copies = records.copies();
            *mirror = Some(Mirror::open(lease.clone(), records, &self.run(), &text).await?);
            *self.copy() = copies.map(|copies| DrCopy::start(copies, lease.clone(), self.run(), events.clone()));
        }
        drop(mirror);
        self.flush().await
    }
    fn copy(&self) -> MutexGuard<'_, Option<DrCopy>> {
        // Nothing under this lock can panic half-way.
        self.copy.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Waits until all that was appended before is in the state bucket, if there is one. Nothing that another machine must know in order to
    /// go on may happen before this returns; lines that wait for the same write share it. Only then does the DR region get them.
    pub async fn flush(&self) -> Result<(), Failure> {
        let wanted = self.open().text.len();
        let mut mirror = self.mirror.lock().await;
        let Some(mirror) = &mut *mirror else { return Ok(()) };
        if mirror.text().len() < wanted {
            let text = self.open().text.clone();
            let unknown = || LeftBehind::Unknown("whatever was in flight; nothing new was started".to_owned());
            mirror.write(text).await.map_err(|failure| failure.left(unknown()))?;
        }
        if let Some(copy) = &*self.copy() {
            copy.send(mirror.text());
        }
        Ok(())
    }
    /// As [`Journal::flush`], and then waits a little for the DR region.
    pub async fn end(&self) -> Result<(), Failure> {
        let kept = self.flush().await;
        let copy = self.copy().take();
        if let Some(copy) = copy {
            copy.end().await;
        }
        kept
    }
    /// What it says now.
    pub fn record(&self) -> RunRecord {
        self.open().record.clone()
    }
    /// The run.
    pub fn run(&self) -> RunId {
        self.open().record.header.run.clone()
    }
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn to_line(value: &impl Serialize) -> Result<String, Failure> {
    let mut value =
        serde_json::to_value(value).map_err(|error| Failure::new(FailureKind::Internal, "a journal line is not JSON").because(error))?;
    // Value by value: masked in the line's text, a secret that begins or ends with a quote would take the line apart.
    redact::mask_json(&mut value);
    Ok(value.to_string())
}

/// The journal as steps see it.
#[derive(Clone)]
pub struct JournalIntents(pub Arc<Journal>);

impl Intents for JournalIntents {
    fn once(&self, step: &StepId, key: &str, fresh: Value) -> BoxFuture<'_, Result<Value, Failure>> {
        let known = self.left(step, key);
        let (journal, step, key) = (self.0.clone(), step.clone(), key.to_owned());
        async move {
            if let Some(value) = known {
                return Ok(value);
            }
            journal.step(&step, StepEvent::Intent { key, value: fresh.clone() })?;
            journal.flush().await?;
            Ok(fresh)
        }
        .boxed()
    }
    fn left(&self, step: &StepId, key: &str) -> Option<Value> {
        self.0.open().record.steps.get(step)?.intents.get(key).cloned()
    }
}

/// While planning nothing is called that would need one: the fresh value is as good as any. Nothing is to be gone on with.
pub struct NoIntents;

impl Intents for NoIntents {
    fn once(&self, _step: &StepId, _key: &str, fresh: Value) -> BoxFuture<'_, Result<Value, Failure>> {
        futures::future::ready(Ok(fresh)).boxed()
    }
    fn left(&self, _step: &StepId, _key: &str) -> Option<Value> {
        None
    }
}

/// While planning, too: what the run that the next apply goes on with, or inherits from, has begun.
pub struct LeftIntents(pub StepRecords);

impl Intents for LeftIntents {
    fn once(&self, step: &StepId, key: &str, fresh: Value) -> BoxFuture<'_, Result<Value, Failure>> {
        NoIntents.once(step, key, fresh)
    }
    fn left(&self, step: &StepId, key: &str) -> Option<Value> {
        self.0.get(step)?.intents.get(key).cloned()
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
