//! The real world of adoption: terraform in a copy of its directory, and AWS.
use std::{path::PathBuf, time::Duration};

use tokio::time::Instant;

use super::{Attempt, PAUSE, Planned, Seen, Taken, World, search, table::How};
use crate::{
    failure::{Failure, FailureKind},
    steps::{
        StepContext,
        terraform::workspace::{Workspace, write_own},
    },
    tools::terraform::{Direction, Terraform, messages::Message},
};

/// AWS makes a database with a standby in half an hour.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// terraform and AWS.
pub(in super::super) struct Live<'a> {
    cx: &'a StepContext,
    /// In a copy: import blocks must not meet another run's plan.
    pub terraform: Terraform,
    /// The original: it stays.
    dir: PathBuf,
    variables: PathBuf,
    /// The plan file.
    pub file: PathBuf,
    /// The record of a terraform that was killed.
    killed: Option<PathBuf>,
    waiting_since: Option<Instant>,
}

impl<'a> Live<'a> {
    /// Copies the prepared directory.
    pub fn beside(cx: &'a StepContext, workspace: &Workspace, killed: Option<PathBuf>) -> Result<Self, Failure> {
        let terraform = workspace.copy_into(&cx.scratch.join("adopt"))?;
        let file = cx.scratch.join("plan.tfplan");
        Ok(Self { cx, terraform, dir: workspace.dir.clone(), variables: workspace.variables.clone(), file, killed, waiting_since: None })
    }
}

impl World for Live<'_> {
    async fn plan(&mut self, taken: &Taken) -> Result<Attempt, Failure> {
        write_own(&self.terraform.dir.join("deployctl_adopt.tf"), blocks(taken).as_bytes())?;
        let mut errors = Vec::new();
        let mut collect = |message: &Message| {
            if let Message::Diagnostic { diagnostic } = message
                && diagnostic.severity == "error"
            {
                errors.push(diagnostic.clone());
            }
        };
        match self.terraform.plan(Direction::Forward, &self.variables, &self.file, &mut collect).await {
            Ok(()) => Ok(Attempt::Planned(Box::new(self.terraform.show_plan(&self.file).await?))),
            Err(failure) if failure.kind == FailureKind::Step && !errors.is_empty() => Ok(Attempt::Refused(failure, errors)),
            Err(failure) => Err(failure),
        }
    }

    async fn search(&self, how: &How, planned: Planned<'_>) -> Result<Seen, Failure> {
        search::search(&self.cx.aws, how, planned).await
    }

    fn say(&self, what: String) {
        self.cx.progress(what);
    }

    async fn pause(&mut self, what: &str) -> Result<(), Failure> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= LONGEST {
            return Err(Failure::timeout(what, LONGEST).next("run the same command again: nothing was changed"));
        }
        let until = Instant::now() + PAUSE;
        self.cx.progress(format!("an interrupted apply began it, AWS makes it still: waiting for {what}"));
        tokio::select! {
            () = self.cx.cancel.cancelled() => Err(Failure::new(FailureKind::Interrupted, format!("interrupted while waiting for {what}"))),
            () = tokio::time::sleep_until(until) => Ok(()),
        }
    }

    fn import_command(&self, address: &str, id: &str) -> String {
        format!(
            "with the deployer role's credentials: terraform -chdir={} import -var-file={} '{address}' '{id}'",
            self.dir.display(),
            self.variables.display()
        )
    }

    fn if_not_there(&self) -> Option<String> {
        self.killed.as_ref().map(|record| format!("rm {}", record.display()))
    }

    fn place(&self) -> (&str, &str) {
        (self.cx.aws.account().as_str(), self.cx.aws.region().as_str())
    }
}

/// Import blocks; a `${` in an id would be read as an expression.
fn blocks(taken: &Taken) -> String {
    let block = |(address, id): (&String, &String)| {
        let id = id.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "$${").replace("%{", "%%{");
        format!("import {{\n  to = {address}\n  id = \"{id}\"\n}}\n")
    };
    taken.iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_texts_and_never_expressions() {
        let taken = Taken::from([("a.b[\"k\"]".to_owned(), "x\"${y}".to_owned())]);
        assert_eq!(blocks(&taken), "import {\n  to = a.b[\"k\"]\n  id = \"x\\\"$${y}\"\n}\n");
    }
}
