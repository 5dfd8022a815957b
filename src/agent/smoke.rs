//! Sends a marked file through the load balancer and a pre-signed URL, and follows it: queue, parser's log, rows, event. Takes it away again.
mod address;
pub mod upload;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use address::AddressArgs;
use clap::Args;
use serde_json::{Value, json};
use upload::{Marked, ROWS};

use super::{checked, database::DatabaseArgs, say, topics};
use crate::{
    aws::Aws,
    cluster::Cluster,
    failure::{Failure, LeftBehind},
    ids::{BucketName, ClusterName, QueueUrl},
    waiting,
};

/// Between two looks at what cannot be watched.
const LOOK: Duration = Duration::from_millis(250);
/// A pod that has just become ready is a target of the load balancer by then; before, it answers 503.
const REGISTERED: Duration = Duration::from_secs(60);
/// For a look that began before the end.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// For taking away what was made, however the rest went.
pub(super) const REMOVED: Duration = Duration::from_secs(90);
/// A queue that nobody else uses is empty by then: the parser deletes the message right after its commit.
const DRAIN: Duration = Duration::from_secs(5);

/// `deployctl agent smoke`; `--credentials-secret` is the tables' owner's.
#[derive(Args, Clone, Debug)]
pub struct SmokeArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    address: AddressArgs,
    /// The secret with the bearer token of the caller `smoke`
    #[arg(long)]
    token_secret: String,
    /// The bucket for uploads
    #[arg(long)]
    bucket: String,
    /// The parser's queue
    #[arg(long)]
    queue_url: String,
    /// The parser's namespace
    #[arg(long)]
    parser_namespace: String,
    /// Labels of the parser's pods
    #[arg(long)]
    parser_labels: String,
    /// Kafka's host:port
    #[arg(long)]
    kafka_bootstrap: String,
    /// TLS or not
    #[arg(long)]
    kafka_security: topics::Security,
    /// A mounted secret: files api_key and api_secret
    #[arg(long)]
    kafka_credentials: PathBuf,
    /// The parser's topic
    #[arg(long)]
    kafka_topic: String,
    /// The cluster's name, for messages
    #[arg(long)]
    cluster: String,
    /// Longest time of all hops together
    #[arg(long, default_value_t = 180)]
    deadline_seconds: u64,
}

/// Follows one file through every hop; a failure names the hop.
pub async fn run(args: &SmokeArgs) -> Result<Value, Failure> {
    let started = Instant::now();
    let end = started + Duration::from_secs(args.deadline_seconds);
    let aws = args.database.account.connect().await?;
    let token = upload::token(&aws, &args.token_secret).await?;
    // Near the end of the topic, so that it reads one event and not a week of them; before anything is sent, for a wrong key to be known first.
    let consumer = hop("kafka", "subscribing", end, listen(args)).await?;
    let sent = upload::send(&args.address, &args.bucket, &token, Instant::now() + REGISTERED);
    let marked = hop("upload", upload::PATH, end, sent).await?;
    let followed = follow(args, &aws, &consumer, &marked, end).await;
    let removed = hop("removed", "rows and object; the event stays", Instant::now() + REMOVED, remove(args, &aws, &marked)).await;
    if let Err(failure) = consumer.close().await {
        say(&json!({ "progress": format!("the consumer did not close: {failure}") }))?;
    }
    outcome(followed, removed, &format!("s3://{}/{} and its rows, as far as they were made", args.bucket, marked.key))?;
    Ok(json!({ "file_id": marked.id, "millis": u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX) }))
}

/// The hop that failed comes first; something stays only where it could not be removed.
fn outcome(followed: Result<(), Failure>, removed: Result<(), Failure>, stays: &str) -> Result<(), Failure> {
    let Err(unremoved) = removed else { return followed };
    let failure = match followed {
        Ok(()) => unremoved,
        Err(failed) => failed.evidence(unremoved.chain().join(": ")),
    };
    Err(failure.left(LeftBehind::Partial(vec![stays.to_owned()])))
}

