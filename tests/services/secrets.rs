//! Mounted secrets are read again: a rotated password or key needs no restart, and loses no work.
use std::time::{Duration, Instant};

use crate::{
    files::{self, Random},
    place::Place,
    processes::Service,
    soak,
    wire::State,
};

pub async fn are_read_again(place: &mut Place) {
    let mut random = Random::seeded("secrets");
    let mut parser = place.parser(10).started().await;
    let pid = parser.pid();
    place.deliver((0..10).map(|number| files::good("before", number, &mut random)).collect()).await;
    place.rotate_database_password().await;
    // As RDS does when it restarts: whoever wants to go on needs the new password.
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'parser_run'";
    assert!(place.number(ended).await > 0, "nothing was connected");
    place.deliver((10..20).map(|number| files::good("before", number, &mut random)).collect()).await;
    let counts = place.everything_is_there(Duration::from_secs(60)).await;
    parser.until_ready().await;
    if soak() {
        the_brokers_key(place, &mut parser, &mut random).await;
    }
    assert_eq!(parser.pid(), pid);
    parser.terminate(Duration::from_secs(20)).await;
    eprintln!("password rotated under a running parser: {counts}");
}

/// The broker knows one key only, so the connection is made anew with a wrong one, and then with the right one.
async fn the_brokers_key(place: &mut Place, parser: &mut Service, random: &mut Random) {
    let secret = place.home.join("kafka/api_secret");
    let right = std::fs::read_to_string(&secret).unwrap();
    std::fs::write(&secret, "not the right one").unwrap();
    place.wires.kafka.set(State::Cut);
    place.deliver(vec![files::good("after", 0, random)]).await;
    parser.says("\"error\":\"Kafka", Duration::from_secs(60)).await;
    place.wires.kafka.set(State::Whole);
    let refused = Instant::now() + Duration::from_secs(60);
    while !parser.said().to_lowercase().contains("authentication") {
        assert!(Instant::now() < refused, "the wrong key was not tried:\n{}", parser.said());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(parser.readiness().await.contains("kafka"), "{}", parser.readiness().await);
    std::fs::write(&secret, right).unwrap();
    parser.until_ready().await;
    let counts = place.everything_is_there(Duration::from_secs(60)).await;
    eprintln!("the broker's key taken away and given back under a running parser: {counts}");
}
