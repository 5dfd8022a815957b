//! The body of an HTTP answer, whole: no more of it than is expected, and no waiting for one that does not go on.
use std::time::Duration;

use futures::TryStreamExt;
use reqwest::Response;

use crate::{
    failure::{Failure, FailureKind},
    retry::Missed,
};

/// An answer of which nothing comes for this long is given up.
pub const STALLED: Duration = Duration::from_secs(60);

/// Reads it. What broke off or stood still may be asked for again; what is larger than `most` bytes is not what was asked for (18).
pub async fn body(what: &str, response: Response, most: usize) -> Result<Vec<u8>, Missed> {
    let (mut bytes, mut parts) = (Vec::new(), response.bytes_stream());
    loop {
        let part = tokio::time::timeout(STALLED, parts.try_next()).await;
        let part = part.map_err(|_late| Missed::passing(Failure::timeout(format!("{what}: the answer does not go on"), STALLED), None))?;
        let broke_off =
            |error: reqwest::Error| Missed::unanswered(Failure::step(format!("{what}: the answer broke off")), error.without_url());
        let Some(part) = part.map_err(broke_off)? else { return Ok(bytes) };
        if bytes.len() + part.len() > most {
            return Err(Failure::new(FailureKind::Policy, format!("{what}: more than {most} bytes came")).into());
        }
        bytes.extend_from_slice(&part);
    }
}