/// Runs one hop, prints its time, and names it in a failure. At its end it is over, whatever it waits for: a database that takes a question and
/// says nothing would keep it for ever.
async fn hop<T>(name: &str, what: &str, end: Instant, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let started = Instant::now();
    let _waiting = waiting::call(format!("hop {name}"), end.saturating_duration_since(started));
    // What the hop itself says when its time is over says more.
    let late = tokio::time::timeout_at((end + LAST_WORDS).into(), work).await;
    match late.unwrap_or_else(|_elapsed| Err(Failure::timeout("an answer", started.elapsed()))) {
        Ok(value) => {
            checked(&format!("{name}: {what}"), started)?;
            Ok(value)
        }
        Err(mut failure) => {
            failure.message = format!("hop {name} ({what}): {}", failure.message);
            Err(failure)
        }
    }
}

async fn follow(args: &SmokeArgs, aws: &Aws, consumer: &krafka::consumer::Consumer, marked: &Marked, end: Instant) -> Result<(), Failure> {
    hop("parser", "SQS has told the parser, its log says `parsed`", end, parsed(args, marked, end)).await?;
    hop("postgres", "the file and its rows are in the database", end, rows(args, marked, end)).await?;
    hop("kafka", "the event is in the topic, marked smoke", end, event(args, consumer, marked, end)).await?;
    let held = hop("sqs", "the queue says what it still holds", end, held(args, aws, end)).await?;
    say(&json!({ "progress": of_queue(held) }))
}

