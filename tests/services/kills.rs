//! Parsers killed with -9 at random moments while messages, a fifth of them twice, come in.
use std::time::{Duration, Instant};

use crate::{
    files::{self, Random},
    place::{Place, max_receives},
    processes::Service,
    soak,
};

const PARSERS: usize = 3;
/// So many messages wait at most: the emulator writes its whole queue to disk after every change.
const WAITING: u64 = 150;
/// Without progress for so long, everything is hidden behind earlier kills; the next kill comes all the same.
const PATIENCE: Duration = Duration::from_secs(3);

struct Plan {
    files: u64,
    doubled: u64,
    poison: u64,
    kills: u64,
}

pub async fn lose_nothing(place: &mut Place) {
    let plan = if soak() {
        Plan { files: 7_800, doubled: 2_000, poison: 200, kills: 200 }
    } else {
        Plan { files: 240, doubled: 60, poison: 10, kills: 10 }
    };
    let mut random = Random::seeded("kills");
    let mut parsers = Vec::new();
    for number in 0..PARSERS {
        parsers.push(place.parser(u16::try_from(number).unwrap() + 20).started().await);
    }
    let before = place.number("SELECT count(*) FROM files").await;
    let started = Instant::now();
    let monitor = place.postgres.connect().await;
    let killing = kill(&mut parsers, &monitor, before, &plan, Random::of(random.below(u64::MAX)));
    let ((), moments) = tokio::join!(feed(place, &plan, &mut random), killing);
    let all_in = started.elapsed();
    let counts = place.everything_is_there(Duration::from_secs(if soak() { 600 } else { 90 })).await;
    let most = parsers.iter().filter_map(|parser| receives(&parser.said()).max()).max().unwrap_or_default();
    let messages = plan.files + plan.doubled + plan.poison;
    eprintln!(
        "{messages} messages ({} files, {} of their messages twice, {} poison), {} kills of {PARSERS} parsers in {:.0} s, {} in the middle \
         of a file; done after {:.0} s; a message was received {most} times at most, {} are allowed\nin all so far: {counts}",
        plan.files,
        plan.doubled,
        plan.poison,
        plan.kills,
        all_in.as_secs_f32(),
        moments.busy,
        started.elapsed().as_secs_f32(),
        max_receives(),
    );
    assert!(moments.busy > 0, "no kill hit a parser at work: nothing was tried");
    assert!(most < u64::from(max_receives()) / 2, "so many receives come near to the dead-letter queue");
    for parser in &mut parsers {
        parser.terminate(Duration::from_secs(20)).await;
    }
}

/// Hands in everything, in a random order, never far ahead of the parsers.
async fn feed(place: &mut Place, plan: &Plan, random: &mut Random) {
    let (mut good, mut doubled, mut poison) = (0, 0, 0);
    let mut known: Vec<String> = Vec::new();
    while good + doubled + poison < plan.files + plan.doubled + plan.poison {
        while place.depth().await.0 > WAITING {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut files = Vec::new();
        let mut again = Vec::new();
        for _ in 0..50 {
            let left = (plan.files - good) + (plan.doubled - doubled) + (plan.poison - poison);
            if left == 0 {
                break;
            }
            let drawn = random.below(left);
            if drawn < plan.files - good || good == 0 {
                files.push(files::good("kills", good, random));
                good += 1;
            } else if drawn < plan.files - good + plan.poison - poison {
                files.push(files::poison("kills", poison));
                poison += 1;
            } else {
                again.push(random.below(u64::MAX));
                doubled += 1;
            }
        }
        // Of good files only: a message that comes twice to the dead-letter queue would hide what the kills did.
        let good_ones: Vec<bool> = files.iter().map(|file| matches!(file.fate, files::Fate::Parsed { .. })).collect();
        let mut messages = place.upload(files).await;
        known.extend(messages.iter().zip(good_ones).filter(|(_, good)| *good).map(|(message, _)| message.clone()));
        for number in again {
            let index = usize::try_from(number % known.len() as u64).unwrap();
            messages.push(known[index].clone());
        }
        place.send(&messages).await;
    }
}

struct Moments {
    /// Kills while the parser had a transaction open that reads a file.
    busy: u64,
}

/// Each kill after a random amount of work since the last one, of a random parser, which is started again at once.
async fn kill(parsers: &mut [Service], monitor: &tokio_postgres::Client, before: i64, plan: &Plan, mut random: Random) -> Moments {
    let mut moments = Moments { busy: 0 };
    for number in 0..plan.kills {
        let target = (number * plan.files + random.below(plan.files)) / plan.kills;
        let begun = Instant::now();
        loop {
            let done: i64 = monitor.query_one("SELECT count(*) FROM files", &[]).await.unwrap().get(0);
            if u64::try_from(done - before).unwrap() >= target || begun.elapsed() > PATIENCE {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.below(150))).await;
        let chosen = usize::try_from(random.below(PARSERS as u64)).unwrap();
        // Any file in hand, of whichever parser: which backend is whose is not known.
        let reading = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted";
        moments.busy += u64::from(monitor.query_one(reading, &[]).await.unwrap().get::<_, i64>(0) > 0);
        parsers[chosen].kill();
        parsers[chosen].start();
    }
    moments
}

/// How often the messages of a log had been received.
fn receives(log: &str) -> impl Iterator<Item = u64> {
    log.split("\"receives\":").skip(1).filter_map(|rest| rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok())
}
