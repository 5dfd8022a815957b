//! Database, broker, queue and bucket, each gone for a while and back: parsers say so, stay, and lose nothing.
use std::time::{Duration, Instant};

use crate::{
    files::{self, Random},
    place::Place,
    processes::Service,
    soak,
    wire::{State, Wire},
};

/// A parser says within this that something refuses it.
const SAID: Duration = Duration::from_secs(20);
/// And that something is silent: a silent connection is given up first.
const SILENCE_SAID: Duration = Duration::from_secs(40);

pub async fn are_outlived(place: &mut Place) {
    let mut random = Random::seeded("outages");
    let mut parsers = vec![place.parser(30).started().await, place.parser(31).started().await];
    let pids: Vec<u32> = parsers.iter().map(Service::pid).collect();
    let states: &[State] = if soak() { &[State::Cut, State::Silent] } else { &[State::Cut] };
    let mut number = 0;
    for state in states {
        for wire in [place.wires.database.clone(), place.wires.kafka.clone(), place.wires.queue.clone()] {
            outage(place, &mut parsers, (wire, *state), &mut random, &mut number).await;
        }
    }
    // The bucket is no part of readiness: nothing asks it but for a file. What was received in vain must not be received on and on.
    place.wires.bucket.set(State::Cut);
    some_files(place, &mut random, &mut number).await;
    parsers[0].says("one at a time until one can", SILENCE_SAID).await;
    tokio::time::sleep(Duration::from_secs(if soak() { 30 } else { 1 })).await;
    place.wires.bucket.set(State::Whole);
    place.postgres.kill_and_start_again().await;
    place.database = place.postgres.connect().await;
    for parser in &mut parsers {
        parser.until_ready().await;
    }
    let counts = place.everything_is_there(Duration::from_secs(120)).await;
    assert_eq!(pids, parsers.iter().map(Service::pid).collect::<Vec<_>>(), "no parser ended");
    for parser in &mut parsers {
        parser.must_live();
        parser.terminate(Duration::from_secs(20)).await;
    }
    eprintln!("outages outlived, PostgreSQL killed -9; {counts}");
}

async fn some_files(place: &mut Place, random: &mut Random, number: &mut u64) {
    let files = (*number..*number + 8).map(|number| files::good("outages", number, random)).collect();
    *number += 8;
    place.deliver(files).await;
}

async fn outage(place: &mut Place, parsers: &mut [Service], (wire, state): (Wire, State), random: &mut Random, number: &mut u64) {
    let name = wire.name;
    some_files(place, random, number).await;
    wire.set(state);
    let began = Instant::now();
    some_files(place, random, number).await;
    let within = if state == State::Silent { SILENCE_SAID } else { SAID };
    let mut said = Vec::new();
    for parser in &mut *parsers {
        while !parser.readiness().await.contains(name) {
            assert!(
                began.elapsed() < within,
                "{name} is {state:?} for {within:?}, and {:?} is all that is said\n{}",
                parser.readiness().await,
                parser.said()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        said.push(began.elapsed().as_secs_f32());
    }
    let lasts = Duration::from_secs(if soak() { 30 } else { 2 });
    while began.elapsed() < lasts {
        some_files(place, random, number).await;
        parsers.iter_mut().for_each(Service::must_live);
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    wire.set(State::Whole);
    let back = Instant::now();
    for parser in &mut *parsers {
        parser.until_ready().await;
    }
    let (gone_for, ready) = (began.elapsed() - back.elapsed(), back.elapsed());
    eprintln!(
        "{name} {state:?} for {:.1} s: not ready after {:.1} and {:.1} s, ready {:.1} s after its return",
        gone_for.as_secs_f32(),
        said[0],
        said[1],
        ready.as_secs_f32()
    );
}