async fn until<T, F: Future<Output = Result<Option<T>, Failure>>>(
    what: &str,
    end: Instant,
    mut look: impl FnMut() -> F,
) -> Result<T, Failure> {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if Instant::now() >= end {
            return Err(Failure::timeout(what, started.elapsed()));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn parsed(args: &SmokeArgs, marked: &Marked, end: Instant) -> Result<(), Failure> {
    let name = ClusterName::parse(&args.cluster).map_err(|e| Failure::usage("--cluster").because(e))?;
    let cluster = Cluster::in_cluster(&name)?;
    let since = i64::try_from(args.deadline_seconds).unwrap_or(i64::MAX);
    let last = std::sync::Mutex::new(Vec::new());
    let found = until("the parser's log to name the file", end, || async {
        let lines = cluster.recent_log(&args.parser_namespace, &args.parser_labels, since).await?;
        let hit = lines.iter().any(|line| line.contains(&marked.key) && line.contains("parsed"));
        if let Ok(mut last) = last.lock() {
            *last = lines;
        }
        Ok(hit.then_some(()))
    })
    .await;
    found.map_err(|mut failure| {
        let lines = last.lock().map(|lines| lines.clone()).unwrap_or_default();
        failure.evidence.extend(lines.into_iter().rev().take(50).rev().map(|line| format!("parser| {line}")));
        failure
    })
}

async fn rows(args: &SmokeArgs, marked: &Marked, end: Instant) -> Result<(), Failure> {
    let client = args.database.connect().await?;
    let failed = |e: tokio_postgres::Error| Failure::step("the database refused to be asked").because(e);
    let client = &client;
    let accepted: i64 = until("the file's row", end, || async move {
        let row = client.query_opt("SELECT rows_accepted FROM files WHERE file_id = $1", &[&marked.id]).await.map_err(failed)?;
        Ok(row.map(|row| row.get(0)))
    })
    .await?;
    let counted = client.query_one("SELECT count(*) FROM records WHERE file_id = $1", &[&marked.id]).await.map_err(failed)?;
    let counted: i64 = counted.get(0);
    if (accepted, counted) != (ROWS, ROWS) {
        return Err(Failure::verification(format!("{accepted} rows were accepted and {counted} are there, {ROWS} were sent")));
    }
    Ok(())
}

async fn listen(args: &SmokeArgs) -> Result<krafka::consumer::Consumer, Failure> {
    let failed =
        |e: krafka::error::KrafkaError| Failure::step("Kafka refused").because(e).next("check the API key: deployctl secret set kafka");
    let kafka = topics::connect_to(&args.kafka_bootstrap, args.kafka_security, &args.kafka_credentials).await?;
    let described = kafka.admin().describe_topics([&args.kafka_topic], Default::default()).await.map_err(failed)?;
    let topic = described.into_values().next().transpose().map_err(failed)?;
    let partitions = topic.map(|t| t.partitions.iter().map(|p| p.partition).collect::<Vec<_>>()).unwrap_or_default();
    // No group: a smoke test leaves none behind in the broker. A minute back, for clocks that differ; the object's key tells its
    // event from all others.
    let recent = krafka::consumer::AutoOffsetReset::ByDuration(Duration::from_secs(60));
    let consumer = kafka.consumer_without_group().auto_offset_reset(recent).build().await.map_err(failed)?;
    consumer.assign(&args.kafka_topic, partitions).await.map_err(failed)?;
    Ok(consumer)
}

async fn event(args: &SmokeArgs, consumer: &krafka::consumer::Consumer, marked: &Marked, end: Instant) -> Result<(), Failure> {
    let started = Instant::now();
    let id = marked.id.to_string();
    while Instant::now() < end {
        let records = consumer.poll(Duration::from_secs(1)).await.map_err(|e| Failure::step("Kafka refused").because(e))?;
        for record in &records {
            let Some(event) = record.value_str().and_then(|text| serde_json::from_str::<Value>(text).ok()) else { continue };
            if event["file_id"] == Value::String(id.clone()) {
                if event["smoke"] != true {
                    return Err(Failure::verification(format!("the event in {} is not marked smoke", args.kafka_topic))
                        .next("call the caller of the smoke token `smoke` in uploader-tokens"));
                }
                return Ok(());
            }
        }
    }
    Err(Failure::timeout(format!("the event of file {id} in {}", args.kafka_topic), started.elapsed()))
}

/// Messages in the queue, about: none as soon as it is empty, else what is there after a few seconds.
async fn held(args: &SmokeArgs, aws: &Aws, end: Instant) -> Result<u64, Failure> {
    let url = QueueUrl::parse(&args.queue_url).map_err(|e| Failure::usage("--queue-url").because(e))?;
    let end = end.min(Instant::now() + DRAIN);
    loop {
        let queue = aws.queue(&url).await?.ok_or_else(|| Failure::step(format!("there is no queue {url}")))?;
        let held = queue.depth + queue.in_flight;
        if held == 0 || Instant::now() >= end {
            return Ok(held);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A queue tells numbers and not names, and others upload meanwhile: what it holds is no failure.
fn of_queue(held: u64) -> String {
    match held {
        0 => "the message is gone: the queue is empty".to_owned(),
        held => format!(
            "the queue holds about {held} messages; whose they are cannot be told, the parser deletes each once its rows are committed"
        ),
    }
}

/// The rows and the object go; the event stays, marked smoke.
async fn remove(args: &SmokeArgs, aws: &Aws, marked: &Marked) -> Result<(), Failure> {
    upload::remove_rows(&args.database.connect().await?, marked).await?;
    let bucket = BucketName::parse(&args.bucket).map_err(|e| Failure::usage("--bucket").because(e))?;
    aws.delete_object_version(&bucket, &marked.key, marked.version.as_deref()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hop_that_hangs_ends_with_its_time() {
        let began = Instant::now();
        let end = began + Duration::from_millis(100) - LAST_WORDS;
        let failure = hop("postgres", "rows", end, std::future::pending::<Result<(), Failure>>()).await.err();
        assert!(failure.is_some_and(|f| f.is_timeout() && f.message.starts_with("hop postgres (rows): waited")));
        assert!(began.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn the_hop_comes_first_and_only_what_stays_is_left_behind() {
        let hop = || Err(Failure::step("hop parser: late"));
        let unremoved = || Err(Failure::step("the rows cannot be removed"));
        assert!(outcome(Ok(()), Ok(()), "object").is_ok());
        assert!(outcome(hop(), Ok(()), "object").is_err_and(|f| f.message == "hop parser: late" && f.left_behind == LeftBehind::Nothing));
        let stays = LeftBehind::Partial(vec!["object".into()]);
        assert!(outcome(Ok(()), unremoved(), "object").is_err_and(|f| f.left_behind == stays));
        let both = outcome(hop(), unremoved(), "object");
        assert!(
            both.is_err_and(|f| f.message == "hop parser: late" && f.evidence == ["the rows cannot be removed"] && f.left_behind == stays)
        );
    }
}
