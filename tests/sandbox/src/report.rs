//! The only writer to the terminal: progress on standard error, data on standard output.
use std::{
    fmt,
    io::{self, Write as _},
};

/// A line of progress. A terminal that went away must not stop the work.
pub fn line(text: fmt::Arguments<'_>) {
    // Nobody is left to be told when this fails.
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// A line of data.
pub fn data(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}
