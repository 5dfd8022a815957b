//! Questions. Without a terminal there are none: the flag that answers them is named instead.
use dialoguer::{Confirm, Input};
use futures::{FutureExt, future::BoxFuture};

use super::{Presence, Ui};
use crate::{
    engine::run_step::Approve,
    failure::{Failure, FailureKind},
    ids::{EnvironmentName, StepId},
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
        let flag = format!("--confirm {environment}");
        let typed = match (typed, self.presence) {
            (Some(typed), _) => typed.to_owned(),
            (None, Presence::Nobody) => return Err(no_terminal(&flag)),
            (None, Presence::Person) => Input::<String>::new()
                .with_prompt(format!("Type the environment's name ({environment}) to do it"))
                .interact_text()
                .map_err(|error| declined().because(error))?,
        };
        if typed == environment.as_str() { Ok(()) } else { Err(declined().next(format!("confirm with the environment's name: {flag}"))) }
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
