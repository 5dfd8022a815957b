//! What deployctl does about each fault of each thing that it depends on. Every line is proven by a test; a gap in the table fails one.
use std::{fmt, ops::RangeInclusive, time::Duration};

use deployctl::failure::FailureKind;

/// What deployctl speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependency {
    Aws,
    Registry,
    ApiServer,
    Database,
    Kafka,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It says that this is too much just now.
    Throttled,
    /// It says that too, and when to come back.
    RetryAfter,
    /// It fails inside.
    ServerError,
    /// It takes the connection and says nothing.
    Silent,
    /// Nobody listens, for two seconds.
    Refused,
    /// The connection is reset before the question arrives.
    Reset,
    /// The connection is reset in the middle of the question.
    CutRequest,
    /// The question arrives and is done, its answer does not.
    LostAnswer,
    /// Half of the answer arrives.
    CutAnswer,
    /// The answer takes seconds.
    Slow,
}

pub const DEPENDENCIES: [Dependency; 5] =
    [Dependency::Aws, Dependency::Registry, Dependency::ApiServer, Dependency::Database, Dependency::Kafka];
pub const KINDS: [Kind; 10] = [
    Kind::Throttled,
    Kind::RetryAfter,
    Kind::ServerError,
    Kind::Silent,
    Kind::Refused,
    Kind::Reset,
    Kind::CutRequest,
    Kind::LostAnswer,
    Kind::CutAnswer,
    Kind::Slow,
];

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    Done,
    Fails(FailureKind),
}

/// Where it is proven: what takes long, and what another line shows already, only in `make soak`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Test,
    Soak,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Row {
    pub dependency: Dependency,
    pub kind: Kind,
    /// How many requests, or connections, meet it.
    pub times: usize,
    /// The call, as the test of the dependency names it.
    pub call: &'static str,
    pub ends: Ends,
    /// How often the call that was struck is sent.
    pub attempts: RangeInclusive<usize>,
    /// Between any two attempts at least.
    pub gap: Duration,
    /// All of it at most.
    pub within: Duration,
    pub when: When,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let times = if self.times == ALWAYS { "always".to_owned() } else { format!("{}x", self.times) };
        write!(f, "{:?} {:?} {times} {}", self.dependency, self.kind, self.call)
    }
}

pub const ALWAYS: usize = usize::MAX;

macro_rules! table {
    ($($dependency:ident $kind:ident, $times:expr, $call:literal => $ends:expr, $attempts:expr, $gap:literal ms, $within:literal s, $when:ident;)*) => {
        vec![$(Row {
            dependency: Dependency::$dependency, kind: Kind::$kind, times: $times, call: $call, ends: $ends, attempts: $attempts,
            gap: Duration::from_millis($gap), within: Duration::from_secs($within), when: When::$when,
        }),*]
    };
}

const STEP: Ends = Ends::Fails(FailureKind::Step);
const TIMEOUT: Ends = Ends::Fails(FailureKind::Timeout);
const UNREACHABLE: Ends = Ends::Fails(FailureKind::Preflight);

