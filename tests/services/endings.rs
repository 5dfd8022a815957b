//! A file in hand while its parser is told to end, or can no longer say that it has it in hand.
use std::time::{Duration, Instant};

use crate::{
    files::{self, Random},
    place::{Place, max_receives},
    soak,
    wire::State,
};

/// Nobody may write to `files` until the connection is dropped: whatever reads a file stays in the middle of it.
async fn held(place: &Place) -> tokio_postgres::Client {
    let client = place.postgres.connect().await;
    client.batch_execute("BEGIN; LOCK TABLE files IN SHARE MODE").await.unwrap();
    client
}

async fn until(place: &Place, what: &str, query: &str) {
    let end = Instant::now() + Duration::from_secs(30);
    while place.number(query).await == 0 {
        assert!(Instant::now() < end, "waited 30 s for {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const WAITS: &str = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'files'::regclass";

pub async fn lose_nothing(place: &mut Place) {
    let mut random = Random::seeded("endings");
    what_is_in_flight_is_finished(place, &mut random).await;
    what_can_not_be_finished_is_released(place, &mut random).await;
    a_lost_heartbeat_costs_a_look(place, &mut random).await;
    if soak() {
        killed_again_and_again_it_is_no_poison(place, &mut random).await;
    }
    // The message that came twice is still hidden; the parser of the next part finds its file parsed, and what all parts handed in is held
    // against what is there after each of them.
}

/// SIGTERM with time: every file in hand is finished, and nothing stays hidden.
async fn what_is_in_flight_is_finished(place: &mut Place, random: &mut Random) {
    let mut parser = place.parser(1).with("PARSER_VISIBILITY_SECONDS", 600).started().await;
    let lock = held(place).await;
    place.deliver((0..4).map(|number| files::good("drain", number, random)).collect()).await;
    until(place, "a parser in the middle of its files", &WAITS.replace("count(*)", "count(*) / 4")).await;
    let release = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        drop(lock);
    };
    let (took, ()) = tokio::join!(parser.terminate(Duration::from_secs(20)), release);
    assert_eq!(place.depth().await, (0, 0), "finished and deleted, though hidden for ten minutes");
    assert_eq!(place.number("SELECT count(*) FROM outbox WHERE published_at IS NULL").await, 0, "its last events are out");
    eprintln!("SIGTERM with 4 files in hand: ended well after {:.1} s", took.as_secs_f32());
}

/// SIGTERM without time: the transaction is rolled back, and the message shows itself to the next parser at once.
async fn what_can_not_be_finished_is_released(place: &mut Place, random: &mut Random) {
    let slow = place.parser(2).with("PARSER_VISIBILITY_SECONDS", 600).with("PARSER_FINISH_SECONDS", 2);
    let mut slow = slow.started().await;
    let lock = held(place).await;
    place.deliver(vec![files::good("released", 0, random)]).await;
    until(place, "a parser in the middle of its file", WAITS).await;
    slow.terminate(Duration::from_secs(10)).await;
    assert_eq!(place.depth().await, (1, 0), "to be seen at once, not after ten minutes");
    drop(lock);
    let mut next = place.parser(3).started().await;
    next.says("uploads/released/0", Duration::from_secs(20)).await;
    next.terminate(Duration::from_secs(20)).await;
}

/// The queue is gone while a file is being read: its message shows itself to another parser, which finds the file in hand and waits.
async fn a_lost_heartbeat_costs_a_look(place: &mut Place, random: &mut Random) {
    let mut first = place.parser(4).with("PARSER_VISIBILITY_SECONDS", 2).started().await;
    let lock = held(place).await;
    place.deliver(vec![files::good("heartbeat", 0, random)]).await;
    until(place, "a parser in the middle of its file", WAITS).await;
    place.wires.queue.set(State::Cut);
    let direct = std::env::var("AWS_ENDPOINT_URL").unwrap();
    let mut second = place.parser(5).with("AWS_ENDPOINT_URL_SQS", direct).with("PARSER_VISIBILITY_SECONDS", 2);
    second.start();
    second.says("the file is being read already", Duration::from_secs(30)).await;
    drop(lock);
    first.says("\"message\":\"parsed\"", Duration::from_secs(20)).await;
    place.wires.queue.set(State::Whole);
    for parser in [&mut first, &mut second] {
        parser.terminate(Duration::from_secs(20)).await;
    }
}

/// More kills at one file than most queues allow receives: it is read in the end, and was alone with its reader from the fifth time on.
async fn killed_again_and_again_it_is_no_poison(place: &mut Place, random: &mut Random) {
    const KILLS: u32 = 8;
    let mut parser = place.parser(6).with("PARSER_VISIBILITY_SECONDS", 2);
    let lock = held(place).await;
    place.deliver(vec![files::good("innocent", 0, random)]).await;
    let mut waited = Vec::new();
    for _ in 0..KILLS {
        parser.start();
        let began = Instant::now();
        let end = began + Duration::from_secs(120);
        while place.number(WAITS).await == 0 {
            assert!(Instant::now() < end, "the message does not come again");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        waited.push(began.elapsed().as_secs());
        parser.kill();
        // The server notices that its client is gone, and gives the lock on the file back.
        let end = Instant::now() + Duration::from_secs(40);
        while place.number(WAITS).await > 0 {
            assert!(Instant::now() < end, "the killed parser's statement goes on");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    drop(lock);
    parser.start();
    parser.says("uploads/innocent/0", Duration::from_secs(300)).await;
    assert!(parser.said().contains("it is read alone"), "{}", parser.said());
    parser.terminate(Duration::from_secs(20)).await;
    eprintln!(
        "one file, its reader killed {KILLS} times: came again after {waited:?} s, then read; {} receives are allowed",
        max_receives()
    );
}
