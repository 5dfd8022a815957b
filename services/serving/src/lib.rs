//! What both services do the same way: starting and ending, configuration, health, metrics, traces and draining.
pub mod drain;
pub mod operations;
pub mod settings;
pub mod telemetry;

use std::process::ExitCode;

/// An error with all its causes in one line: what logs show of an error is its outermost words only.
pub fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Why a service stopped.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A service's whole life: telemetry first, so that everything is told; shut down last, so that nothing told is lost.
pub async fn run(name: &'static str, service: impl Future<Output = Result<(), Error>>) -> ExitCode {
    let telemetry = match telemetry::Telemetry::install(name) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            tracing::error!(error = chain(&error), "can't start");
            return ExitCode::FAILURE;
        }
    };
    let ended = service.await;
    telemetry.shutdown();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = chain(&*error), "stopped");
            ExitCode::FAILURE
        }
    }
}