/// The table.
#[rustfmt::skip]
pub fn table() -> Vec<Row> {
    use Ends::Done;
    table! {
        // Clients of the SDK: 6 attempts, pauses of up to 1, 2, 4, 8 and 16 s, each a random part of that; 30 s for a byte, 150 s in all.
        Aws Throttled, 2, "get-object" => Done, 3..=3, 0 ms, 20 s, Test;
        Aws Throttled, 2, "take-lock" => Done, 3..=3, 0 ms, 20 s, Test;
        Aws Throttled, ALWAYS, "get-object" => STEP, 6..=6, 0 ms, 45 s, Test;
        Aws RetryAfter, 1, "get-object" => Done, 2..=2, 3000 ms, 20 s, Test;
        Aws RetryAfter, 2, "put-object" => Done, 3..=3, 3000 ms, 30 s, Test;
        Aws ServerError, 2, "put-object" => Done, 3..=3, 0 ms, 20 s, Test;
        Aws ServerError, ALWAYS, "get-object" => STEP, 6..=6, 0 ms, 45 s, Soak;
        Aws Silent, 1, "get-object" => Done, 2..=2, 29000 ms, 45 s, Soak;
        Aws Silent, ALWAYS, "get-object" => TIMEOUT, 4..=6, 29000 ms, 155 s, Soak;
        Aws Refused, 1, "get-object" => Done, 1..=1, 0 ms, 30 s, Test;
        Aws Reset, 2, "take-lock" => Done, 3..=3, 0 ms, 20 s, Test;
        Aws Reset, ALWAYS, "get-object" => UNREACHABLE, 6..=6, 0 ms, 45 s, Soak;
        Aws CutRequest, 1, "put-object" => Done, 2..=2, 0 ms, 20 s, Test;
        Aws CutAnswer, 1, "get-object" => Done, 2..=2, 0 ms, 20 s, Test;
        Aws Slow, 1, "get-object" => Done, 1..=1, 0 ms, 20 s, Test;
        // The SDK sends each of these again. What twice would do is what each call's own condition, name or token prevents.
        Aws LostAnswer, 1, "put-object" => Done, 2..=2, 0 ms, 20 s, Test;
        Aws LostAnswer, 1, "delete-object-of" => Done, 2..=2, 0 ms, 20 s, Test;
        Aws LostAnswer, 1, "create-bucket" => Done, 2..=2, 0 ms, 20 s, Soak;
        Aws LostAnswer, 1, "take-lock" => Done, 2..=2, 0 ms, 20 s, Test;
        Aws LostAnswer, 1, "release-lock" => Done, 2..=2, 0 ms, 20 s, Test;
        Aws LostAnswer, 1, "correct-digest" => Done, 2..=2, 0 ms, 20 s, Test;
        Aws LostAnswer, 1, "create-table" => Done, 2..=2, 0 ms, 20 s, Soak;
        Aws LostAnswer, 1, "create-repository" => Done, 2..=2, 0 ms, 20 s, Soak;
        Aws LostAnswer, 1, "create-secret" => Done, 2..=2, 0 ms, 20 s, Test;
        Aws LostAnswer, 1, "put-secret" => Done, 2..=2, 0 ms, 20 s, Test;
        // Signed here, for reading: 6 attempts with pauses of 0.5, 1, 2, 4 and 8 s, each up to twice as long.
        Aws Throttled, 2, "describe-subnets" => Done, 3..=3, 500 ms, 10 s, Test;
        Aws Throttled, ALWAYS, "describe-subnets" => STEP, 6..=6, 500 ms, 40 s, Soak;
        Aws RetryAfter, 1, "describe-subnets" => Done, 2..=2, 3000 ms, 10 s, Test;
        Aws ServerError, 2, "describe-subnets" => Done, 3..=3, 500 ms, 10 s, Soak;
        Aws Reset, 2, "describe-subnets" => Done, 3..=3, 500 ms, 10 s, Soak;
        Aws Reset, ALWAYS, "describe-subnets" => UNREACHABLE, 6..=6, 500 ms, 40 s, Soak;
        Aws CutAnswer, 1, "describe-subnets" => Done, 2..=2, 500 ms, 10 s, Soak;
        Aws Silent, 1, "describe-subnets" => Done, 2..=2, 30000 ms, 45 s, Soak;
        // One lease for one environment: a bucket that takes two seconds for each answer and loses one keeps it.
        Aws Slow, ALWAYS, "lease" => Done, 5..=40, 0 ms, 35 s, Test;

        // 6 attempts with the same pauses. One at a blob or a tag begins by asking what is there, so nothing that arrived is sent again.
        Registry Throttled, 2, "push-blob" => Done, 3..=3, 500 ms, 15 s, Test;
        Registry RetryAfter, 1, "push-blob" => Done, 2..=2, 3000 ms, 15 s, Test;
        Registry RetryAfter, 1, "find" => Done, 2..=40, 0 ms, 15 s, Soak;
        Registry ServerError, 2, "start-upload" => Done, 3..=3, 500 ms, 15 s, Test;
        Registry ServerError, ALWAYS, "start-upload" => STEP, 6..=6, 500 ms, 40 s, Soak;
        Registry ServerError, 2, "push-manifest" => Done, 3..=3, 500 ms, 15 s, Soak;
        Registry Silent, 1, "ask-blob" => Done, 2..=2, 30000 ms, 45 s, Soak;
        // 30 s without a byte taken from us (TCP's own user timeout); 60 s once all were taken.
        Registry Silent, 1, "push-blob" => Done, 2..=2, 30000 ms, 75 s, Soak;
        Registry Silent, ALWAYS, "push-manifest" => TIMEOUT, 3..=4, 30000 ms, 125 s, Soak;
        Registry Refused, 1, "push-blob" => Done, 1..=1, 0 ms, 20 s, Test;
        Registry Reset, 1, "push-blob" => Done, 2..=2, 500 ms, 15 s, Soak;
        Registry CutRequest, 1, "push-blob" => Done, 2..=2, 500 ms, 15 s, Test;
        Registry LostAnswer, 1, "push-blob" => Done, 1..=1, 0 ms, 15 s, Test;
        Registry LostAnswer, 1, "push-manifest" => Done, 1..=1, 0 ms, 15 s, Test;
        Registry CutAnswer, 1, "read-manifest" => Done, 2..=2, 500 ms, 15 s, Test;
        Registry Slow, 1, "read-manifest" => Done, 1..=1, 0 ms, 15 s, Test;

        // Pauses of 0.2, 0.4, 0.8, 1.6, 3.2 and 5 s, each up to twice as long; 30 s in all.
        ApiServer Throttled, 2, "apply" => Done, 3..=3, 200 ms, 10 s, Test;
        ApiServer RetryAfter, 1, "apply" => Done, 2..=2, 3000 ms, 10 s, Test;
        ApiServer RetryAfter, 1, "get" => Done, 2..=2, 3000 ms, 10 s, Soak;
        ApiServer ServerError, 2, "get" => Done, 3..=3, 200 ms, 10 s, Test;
        ApiServer ServerError, ALWAYS, "get" => STEP, 7..=7, 200 ms, 26 s, Test;
        ApiServer Silent, ALWAYS, "get" => TIMEOUT, 1..=1, 0 ms, 32 s, Soak;
        ApiServer Silent, ALWAYS, "apply" => TIMEOUT, 1..=1, 0 ms, 32 s, Soak;
        ApiServer Silent, ALWAYS, "watch" => Done, 1..=4, 0 ms, 45 s, Test;
        ApiServer Refused, 1, "get" => Done, 1..=1, 0 ms, 10 s, Test;
        ApiServer Reset, 2, "get" => Done, 3..=3, 200 ms, 10 s, Test;
        ApiServer Reset, 2, "apply" => Done, 3..=3, 200 ms, 10 s, Soak;
        ApiServer CutRequest, 1, "apply" => Done, 2..=2, 200 ms, 10 s, Test;
        ApiServer LostAnswer, 1, "apply" => Done, 2..=2, 200 ms, 10 s, Test;
        ApiServer LostAnswer, 1, "delete" => Done, 2..=2, 200 ms, 10 s, Test;
        ApiServer CutAnswer, 1, "get" => Done, 2..=2, 0 ms, 10 s, Test;
        ApiServer Slow, 1, "get" => Done, 1..=1, 0 ms, 10 s, Test;
        // A POST makes something each time: it is sent again only when it was turned away.
        ApiServer Throttled, 1, "token" => Done, 2..=2, 200 ms, 10 s, Test;
        ApiServer ServerError, 1, "token" => STEP, 1..=1, 0 ms, 10 s, Test;
        ApiServer LostAnswer, 1, "token" => STEP, 1..=1, 0 ms, 10 s, Test;

        // A connection is tried until the patience of the caller is over (here 15 s); a statement is never sent again.
        Database Throttled, 1, "connect" => Done, 2..=4, 500 ms, 15 s, Test;
        Database ServerError, 1, "connect" => Done, 2..=9, 500 ms, 15 s, Test;
        Database Silent, 1, "connect" => Done, 2..=2, 10000 ms, 15 s, Test;
        Database Silent, ALWAYS, "connect" => TIMEOUT, 2..=2, 10000 ms, 16 s, Soak;
        Database Refused, 1, "connect" => Done, 1..=1, 0 ms, 10 s, Test;
        Database Reset, 2, "connect" => Done, 3..=3, 500 ms, 10 s, Test;
        Database CutRequest, 1, "statement" => STEP, 1..=1, 0 ms, 10 s, Test;
        Database LostAnswer, 1, "statement" => STEP, 1..=1, 0 ms, 10 s, Test;
        Database Slow, 1, "connect" => Done, 1..=1, 0 ms, 15 s, Test;

        // A connection is tried for 30 s; reads are repeated for 60 s; a change that was sent is not.
        Kafka Refused, 1, "topics" => Done, 1..=20, 0 ms, 30 s, Soak;
        Kafka Reset, 2, "topics" => Done, 3..=20, 0 ms, 30 s, Soak;
        Kafka Silent, 1, "topics" => Done, 2..=20, 0 ms, 40 s, Soak;
        Kafka Silent, ALWAYS, "topics" => TIMEOUT, 1..=20, 0 ms, 32 s, Soak;
        Kafka LostAnswer, 1, "topics" => TIMEOUT, 1..=20, 0 ms, 65 s, Soak;
        Kafka Slow, 1, "topics" => Done, 1..=20, 0 ms, 30 s, Soak;
    }
}

