//! Parses, runs, exits.
use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: a watchdog must start quickly and know nothing but its job.
    if let Some(code) = deployctl::tools::watchdog::run_if_asked() {
        return code.into();
    }
    deployctl::commands::run(std::env::args_os()).into()
}
