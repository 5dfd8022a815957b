//! From received messages to files in the database: how many at a time, when to pause, and what becomes of a message.
use std::{
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use futures::FutureExt as _;
use serving::operations::Dependency;
use tokio::{
    sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{
    config::Config,
    database,
    ingest::{IngestError, Ingested, ingest},
    notification,
    queue::{Queue, Received, Wait},
    refused::Refused,
};

/// A connection that has been idle answers an empty query within this, or is given up.
const STILL_THERE: Duration = Duration::from_secs(5);
/// Longer than the database's own limit on a statement; SQS hides a message for 12 hours at most.
const LONGEST: Duration = Duration::from_secs(2 * 3600);
/// For telling SQS of the files that a drain gave up.
const RELEASE: Duration = Duration::from_secs(5);

/// With jitter a pause is up to twice as long. `deployctl` expects a word in the log every 35 s from a parser that can't receive
/// (src/steps/service/reads.rs).
fn pauses() -> ExponentialBackoff {
    let pauses = ExponentialBuilder::new().with_min_delay(Duration::from_millis(250)).with_max_delay(Duration::from_secs(10));
    pauses.without_max_times().with_jitter().build()
}

/// What a worker needs.
pub struct Worker {
    config: Arc<Config>,
    s3: aws_sdk_s3::Client,
    queue: Queue,
    /// Connections that are not in use.
    idle: Mutex<Vec<tokio_postgres::Client>>,
    /// Told when an event has been written.
    written: Arc<Notify>,
    /// One for each file that may be read at the same time.
    slots: Arc<Semaphore>,
    /// The last file failed, and not by its own fault: the bucket or the database is in trouble.
    trouble: AtomicBool,
    /// Cancelled when the time for what is in flight is up.
    give_up: CancellationToken,
    queue_answers: Dependency,
    database_answers: Dependency,
}

/// What became of a message's files.
enum Outcome {
    Done,
    Refused(Refused),
    Busy,
    NotNow(IngestError),
}

impl Outcome {
    fn of(file: Result<Ingested, IngestError>) -> Self {
        match file {
            Ok(Ingested::Busy) => Self::Busy,
            Ok(Ingested::Parsed { .. } | Ingested::Already | Ingested::Gone) => Self::Done,
            Err(IngestError::Refused(refused)) => Self::Refused(refused),
            Err(error) => Self::NotNow(error),
        }
    }

    /// Of several files in a message the one decides that needs the message most: one that may succeed another time needs it again.
    const fn weight(&self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Refused(_) => 1,
            Self::Busy => 2,
            Self::NotNow(_) => 3,
        }
    }
}

impl Worker {
    /// A worker that has not begun.
    pub fn new(
        config: Arc<Config>,
        s3: aws_sdk_s3::Client,
        queue: (Queue, Dependency),
        database: Dependency,
        written: Arc<Notify>,
    ) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(config.concurrency)),
            config,
            s3,
            queue: queue.0,
            idle: Mutex::default(),
            written,
            trouble: AtomicBool::new(false),
            give_up: CancellationToken::new(),
            queue_answers: queue.1,
            database_answers: database,
        }
    }

    /// Works until `stop` is cancelled, then finishes what is in flight within the configured time.
    pub async fn work(self: Arc<Self>, stop: CancellationToken) {
        let mut tasks = JoinSet::new();
        let mut pauses = pauses();
        while !stop.is_cancelled() {
            let mut next = pin!(self.next(&stop));
            let received = tokio::select! {
                received = &mut next => received,
                () = stop.cancelled() => return self.drain(tasks, next).await,
            };
            while tasks.try_join_next().is_some() {}
            let failed = match received {
                Ok(messages) => {
                    for message in messages {
                        let slot = if message.suspect() { None } else { self.slots.clone().try_acquire_owned().ok() };
                        tasks.spawn(self.clone().handle(message, slot));
                    }
                    None
                }
                Err(error) => {
                    metrics::counter!("parser_receive_errors_total").increment(1);
                    Some(error)
                }
            };
            if failed.is_none() && !self.trouble.load(Ordering::Relaxed) {
                pauses = self::pauses();
                continue;
            }
            // Each message that is received in vain comes nearer to the dead-letter queue, so whoever is in trouble asks seldom.
            let pause = pauses.next().unwrap_or_default();
            let again_in_ms = pause.as_millis();
            match failed {
                Some(error) => tracing::warn!(error, again_in_ms, "nothing can be received"),
                None => tracing::warn!(again_in_ms, "files can't be read or written just now; one at a time until one can"),
            }
            stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
        self.drain(tasks, std::future::ready(Ok(Vec::new()))).await;
    }

    /// Finishes what is in flight, the last poll too: SQS would give messages to a poll that nobody waits for any more, and hide them. What
    /// can't be finished in time is released.
    async fn drain(&self, mut tasks: JoinSet<()>, poll: impl Future<Output = Result<Vec<Received>, String>>) {
        tracing::info!(in_flight = tasks.len(), "no new messages; finishing");
        let files = async { while tasks.join_next().await.is_some() {} };
        let polled = async {
            for message in poll.await.unwrap_or_default() {
                self.queue.release(&message).await;
            }
        };
        if tokio::time::timeout(self.config.finish, async { tokio::join!(files, polled) }).await.is_err() {
            tracing::warn!(in_flight = tasks.len(), "time is up; these files will be read again");
            self.give_up.cancel();
            let released = async { while tasks.join_next().await.is_some() {} };
            if tokio::time::timeout(RELEASE, released).await.is_err() {
                tracing::warn!("SQS was not told; their messages come again when they are no longer hidden");
            }
        }
    }

    /// Waits for a free slot and then for messages, never without a database: every message would be received in vain.
    async fn next(&self, stop: &CancellationToken) -> Result<Vec<Received>, String> {
        let slot = self.slots.acquire().await.map_err(|closed| closed.to_string())?;
        let free = self.slots.available_permits() + 1;
        drop(slot);
        let connection = self.connection().await.map_err(|error| serving::chain(&error))?;
        self.idle.lock().await.push(connection);
        if stop.is_cancelled() {
            return Ok(Vec::new());
        }
        let most = if self.trouble.load(Ordering::Relaxed) { 1 } else { free };
        // A queue that is not known to answer is not waited for: readiness would come a whole poll late.
        let wait = if self.queue_answers.answered() { Wait::LongPoll } else { Wait::No };
        let received = self.queue.receive(most, wait).await;
        match &received {
            Ok(_) => self.queue_answers.answers(),
            Err(_) => self.queue_answers.is_gone(),
        }
        received
    }

    async fn connection(&self) -> Result<tokio_postgres::Client, database::ConnectError> {
        loop {
            let Some(client) = self.idle.lock().await.pop() else { break };
            if tokio::time::timeout(STILL_THERE, client.simple_query("")).await.is_ok_and(|answer| answer.is_ok()) {
                self.database_answers.answers();
                return Ok(client);
            }
            self.database_answers.is_gone();
        }
        let connected = database::connect(&self.config.database).await;
        match &connected {
            Ok(_) => self.database_answers.answers(),
            Err(_) => self.database_answers.is_gone(),
        }
        connected
    }

    async fn handle(self: Arc<Self>, message: Received, slot: Option<OwnedSemaphorePermit>) {
        let span = tracing::info_span!("message", id = message.id, receives = message.receives);
        let handled = async {
            let outcome = tokio::select! {
                outcome = self.read(&message, slot) => outcome,
                never = self.queue.keep_hidden(&message) => match never {},
                () = self.give_up.cancelled() => return self.queue.release(&message).await,
            };
            self.trouble.store(matches!(outcome, Outcome::NotNow(_)), Ordering::Relaxed);
            match outcome {
                Outcome::Done => self.queue.delete(&message).await,
                Outcome::Busy => {
                    tracing::info!("the file is being read already; the message comes again");
                    self.queue.put_off(&message).await;
                }
                Outcome::Refused(refused) => {
                    metrics::counter!("parser_files_refused_total", "code" => refused.code()).increment(1);
                    tracing::error!(reason = %refused, "file refused; its message goes to the dead-letter queue");
                    self.queue.bury(&message, &refused).await;
                }
                Outcome::NotNow(error) => {
                    metrics::counter!("parser_files_postponed_total").increment(1);
                    tracing::warn!(error = serving::chain(&error), "not now; the message comes again");
                    self.queue.put_off(&message).await;
                }
            }
        };
        handled.instrument(span).await;
    }

    /// One slot, or all of them for a suspect: if it kills this process, no other message is near.
    async fn slot(&self, message: &Received) -> Option<OwnedSemaphorePermit> {
        let slots = self.slots.clone();
        if !message.suspect() {
            return slots.acquire_owned().await.ok();
        }
        tracing::warn!("received often, so its readers were killed or in trouble; it is read alone, and hidden for longer");
        self.queue.set_aside(message).await;
        slots.acquire_many_owned(u32::try_from(self.config.concurrency).unwrap_or(u32::MAX)).await.ok()
    }

    /// Every file of the message, whatever becomes of the others.
    async fn read(&self, message: &Received, slot: Option<OwnedSemaphorePermit>) -> Outcome {
        let _slot = match slot {
            Some(slot) => Some(slot),
            None => self.slot(message).await,
        };
        let created = match notification::created(&message.body) {
            Ok(created) => created,
            Err(error) => return Outcome::Refused(Refused::Message(error.to_string())),
        };
        let mut outcome = Outcome::Done;
        for object in &created {
            let file = AssertUnwindSafe(self.file(object)).catch_unwind().await;
            let next = file.map_or(Outcome::Refused(Refused::Panic), Outcome::of);
            if next.weight() > outcome.weight() {
                outcome = next;
            }
        }
        outcome
    }

    async fn file(&self, object: &notification::Created) -> Result<Ingested, IngestError> {
        let started = std::time::Instant::now();
        let mut client = self.connection().await?;
        let reading = ingest(&self.config, &self.s3, &mut client, object);
        let ingested = tokio::time::timeout(LONGEST, reading).await.unwrap_or(Err(IngestError::Late(LONGEST)))?;
        // Only now: a failed transaction may have left the connection in the middle of a COPY.
        self.idle.lock().await.push(client);
        match ingested {
            Ingested::Parsed { accepted, rejected } => {
                self.written.notify_one();
                metrics::counter!("parser_files_parsed_total").increment(1);
                metrics::counter!("parser_rows_total", "outcome" => "accepted").increment(accepted);
                metrics::counter!("parser_rows_total", "outcome" => "rejected").increment(rejected);
                metrics::histogram!("parser_file_duration_seconds").record(started.elapsed().as_secs_f64());
                tracing::info!(key = object.key, accepted, rejected, millis = started.elapsed().as_millis(), "parsed");
            }
            Ingested::Already => {
                metrics::counter!("parser_files_duplicate_total").increment(1);
                tracing::info!(key = object.key, "already parsed");
            }
            Ingested::Busy => metrics::counter!("parser_files_busy_total").increment(1),
            Ingested::Gone => tracing::warn!(key = object.key, "the object is gone"),
        }
        Ok(ingested)
    }
}
