//! What a restore came to: how long it took, what may be lost, what was checked and what was not. For the terminal, as JSON, and as a file.
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;

use super::{
    loss::{Bound, Rpo},
    report::millis,
    source::Source,
};
use crate::{
    cli::DrLimits,
    database::audit::Depth,
    engine::{
        journal::RunRecord,
        timeline::{self, Phase},
    },
    failure::{Failure, FailureKind},
    ids::{EnvironmentName, Region, RunId},
    plan::{definition::DATABASE_SECRET, environment::Environment},
    steps::{
        Outputs, trial,
        verification::{self, Verified},
    },
    ui::lines::took,
};

/// The step that looks into the database.
const VERIFICATION: &str = "verification";
/// The step that restarts what reads its address.
const READERS: &str = "readers";
/// The step that tries it as the services would use it.
const TRIAL: &str = "trial";

/// What came of a restore. Every number in it follows from the journal or from RDS' own answers.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// Which environment.
    pub environment: EnvironmentName,
    /// Its run.
    pub run: RunId,
    /// Where the database was.
    pub lost_region: Region,
    /// Where it is now.
    pub region: Region,
    /// The instance.
    pub database: String,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u64,
    /// The secret, there, that says this address to services; none after a drill, which writes none.
    pub address_secret: Option<String>,
    /// The secret in which RDS keeps its master user's password.
    pub master_secret_arn: String,
    /// What it was restored from, as `dr restore` takes it: `snapshot:ID` or `at:TIME`.
    pub point: String,
    /// Everything that was committed until then is in it.
    pub holds_until: Timestamp,
    /// When the restore was begun.
    pub begun: Timestamp,
    /// What is lost, or may be.
    pub rpo: Rpo,
    /// How long it took; none if it had been restored before.
    pub rto: Option<Rto>,
    /// How much was to be looked at.
    pub verify: Depth,
    /// What was looked at, and how it was found.
    pub checked: Vec<String>,
    /// What was not looked at, each with the reason.
    pub not_checked: Vec<String>,
    /// Where the database differs from what was taken down when its snapshot was made.
    pub differs: Vec<String>,
    /// What is wrong with it by itself; it may have been before.
    pub wrong: Vec<String>,
    /// What was started for its address.
    pub readers: Vec<String>,
    /// Limits that were not kept.
    pub exceeded: Vec<String>,
}

/// What was looked at in a run, if anybody could.
pub(super) fn verified(record: &RunRecord) -> Option<Verified> {
    verification::recorded(outputs(record, VERIFICATION))
}

fn outputs<'r>(record: &'r RunRecord, step: &str) -> Option<&'r Outputs> {
    record.steps.iter().find(|(id, _)| id.as_str() == step).and_then(|(_, step)| step.outputs.as_ref())
}

/// How long it took.
#[derive(Clone, Debug, Serialize)]
pub struct Rto {
    /// From the first attempt to the end. How long the loss went unnoticed before is not in it.
    pub seconds: f64,
    /// Its parts, in order.
    pub phases: Vec<Phase>,
}

