//! The log of libraries and of ourselves, for -v and RUST_LOG; masked like everything else.
use std::io::{self, Write};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

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

impl<'a> MakeWriter<'a> for Masked {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        Self
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
    drop(tracing_subscriber::fmt().with_env_filter(filter).with_writer(Masked).with_ansi(false).try_init());
}
