//! The source of a drill: it lives, so it is asked before the start up to when it has what was committed. A restore's source is never asked.
use serde::{Deserialize, Serialize};

use crate::{
    aws::s3::Condition,
    cli::Globals,
    commands::{db, session::Session},
    database::{audit::Depth, watermark::Watermark},
    engine::records::PREFIX,
    failure::{Failure, FailureKind},
    ui::Ui,
};

/// What a drill knows of its source.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Source {
    /// It was asked.
    Read(Watermark),
    /// It could not be asked, and why.
    Unread(String),
}

/// A restore says its address to whoever reads it; a drill has no step for that.
fn is_drill(session: &Session) -> bool {
    session.work.definition.file.steps.iter().all(|step| step.id.as_str() != super::ENDPOINT)
}

/// What is known of the source before anything is restored; nothing in a restore. A drill that goes on has its answer of then.
pub(super) async fn before(session: &Session, depth: Depth, globals: &Globals, ui: &Ui) -> Result<Option<Source>, Failure> {
    if !is_drill(session) {
        return Ok(None);
    }
    let records = &*session.records;
    let key = format!("{PREFIX}sources/{}.json", session.run);
    let kept = records.exists().await?;
    if kept && let Some(found) = records.read(&key).await? {
        let read = serde_json::from_slice(&found.body);
        return read.map(Some).map_err(|error| Failure::step(format!("{}/{key} cannot be read", records.place())).because(error));
    }
    let source = match db::watermark(depth, globals, ui).await {
        Ok(read) => Source::Read(read),
        Err(failure) if failure.kind == FailureKind::Interrupted => return Err(failure),
        Err(failure) => Source::Unread(failure.chain().join(": ")),
    };
    if kept {
        let body =
            serde_json::to_vec(&source).map_err(|e| Failure::new(FailureKind::Internal, "what a drill knows of its source").because(e))?;
        records.write(&key, body, Condition::None).await?;
    }
    Ok(Some(source))
}
