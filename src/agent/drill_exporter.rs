//! Tells Prometheus when the last good drill was. It reads the drills' results in the DR region's bucket and goes on for as long as its pod does:
//! drills run elsewhere, if at all, and an alert on the last one's age must fire above all when nobody runs any.
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Args;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    signal::unix::{SignalKind, signal},
    sync::watch,
};

use super::say;
use crate::{
    aws::Aws,
    clock,
    engine::{drills, records::BucketRecords},
    failure::Failure,
    ids::{AccountId, BucketName, EnvironmentName, Region},
    permit::Permit,
};

/// When the results were read, in seconds since 1970.
pub const READ_AT: &str = "deployctl_drill_read_timestamp_seconds";
/// For one look, signing in among it.
const LOOK: Duration = Duration::from_secs(60);
/// Until the next one, after one that failed.
const AGAIN: Duration = Duration::from_secs(30);
/// For a request's lines to arrive.
const REQUEST: Duration = Duration::from_secs(10);

/// `deployctl agent drill-exporter`.
#[derive(Args, Clone, Debug)]
pub struct DrillExporterArgs {
    /// The environment whose drills they are (`--environment` is everybody's, and of another type)
    #[arg(long)]
    environment_name: EnvironmentName,
    /// Its account
    #[arg(long)]
    account: AccountId,
    /// The DR region
    #[arg(long)]
    dr_region: Region,
    /// The bucket there that keeps their results
    #[arg(long)]
    bucket: BucketName,
    /// Where Prometheus asks
    #[arg(long, default_value = "0.0.0.0:9187")]
    listen: SocketAddr,
    /// Seconds between two looks into the bucket
    #[arg(long, default_value_t = 300)]
    every_seconds: u64,
}

/// Serves until SIGTERM.
pub async fn run(args: &DrillExporterArgs) -> Result<Value, Failure> {
    let deaf = |e: std::io::Error| Failure::step(format!("cannot listen on {}", args.listen)).because(e);
    let listener = TcpListener::bind(args.listen).await.map_err(deaf)?;
    let mut terminated = signal(SignalKind::terminate()).map_err(|e| Failure::step("cannot listen for signals").because(e))?;
    let (told, telling) = watch::channel(Bytes::new());
    tokio::select! {
        read = keep_reading(args, &told) => read?,
        () = serve(&listener, &telling) => {}
        _ = terminated.recv() => {}
    }
    Ok(json!({ "served": args.listen }))
}

/// Looks again and again. What was read last is told on: its age goes on growing by itself.
async fn keep_reading(args: &DrillExporterArgs, told: &watch::Sender<Bytes>) -> Result<(), Failure> {
    let mut records = None;
    loop {
        let began = Instant::now();
        let look = tokio::time::timeout(LOOK, look(args, &mut records)).await;
        match look.unwrap_or_else(|_late| Err(Failure::timeout(format!("s3://{}", args.bucket), LOOK))) {
            Ok(text) => {
                told.send_replace(text);
                tokio::time::sleep(Duration::from_secs(args.every_seconds).saturating_sub(began.elapsed())).await;
            }
            Err(failure) => {
                // The next look signs in anew.
                records = None;
                say(&json!({ "progress": format!("the drills' results cannot be read: {}", failure.chain().join(": ")) }))?;
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn look(args: &DrillExporterArgs, records: &mut Option<BucketRecords>) -> Result<Bytes, Failure> {
    let known = match records.take() {
        Some(known) => known,
        None => {
            let aws = Aws::connect(&args.dr_region, None, &args.account).await?.with_permit(Permit::to_look());
            BucketRecords::alone(Arc::new(aws), args.bucket.clone())
        }
    };
    let found = drills::read(records.insert(known), 1).await?;
    Ok((drills::metrics(&args.environment_name, &args.dr_region, &found) + &read_at(args)).into())
}

/// Without it a dead look could not be told from drills that nobody runs.
fn read_at(args: &DrillExporterArgs) -> String {
    drills::gauge(
        &args.environment_name,
        &args.dr_region,
        READ_AT,
        "When the drills' results were read.",
        drills::seconds(Some(clock::now())),
    )
}

async fn serve(listener: &TcpListener, telling: &watch::Receiver<Bytes>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(converse(stream, telling.clone()))),
            // Too many open files, say: the next one may be taken again.
            Err(error) => {
                tracing::warn!("a connection was not taken: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, telling: watch::Receiver<Bytes>) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = answer(request.method(), request.uri().path(), &telling.borrow());
        std::future::ready(Ok::<_, Infallible>(answer))
    });
    let mut server = http1::Builder::new();
    let served = server.timer(TokioTimer::new()).header_read_timeout(REQUEST).serve_connection(TokioIo::new(stream), service).await;
    if let Err(error) = served {
        // Whoever asked has gone; nothing is lost by it.
        tracing::debug!("a connection broke: {error}");
    }
}

/// Ready as soon as it listens: a deployment here must not wait for the DR region.
fn answer(method: &Method, path: &str, told: &Bytes) -> Response<Full<Bytes>> {
    let (status, body) = match (method, path) {
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, told.clone()),
        (&Method::GET | &Method::HEAD, "/healthz") => (StatusCode::OK, Bytes::from_static(b"it listens\n")),
        _ => (StatusCode::NOT_FOUND, Bytes::from_static(b"/metrics and /healthz\n")),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}
