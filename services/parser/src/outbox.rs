//! From the outbox to Kafka: at least once, in order of writing, each event under one id.
use std::{sync::Arc, time::Duration};

use krafka::{
    Kafka, Record,
    auth::{AuthConfig, TlsConfig},
    producer::{Acks, Producer},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    config::{Config, KafkaSecurity},
    database,
};

const BATCH: i64 = 200;
/// An event that was written by another pod, or left by one that died, is found after this at the latest.
const IDLE: Duration = Duration::from_secs(2);
/// Longer than one request may take (30 s): an event is sent again at least once before it waits for the next round.
const DELIVERY: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Why a round ended early; the next round tries again.
#[derive(Debug, thiserror::Error)]
enum OutboxError {
    #[error("no database")]
    Connect(#[from] database::ConnectError),
    #[error("the outbox")]
    Database(#[from] tokio_postgres::Error),
    #[error("Kafka")]
    Kafka(#[from] krafka::error::KrafkaError),
    #[error("can't read Kafka's credentials")]
    Credentials(#[from] std::io::Error),
}

/// Publishes until `stop` is cancelled. `written` wakes it when this process has committed an event.
pub async fn publish(config: Arc<Config>, written: Arc<Notify>, stop: CancellationToken) {
    let mut pause = Duration::from_millis(500);
    while !stop.is_cancelled() {
        match session(&config, &written, &stop, &mut pause).await {
            Ok(()) => return,
            Err(error) => {
                tracing::warn!(error = serving::chain(&error), again_in_ms = pause.as_millis(), "events wait in the outbox");
                metrics::counter!("parser_outbox_errors_total").increment(1);
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.cancelled() => return,
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

async fn session(config: &Config, written: &Notify, stop: &CancellationToken, pause: &mut Duration) -> Result<(), OutboxError> {
    let mut client = database::connect(&config.database).await?;
    let producer = producer(config).await?;
    loop {
        let published = round(&mut client, &producer).await?;
        *pause = Duration::from_millis(500);
        if published == BATCH {
            continue;
        }
        tokio::select! {
            () = written.notified() => {}
            () = tokio::time::sleep(IDLE) => {}
            () = stop.cancelled() => {
                // What this process wrote while it drained should not wait for another pod.
                round(&mut client, &producer).await?;
                producer.close().await?;
                return Ok(());
            }
        }
    }
}

async fn round(client: &mut tokio_postgres::Client, producer: &Producer) -> Result<i64, OutboxError> {
    let transaction = client.transaction().await?;
    let rows = transaction
        .query(
            "SELECT event_id, topic, key, payload::text FROM outbox WHERE published_at IS NULL ORDER BY created_at, event_id LIMIT $1 FOR UPDATE SKIP LOCKED",
            &[&BATCH],
        )
        .await?;
    let mut handles = Vec::with_capacity(rows.len());
    for row in &rows {
        let id: Uuid = row.get(0);
        let record = Record::new(row.get::<_, String>(1), row.get::<_, String>(3)).key(row.get::<_, String>(2));
        handles.push(producer.enqueue(record.header("event_id", id.to_string())).await?);
    }
    for handle in handles {
        drop(handle.await?);
    }
    let ids: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    transaction.execute("UPDATE outbox SET published_at = now() WHERE event_id = ANY($1)", &[&ids]).await?;
    transaction.commit().await?;
    metrics::counter!("parser_events_published_total").increment(ids.len() as u64);
    Ok(i64::try_from(ids.len()).unwrap_or(BATCH))
}

async fn producer(config: &Config) -> Result<Producer, OutboxError> {
    let secret =
        |name: &str| std::fs::read_to_string(config.kafka.credentials.join(name)).map(|text| text.trim_end_matches('\n').to_owned());
    let auth = AuthConfig::sasl_plain(secret("api_key")?, secret("api_secret")?);
    let auth = match config.kafka.security {
        KafkaSecurity::SaslSsl => auth.with_tls(TlsConfig::new()),
        KafkaSecurity::SaslPlaintext => auth,
    };
    let kafka = Kafka::builder(config.kafka.bootstrap.clone()).client_id("parser").security(auth).connect().await?;
    Ok(kafka.producer().acks(Acks::All).idempotent(true).delivery_timeout(DELIVERY).build().await?)
}
