//! What both services do the same way: starting and ending, configuration, health, metrics, traces and draining.
pub mod drain;
pub mod operations;
pub mod settings;
pub mod telemetry;

use std::process::ExitCode;

/// Why a service stopped.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A service's whole life: telemetry first, so that everything is told; shut down last, so that nothing told is lost.
pub async fn run(name: &'static str, service: impl Future<Output = Result<(), Error>>) -> ExitCode {
    let telemetry = match telemetry::Telemetry::install(name) {
        Ok(telemetry) => telemetry,
        Err(error) => {
            tracing::error!(%error, "can't start");
            return ExitCode::FAILURE;
        }
    };
    let ended = service.await;
    telemetry.shutdown();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = &*error, "stopped");
            ExitCode::FAILURE
        }
    }
}
