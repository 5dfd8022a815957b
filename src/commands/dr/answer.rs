//! What a restore came to: how long it took, what may be lost, what was checked and what was not. For the terminal, as JSON, and as a file.
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;

use crate::{
    cli::DrLimits,
    engine::{
        journal::RunRecord,
        timeline::{self, Phase},
    },
    failure::{Failure, FailureKind},
    ids::{EnvironmentName, Region, RunId},
    plan::{definition::DATABASE_SECRET, environment::Environment},
    ui::lines::took,
};

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
    /// What may be lost.
    pub rpo: Rpo,
    /// How long it took; none if it had been restored before.
    pub rto: Option<Rto>,
    /// What was not looked at, each with the reason.
    pub not_checked: Vec<String>,
    /// Limits that were not kept.
    pub exceeded: Vec<String>,
}

/// What may be lost.
#[derive(Clone, Debug, Serialize)]
pub struct Rpo {
    /// Always `at-most`: the lost region cannot be asked for its last commit.
    pub bound: &'static str,
    /// From the recovery point to the restore's beginning.
    pub seconds: i64,
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
    pub fn of(environment: &Environment, record: &RunRecord, made: bool, journal: &str, limits: &DrLimits) -> Result<Self, Failure> {
        let outputs = record.steps.iter().find(|(id, _)| id.as_str() == "database").and_then(|(_, step)| step.outputs.clone());
        let outputs = outputs.ok_or_else(|| internal("the restore gave no outputs"))?;
        let text = |name: &str| outputs.get(name).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| internal(name));
        let holds_until: Timestamp = text("at")?.parse().map_err(|e: jiff::Error| internal("the restored moment").because(e))?;
        let begun = record.started.ok_or_else(|| internal("the journal has no beginning"))?;
        let phases = timeline::phases(journal);
        let end = record.ended.unwrap_or(begun);
        // A run that was resumed has made it too, although its last attempt found it made.
        let made = made || phases.iter().any(|phase| phase.name.starts_with("database: "));
        let rto = made.then(|| Rto { seconds: end.duration_since(begun).as_secs_f64(), phases });
        let region = &environment.aws.region;
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
            rpo: Rpo { bound: "at-most", seconds: begun.duration_since(holds_until).as_secs() },
            rto,
            not_checked: vec![
                format!("what is inside the database (schema, rows, indexes): no cluster is prepared in {region} whose Job could look"),
                format!("whether services work with it, and nothing was restarted: none runs in {region}"),
            ],
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
            exceeded.push(format!("up to {} s may be lost, and --max-rpo is {} s", self.rpo.seconds, limit.as_secs()));
        }
        exceeded
    }

    /// Fails if a limit was not kept. The database is there all the same.
    pub fn within_limits(&self) -> Result<(), Failure> {
        if self.exceeded.is_empty() {
            return Ok(());
        }
        Err(Failure::verification(format!("database {} is restored, but {}", self.database, self.exceeded.join("; "))))
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
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
            ("RPO", format!("at most {}: from then to the restore's beginning at {}", span(self.rpo.seconds), self.begun)),
            ("RTO", rto),
        ];
        facts.extend(self.not_checked.iter().map(|what| ("not checked", what.clone())));
        facts.extend(self.exceeded.iter().map(|what| ("EXCEEDED", what.clone())));
        facts
    }

    fn phases(&self) -> &[Phase] {
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

    fn markdown(&self) -> String {
        let mut text = format!("# {} restored in {}\n\nRun {}, begun {}.\n\n", self.environment, self.region, self.run, self.begun);
        for (name, fact) in self.facts() {
            text += &format!("- **{name}**: {fact}\n");
        }
        if !self.phases().is_empty() {
            text += "\n| from | took | what |\n|---|---|---|\n";
        }
        for phase in self.phases() {
            text += &format!("| {} | {} | {} |\n", phase.from, took(millis(phase)), phase.name);
        }
        text
    }

    fn html(&self) -> String {
        let facts: String = self.facts().iter().map(|(name, fact)| format!("<dt>{name}</dt><dd>{}</dd>\n", escaped(fact))).collect();
        let title = format!("{} restored in {}", self.environment, self.region);
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n<style>body{{font:15px/1.5 system-ui,sans-serif;\
             max-width:60em;margin:2em auto;padding:0 1em}}dt{{font-weight:600}}dd{{margin:0 0 .5em 1em;overflow-wrap:anywhere}}</style></head>\n\
             <body><h1>{title}</h1>\n<p>Run {}, begun {}.</p>\n<dl>\n{facts}</dl>\n{}</body></html>\n",
            self.run,
            self.begun,
            self.picture()
        )
    }

    /// The timeline: a bar a phase, in seconds from the beginning.
    fn picture(&self) -> String {
        let (Some(first), Some(last)) = (self.phases().first(), self.phases().last()) else { return String::new() };
        let (width, row, label) = (900.0, 26, 330.0);
        let whole = last.to.duration_since(first.from).as_secs_f64().max(0.001);
        let scale = (width - label - 90.0) / whole;
        let mut rows = String::new();
        for (at, phase) in self.phases().iter().enumerate() {
            let (top, middle) = (at * row + 4, at * row + 18);
            let from = label + phase.from.duration_since(first.from).as_secs_f64() * scale;
            let length = (phase.took().as_secs_f64() * scale).max(1.5);
            let colour = if phase.name.starts_with("nobody") { "#b0b0b0" } else { "#2f6fab" };
            rows += &format!(
                "<text x=\"{:.1}\" y=\"{middle}\" text-anchor=\"end\">{}</text><rect x=\"{from:.1}\" y=\"{top}\" width=\"{length:.1}\" \
                 height=\"18\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{middle}\">{}</text>\n",
                label - 10.0,
                escaped(&phase.name),
                from + length + 6.0,
                took(millis(phase))
            );
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" aria-label=\"timeline\" viewBox=\"0 0 {width} {}\" font-size=\"13\" \
             font-family=\"system-ui,sans-serif\">\n{rows}</svg>\n",
            self.phases().len() * row + 8
        )
    }

    /// Writes report.md and report.html.
    pub fn write(&self, folder: &Path) -> Result<[PathBuf; 2], Failure> {
        let files = [("report.md", self.markdown()), ("report.html", self.html())];
        let unwritable = |error: std::io::Error| {
            Failure::step(format!("the database {} is restored, but its report cannot be written into {}", self.database, folder.display()))
                .because(error)
        };
        std::fs::create_dir_all(folder).map_err(unwritable)?;
        for (name, text) in &files {
            std::fs::write(folder.join(name), text).map_err(unwritable)?;
        }
        Ok(files.map(|(name, _)| folder.join(name)))
    }
}

fn internal(what: &str) -> Failure {
    Failure::new(FailureKind::Internal, format!("the restore's report: {what}"))
}

fn millis(phase: &Phase) -> u64 {
    u64::try_from(phase.took().as_millis()).unwrap_or(u64::MAX)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
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
            rpo: Rpo { bound: "at-most", seconds: 5 },
            rto: Some(Rto { seconds: 50.0, phases }),
            not_checked: vec!["what is inside".into()],
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