/// A number of seconds as people say it.
pub fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7200 => format!("{} min {} s", seconds / 60, seconds % 60),
        7200..172_800 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} days {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

impl Answer {
    /// Out of a run that ended well; `made` says whether it was this run that made the database.
    pub(super) fn of(
        environment: &Environment,
        record: &RunRecord,
        made: bool,
        journal: &str,
        limits: &DrLimits,
        source: Option<Source>,
    ) -> Result<Self, Failure> {
        let found = verified(record);
        let (drill, readers) = (source.is_some(), outputs(record, READERS));
        let trial = trial::recorded(outputs(record, TRIAL)).unwrap_or_default();
        let outputs = outputs(record, "database").ok_or_else(|| internal("the restore gave no outputs"))?;
        let text = |name: &str| outputs.get(name).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| internal(name));
        let holds_until: Timestamp = text("at")?.parse().map_err(|e: jiff::Error| internal("the restored moment").because(e))?;
        let begun = record.started.ok_or_else(|| internal("the journal has no beginning"))?;
        let phases = timeline::phases(journal);
        let end = record.ended.unwrap_or(begun);
        // A run that was resumed has made it too, although its last attempt found it made.
        let made = made || phases.iter().any(|phase| phase.name.starts_with("database: "));
        let rto = made.then(|| Rto { seconds: end.duration_since(begun).as_secs_f64(), phases });
        let region = &environment.aws.region;
        let rpo = Rpo::of(begun, holds_until, source, found.as_ref());
        let mut found = found.unwrap_or_else(|| Verified::nothing(limits.verify, "nobody has looked"));
        found.checked.extend(trial.checked);
        found.wrong.extend(trial.wrong);
        let mut not_checked = found.skipped;
        not_checked.extend(trial.skipped);
        not_checked.extend(not_tried(region, drill, readers));
        let mut answer = Self {
            environment: environment.name.clone(),
            run: record.header.run.clone(),
            lost_region: environment.aws.dr_region.clone(),
            region: region.clone(),
            database: text("identifier")?,
            host: text("host")?,
            port: outputs.get("port").and_then(Value::as_u64).ok_or_else(|| internal("port"))?,
            address_secret: record
                .steps
                .keys()
                .any(|id| id.as_str() == "endpoint")
                .then(|| environment.secrets.store.full_name(&environment.name, DATABASE_SECRET)),
            master_secret_arn: text("master_secret_arn")?,
            point: text("point")?,
            holds_until,
            begun,
            rpo,
            rto,
            verify: limits.verify,
            checked: found.checked,
            not_checked,
            differs: found.differs,
            wrong: found.wrong,
            readers: readers.map(|outputs| texts(outputs, "readers")).unwrap_or_default(),
            exceeded: Vec::new(),
        };
        answer.exceeded = answer.beyond(limits.max_rto, limits.max_rpo);
        Ok(answer)
    }

    fn beyond(&self, max_rto: Option<SignedDuration>, max_rpo: Option<SignedDuration>) -> Vec<String> {
        let mut exceeded = Vec::new();
        if let (Some(limit), Some(rto)) = (max_rto, &self.rto)
            && rto.seconds > limit.as_secs_f64()
        {
            exceeded.push(format!("it took {:.1} s, and --max-rto is {} s", rto.seconds, limit.as_secs()));
        }
        if let Some(limit) = max_rpo
            && self.rpo.seconds > limit.as_secs()
        {
            let lost = match self.rpo.bound {
                Bound::AtMost => format!("up to {} s may be lost", self.rpo.seconds),
                Bound::Exact => format!("{} s are lost", self.rpo.seconds),
            };
            exceeded.push(format!("{lost}, and --max-rpo is {} s", limit.as_secs()));
        }
        exceeded
    }

    /// Fails if a limit was not kept or something is wrong with the database. It is there all the same.
    pub fn within_limits(&self) -> Result<(), Failure> {
        let wrong: Vec<&String> = self.differs.iter().chain(&self.wrong).collect();
        let found = match wrong.as_slice() {
            [] => None,
            [only] => Some((*only).clone()),
            [first, rest @ ..] => Some(format!("{first} (and {} more)", rest.len())),
        };
        let all: Vec<String> = self.exceeded.iter().cloned().chain(found).collect();
        if all.is_empty() {
            return Ok(());
        }
        let mut failure = Failure::verification(format!("database {} is restored, but {}", self.database, all.join("; ")));
        failure.evidence = wrong.into_iter().cloned().collect();
        Err(failure)
    }

    pub(super) fn facts(&self) -> Vec<(&'static str, String)> {
        let rto = self.rto.as_ref().map_or_else(
            || "not measured: it had been restored before".to_owned(),
            |rto| format!("{:.1} s from the first attempt; how long the loss went unnoticed is not in it", rto.seconds),
        );
        let told = match &self.address_secret {
            Some(secret) => format!("also in the secret {secret} there"),
            None => "for the time of the drill".to_owned(),
        };
        let mut facts = vec![
            ("database", format!("{} in {}", self.database, self.region)),
            ("address", format!("{}:{}, {told}", self.host, self.port)),
            ("password", format!("in {}", self.master_secret_arn)),
            ("restored from", self.point.clone()),
            ("holds", format!("everything that was committed until {}", self.holds_until)),
            ("RPO", self.rpo.told(self.begun)),
            ("RTO", rto),
            ("verified", format!("--verify {}", self.verify)),
        ];
        facts.extend(self.checked.iter().map(|what| ("checked", what.clone())));
        facts.extend(self.readers.iter().map(|what| ("runs with it", what.clone())));
        facts.extend(self.differs.iter().map(|what| ("DIFFERS", what.clone())));
        facts.extend(self.wrong.iter().map(|what| ("WRONG", what.clone())));
        facts.extend(self.not_checked.iter().map(|what| ("not checked", what.clone())));
        facts.extend(self.exceeded.iter().map(|what| ("EXCEEDED", what.clone())));
        facts
    }

    pub(super) fn phases(&self) -> &[Phase] {
        self.rto.as_ref().map_or(&[], |rto| rto.phases.as_slice())
    }

    /// For the terminal.
    pub fn human(&self) -> String {
        let mut text = String::from("\n");
        for (name, fact) in self.facts() {
            text += &format!("  {name:>13}  {fact}\n");
        }
        for phase in self.phases() {
            text += &format!("  {:>13}    {}\n", took(millis(phase)), phase.name);
        }
        text
    }
}

