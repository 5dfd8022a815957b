//! Holds what a call did against its line of the table.
use std::time::Duration;

use deployctl::failure::Failure;
use tokio::time::Instant;

use crate::table::{Ends, Row};

/// How a line came out.
pub struct Proof {
    /// For people.
    pub line: String,
    /// What does not hold.
    pub wrong: Vec<String>,
}

impl Proof {
    /// Of what is no line of the table.
    pub fn of(line: &str, holds: Result<(), Failure>) -> Self {
        Self { line: line.to_owned(), wrong: holds.err().into_iter().map(|failure| failure.chain().join(": ")).collect() }
    }
}

/// Timers may be early by this much.
const ROUNDED: Duration = Duration::from_millis(20);

/// Makes the call; `attempts` says afterwards when it was sent.
pub async fn prove(row: &Row, call: impl Future<Output = Result<(), Failure>>, attempts: impl FnOnce(Instant) -> Vec<Instant>) -> Proof {
    let began = Instant::now();
    let ended = tokio::time::timeout(row.within + Duration::from_secs(20), call).await;
    let took = began.elapsed();
    let at = attempts(began);
    let mut wrong = Vec::new();
    match (&ended, row.ends) {
        (Ok(Ok(())), Ends::Done) => {}
        (Ok(Err(failure)), Ends::Fails(kind)) if failure.kind == kind => {}
        (Ok(Ok(())), ends) => wrong.push(format!("it was done, expected {ends:?}")),
        (Ok(Err(failure)), ends) => {
            wrong.push(format!("it failed with {:?}, expected {ends:?}: {}", failure.kind, failure.chain().join(": ")))
        }
        (Err(_), _) => wrong.push("it hangs".to_owned()),
    }
    if took > row.within {
        wrong.push(format!("it took {took:?}"));
    }
    if !row.attempts.contains(&at.len()) {
        wrong.push(format!("it was sent {} times, expected {:?}", at.len(), row.attempts));
    }
    let gaps: Vec<Duration> = at.windows(2).map(|two| two[1] - two[0]).collect();
    if let Some(gap) = gaps.iter().find(|gap| **gap + ROUNDED < row.gap) {
        wrong.push(format!("it was sent again after {gap:?}, expected {:?}", row.gap));
    }
    let gaps: Vec<String> = gaps.iter().map(|gap| gap.as_millis().to_string()).collect();
    let line = format!("{row}: {:?}, sent {} times, pauses of [{}] ms, {:.1} s", row.ends, at.len(), gaps.join(", "), took.as_secs_f64());
    Proof { line, wrong }
}

/// Says how all came out; the first that does not hold fails the test, after all were told.
pub fn report(proofs: &[Proof]) {
    for proof in proofs {
        eprintln!("{} {}", if proof.wrong.is_empty() { "holds:" } else { "DOES NOT HOLD:" }, proof.line);
        proof.wrong.iter().for_each(|why| eprintln!("    {why}"));
    }
    let wrong = proofs.iter().filter(|proof| !proof.wrong.is_empty()).count();
    eprintln!("{} lines of the table, {wrong} do not hold", proofs.len());
    assert!(!proofs.is_empty() && wrong == 0, "{wrong} of {} lines do not hold", proofs.len());
}

/// What the call itself must have brought.
pub fn ensure(holds: bool, what: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::new(deployctl::failure::FailureKind::Internal, format!("not so: {what}"))) }
}
