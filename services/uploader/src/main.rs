//! uploader: hands out pre-signed S3 URLs. It never sees the bytes, and it remembers nothing: S3 is its only store.
mod api;
mod callers;
mod config;
mod refusal;
mod store;
mod upload;

use std::{process::ExitCode, sync::Arc, time::Duration};

use serving::{
    drain::{self, Drain, Termination},
    operations::{self, Readiness},
};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> ExitCode {
    serving::run("uploader", run()).await
}

async fn run() -> Result<(), serving::Error> {
    let mut termination = Termination::install()?;
    let config = config::Config::read()?;
    let metrics = operations::install_metrics()?;
    let readiness = Readiness::default();
    let callers = Arc::new(callers::Callers::read(&config.tokens_file, config.requests_per_minute)?);
    let store = store::Store::connect(&config).await?;
    let app = api::routes(store, callers).merge(operations::routes(readiness.clone(), metrics));
    let stop = CancellationToken::new();
    let stopper = stop.clone();
    tokio::spawn(async move {
        termination.received().await;
        stopper.cancel();
    });
    let drain = Drain { delay: config.drain_delay, finish: Duration::from_secs(15) };
    drain::serve(config.listen, app, readiness, stop, drain).await?;
    Ok(())
}
