//! Questions. Without a terminal there are none: the flag that answers them is named instead.
use dialoguer::{Confirm, Input};
use futures::{FutureExt, future::BoxFuture};

use super::{Presence, Ui};
use crate::{
    engine::run_step::Approve,
    failure::{Failure, FailureKind},
    ids::{BucketName, EnvironmentName, StepId},
    redact,
    steps::Change,
};

/// Whether the question was answered on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// `--yes`.
    Given,
    /// To be asked for.
    Ask,
}

fn declined() -> Failure {
    Failure::new(FailureKind::Usage, "not confirmed; nothing was done")
}

fn no_terminal(flag: &str) -> Failure {
    Failure::usage("there is no terminal to ask on; nothing was done").next(format!("add {flag}"))
}

impl Ui {
    /// Asks for a yes.
    pub fn confirm(&self, question: &str, consent: Consent) -> Result<(), Failure> {
        match (consent, self.presence) {
            (Consent::Given, _) => Ok(()),
            (Consent::Ask, Presence::Nobody) => {
                Err(no_terminal("--yes, or apply a saved plan (deployctl plan --out FILE; deployctl apply FILE)"))
            }
            (Consent::Ask, Presence::Person) => match Confirm::new().with_prompt(question).default(false).interact() {
                Ok(true) => Ok(()),
                Ok(false) => Err(declined()),
                Err(error) => Err(declined().because(error)),
            },
        }
    }
    /// Asks for the environment's name, letter by letter: for what cannot be taken back.
    pub fn confirm_name(&self, environment: &EnvironmentName, typed: Option<&str>) -> Result<(), Failure> {
        let prompt = format!("Type the environment's name ({environment}) to do it");
        self.confirm_typed(&prompt, environment.as_str(), typed, &format!("--confirm {environment}"))
    }
    /// Asks for the name of the bucket whose objects are about to go for good.
    pub fn confirm_data(&self, bucket: &BucketName, typed: Option<&str>) -> Result<(), Failure> {
        let prompt =
            format!("Every version of every object, every backup and every key goes for good. Type the bucket's name ({bucket}) to do it");
        self.confirm_typed(&prompt, bucket.as_str(), typed, &format!("--confirm-data {bucket}"))
    }
    fn confirm_typed(&self, prompt: &str, wanted: &str, typed: Option<&str>, flag: &str) -> Result<(), Failure> {
        let typed = match (typed, self.presence) {
            (Some(typed), _) => typed.to_owned(),
            (None, Presence::Nobody) => return Err(no_terminal(flag)),
            (None, Presence::Person) => {
                Input::<String>::new().with_prompt(prompt).interact_text().map_err(|error| declined().because(error))?
            }
        };
        if typed == wanted { Ok(()) } else { Err(declined().next(format!("confirm with the name: {flag}"))) }
    }
}

/// Asks the person at the terminal, if there is one, whether a step may do more than was shown. `--yes` is no answer to that.
pub struct AskAtTerminal {
    presence: Presence,
    bars: indicatif::MultiProgress,
}

impl Ui {
    /// Whoever can say yes to more than was shown.
    pub fn approver(&self) -> AskAtTerminal {
        AskAtTerminal { presence: self.presence, bars: self.bars.clone() }
    }
}

impl Approve for AskAtTerminal {
    fn approve<'a>(&'a self, step: &'a StepId, beyond: &'a [Change]) -> BoxFuture<'a, bool> {
        if self.presence == Presence::Nobody {
            return futures::future::ready(false).boxed();
        }
        let list: String = beyond.iter().map(|change| format!("\n  {} {} {}", change.action, change.resource, change.name)).collect();
        let question = redact::mask(&format!("Step {step} would do more than the plan showed:{list}\nAllow it?"));
        let bars = self.bars.clone();
        async move {
            // The question blocks and stops the drawing, not the other steps.
            let ask = move || bars.suspend(|| Confirm::new().with_prompt(question).default(false).interact());
            let answer = tokio::task::spawn_blocking(ask).await;
            matches!(answer, Ok(Ok(true)))
        }
        .boxed()
    }
}
