//! A run's journal in the DR region too, for whoever restores while this region is lost. Each line is on disk first, then in the state
//! bucket, and only then, in the background, here: the copy is always a beginning of the state bucket's, and a DR region that does not
//! answer neither stops a run nor slows it.
use std::{
    sync::{Arc, Once},
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle};

use super::{
    event::{EventKind, Events},
    lease::Lease,
    mirror::Mirror,
    records::Records,
};
use crate::{failure::Failure, ids::RunId};

/// How long the end of a run waits for the last lines to arrive.
const CATCH_UP: Duration = Duration::from_secs(5);

/// Copies the newest text that it was given; what came between two looks is in it.
pub(super) struct DrCopy {
    newest: watch::Sender<Vec<u8>>,
    copying: JoinHandle<()>,
    told: Told,
}

/// Says once a run that the DR region lacks something.
#[derive(Clone)]
struct Told {
    once: Arc<Once>,
    events: Events,
    place: String,
}

impl Told {
    fn tell(&self, why: &str) {
        let message = format!("{} does not have the newest lines of this run's journal, and the run goes on: {why}", self.place);
        self.once.call_once(|| self.events.emit(EventKind::Warning { message }));
    }
}

impl DrCopy {
    /// Begins with nothing. It ends once this is dropped and the newest text was tried.
    pub(super) fn start(records: Arc<dyn Records>, lease: Arc<dyn Lease>, run: RunId, events: Events) -> Self {
        let (newest, texts) = watch::channel(Vec::new());
        let told = Told { once: Arc::new(Once::new()), events, place: records.place() };
        let copying = tokio::spawn(copy(records, lease, run, texts, told.clone()));
        Self { newest, copying, told }
    }
    /// Copies this text, which has only grown, as soon as the one before has arrived.
    pub(super) fn send(&self, text: &[u8]) {
        self.newest.send_if_modified(|known| {
            let grown = known.len() < text.len();
            if grown {
                *known = text.to_vec();
            }
            grown
        });
    }
    /// Waits for the last lines, but not for long.
    pub(super) async fn end(self) {
        let Self { newest, mut copying, told } = self;
        drop(newest);
        match tokio::time::timeout(CATCH_UP, &mut copying).await {
            Ok(Ok(())) => {}
            Ok(Err(broken)) => told.tell(&broken.to_string()),
            Err(_late) => {
                copying.abort();
                told.tell("it does not answer");
            }
        }
    }
}

async fn copy(records: Arc<dyn Records>, lease: Arc<dyn Lease>, run: RunId, mut texts: watch::Receiver<Vec<u8>>, told: Told) {
    let mut mirror = None;
    while texts.changed().await.is_ok() {
        let text = texts.borrow_and_update().clone();
        // The next line is a new try; a run has dozens.
        if let Err(failure) = put(&records, &lease, &run, &mut mirror, text).await {
            told.tell(&failure.chain().join(": "));
        }
    }
}

async fn put(
    records: &Arc<dyn Records>,
    lease: &Arc<dyn Lease>,
    run: &RunId,
    mirror: &mut Option<Mirror>,
    text: Vec<u8>,
) -> Result<(), Failure> {
    let there = match mirror {
        Some(there) => there,
        None => mirror.insert(Mirror::open(lease.clone(), records.clone(), run, &text).await?),
    };
    if there.text().len() < text.len() { there.write(text).await } else { Ok(()) }
}
