//! An HTTP answer: one that the server could not give now, and the body of the others, whole: no more of it than is expected, and no waiting for
//! one that does not go on.
use std::time::Duration;

use futures::TryStreamExt;
use reqwest::{Response, StatusCode, header};

use crate::{
    failure::{Failure, FailureKind},
    retry::{self, Missed},
};

/// An answer of which nothing comes for this long is given up.
pub const STALLED: Duration = Duration::from_secs(60);

/// The answer, unless `server` could not take the request now (429, 5xx): then another attempt may bring more, not before it wishes for one.
pub fn taken(what: &str, server: &str, response: Response) -> Result<Response, Missed> {
    let status = response.status();
    if !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS {
        return Ok(response);
    }
    let wish = retry::asked_for(response.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()));
    Err(Missed::passing(Failure::step(format!("{what}: {server} answered {status}")), wish))
}

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