/// What cannot go wrong like this, and why.
pub const ABSENT: [(Dependency, Kind, &str); 7] = [
    (Dependency::Database, Kind::RetryAfter, "PostgreSQL's protocol has no such word"),
    (Dependency::Database, Kind::CutAnswer, "a TLS record that is cut is no answer: as LostAnswer"),
    (Dependency::Kafka, Kind::Throttled, "a quota delays the answer: as Slow"),
    (Dependency::Kafka, Kind::RetryAfter, "the client itself waits for as long as the broker says (throttle_time_ms)"),
    (Dependency::Kafka, Kind::ServerError, "the client repeats what the protocol calls retriable"),
    (Dependency::Kafka, Kind::CutRequest, "a request that is cut is not done: as Reset"),
    (Dependency::Kafka, Kind::CutAnswer, "a frame that is cut is no answer: as LostAnswer"),
];

/// Lines of a dependency that are proven in this run.
pub fn rows(of: Dependency) -> Vec<Row> {
    let all = std::env::var_os("DEPLOYCTL_SOAK").is_some();
    table().into_iter().filter(|row| row.dependency == of && (all || row.when == When::Test)).collect()
}

#[test]
fn every_fault_of_every_dependency_has_a_line() {
    let table = table();
    for dependency in DEPENDENCIES {
        for kind in KINDS {
            let lines = table.iter().filter(|row| (row.dependency, row.kind) == (dependency, kind)).count();
            let absent = ABSENT.iter().any(|(other, fault, _why)| (*other, *fault) == (dependency, kind));
            assert!((lines > 0) != absent, "{dependency:?} {kind:?}: {lines} lines, absent: {absent}");
        }
    }
    assert!(table.iter().all(|row| row.within < Duration::from_secs(200)), "nothing may take longer");
}