/// What else nobody can say: how services get on with it.
fn not_tried(region: &Region, drill: bool, readers: Option<&Outputs>) -> Vec<String> {
    if drill {
        return vec!["whether services that run work with it: a drill says its address to nobody and restarts nothing".to_owned()];
    }
    let mut all = Vec::new();
    match readers.map(|outputs| (outputs.get("missing").and_then(Value::as_str), texts(outputs, "readers"))) {
        None => all.push("what reads its address: nobody has looked, and nothing was restarted".to_owned()),
        Some((Some(missing), _)) => all.push(format!("what reads its address, and nothing was restarted: {missing}")),
        Some((None, readers)) if readers.is_empty() => {
            all.push(format!("whether services that run work with it: nothing in {region} reads its address"))
        }
        Some(_) => {}
    }
    all.push(format!("a file through the whole system: deployctl makes no bucket and no queue in {region}"));
    all
}

fn texts(outputs: &Outputs, name: &str) -> Vec<String> {
    outputs.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

fn internal(what: &str) -> Failure {
    Failure::new(FailureKind::Internal, format!("the restore's report: {what}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn answer() -> Answer {
        let time = |second: u32| -> Timestamp { format!("2026-11-29T03:00:{second:02}Z").parse().unwrap() };
        let phase = |name: &str, from, to| Phase { name: name.to_owned(), from: time(from), to: time(to) };
        let phases = vec![phase("deciding", 0, 2), phase("nobody was at work", 2, 20), phase("database: <creating>", 20, 50)];
        Answer {
            environment: EnvironmentName::parse("sandbox").unwrap(),
            run: RunId::parse("0198f9c0-0000-7000-8000-000000000000").unwrap(),
            lost_region: Region::parse("us-east-1").unwrap(),
            region: Region::parse("eu-west-1").unwrap(),
            database: "deployctl-sandbox-20261129025955".into(),
            host: "db.example".into(),
            port: 5432,
            address_secret: Some("deployctl/sandbox/database".into()),
            master_secret_arn: "arn:aws:secretsmanager:eu-west-1:111122223333:secret:rds!db-1".into(),
            point: "at:2026-11-29T02:59:55Z".into(),
            holds_until: "2026-11-29T02:59:55Z".parse().unwrap(),
            begun: time(0),
            rpo: Rpo { bound: Bound::AtMost, seconds: 5, measured: None, not_exact: None },
            rto: Some(Rto { seconds: 50.0, phases }),
            verify: Depth::Quick,
            checked: vec!["3 indexes".into()],
            not_checked: vec!["what is inside".into()],
            differs: Vec::new(),
            wrong: Vec::new(),
            readers: Vec::new(),
            exceeded: Vec::new(),
        }
    }

    #[test]
    fn limits_are_held_against_what_was_measured() {
        let limit = SignedDuration::from_secs;
        assert_eq!(answer().beyond(Some(limit(50)), Some(limit(5))), Vec::<String>::new());
        assert_eq!(answer().beyond(Some(limit(49)), Some(limit(4))).len(), 2);
        let before = Answer { rto: None, ..answer() };
        assert_eq!(before.beyond(Some(limit(0)), None), Vec::<String>::new(), "what was not measured exceeds nothing");
        let failure = Answer { exceeded: vec!["x".into()], ..answer() }.within_limits().unwrap_err();
        assert_eq!(failure.kind.exit_code(), 16);
    }

    #[test]
    fn what_is_wrong_fails_with_everything_that_is() {
        let wrong = Answer { wrong: vec!["sequence s is behind".into(), "index i is broken".into()], ..answer() };
        let failure = wrong.within_limits().unwrap_err();
        assert_eq!((failure.kind.exit_code(), failure.evidence.len()), (16, 2));
        assert!(failure.message.ends_with("but sequence s is behind (and 1 more)"), "{}", failure.message);
        assert!(wrong.human().contains("WRONG") && wrong.html().contains("index i is broken") && wrong.markdown().contains("**WRONG**"));
    }

    #[test]
    fn the_report_says_the_same_everywhere_and_labels_its_bound() {
        let (human, markdown, html) = (answer().human(), answer().markdown(), answer().html());
        for text in [&human, &markdown, &html] {
            for said in
                ["deployctl-sandbox-20261129025955", "at most 5 s", "2026-11-29T02:59:55Z", "50.0 s", "not checked", "nobody was at work"]
            {
                assert!(text.contains(said), "{said}:\n{text}");
            }
        }
        assert_eq!(html.matches("<rect").count(), 3);
        assert!(html.contains("database: &lt;creating&gt;") && !html.contains("<creating>"), "{html}");
    }

    #[test]
    fn spans_are_said_in_the_units_that_matter() {
        assert_eq!([5, 130, 7260, 200_000].map(span), ["5 s", "2 min 10 s", "2 h 1 min", "2 days 7 h"].map(str::to_owned));
    }
}
