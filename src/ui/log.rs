//! The log of libraries and of ourselves, for -v and RUST_LOG; masked like everything else.
use std::io::{self, Write};

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{EnvFilter, filter::filter_fn, fmt, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt};

use super::Verbosity;
use crate::redact;

struct Masked;

impl Write for Masked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stderr().lock().write_all(redact::mask(&String::from_utf8_lossy(bytes)).as_bytes())?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}

/// Starts logging if somebody asked for it.
pub fn start(verbosity: Verbosity) {
    let filter = match EnvFilter::try_from_default_env() {
        Ok(filter) => filter,
        Err(_) if verbosity == Verbosity::Verbose => EnvFilter::new("info,deployctl=debug"),
        Err(_) => return,
    };
    // A second start in one process (tests) keeps the first.
    drop(subscriber(filter, || Masked).try_init());
}

fn subscriber(filter: EnvFilter, writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static) -> impl Subscriber + Send + Sync {
    tracing_subscriber::registry().with(fmt::layer().with_writer(writer).with_ansi(false)).with(filter).with(filter_fn(can_be_masked))
}

/// At this level libraries write whole requests, the SDK's signer as a list of decimal numbers: no mask can find a secret in that.
fn can_be_masked(metadata: &Metadata<'_>) -> bool {
    *metadata.level() < Level::TRACE || metadata.target().starts_with("deployctl")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn whole_requests_are_not_logged_however_much_is_asked_for() {
        let kept = Kept::default();
        let writer = kept.clone();
        let filter = EnvFilter::new("trace,aws_smithy_runtime::client::orchestrator=trace");
        tracing::subscriber::with_default(subscriber(filter, move || writer.clone()), || {
            tracing::trace!(target: "aws_smithy_runtime::client::orchestrator", request = ?b"body", "transmitting request");
            tracing::debug!(target: "aws_smithy_runtime::client::orchestrator", "of theirs");
            tracing::trace!("of ours");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("of theirs") && text.contains("of ours") && !text.contains("transmitting"), "{text}");
    }
}
