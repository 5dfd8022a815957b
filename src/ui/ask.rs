//! Questions whose answer is a text. Without a terminal there are none: every flag that is missing is named at once.
use dialoguer::Input;

use super::{Presence, Ui};
use crate::failure::{Failure, FailureKind};

/// What a command wants to know.
#[derive(Clone, Debug)]
pub struct Question {
    /// As in `--region eu-west-1`.
    pub flag: &'static str,
    /// What a person reads.
    pub prompt: &'static str,
    /// What is taken if nothing else is said.
    pub default: Option<String>,
    /// What was given on the command line.
    pub given: Option<String>,
    /// Says what is wrong with an answer.
    pub check: fn(&str) -> Result<(), String>,
}

impl Ui {
    /// The answers in the order of the questions: from the command line, else from the person, else the defaults.
    pub fn ask(&self, questions: &[Question]) -> Result<Vec<String>, Failure> {
        let missing: Vec<&Question> = questions.iter().filter(|q| q.given.is_none() && q.default.is_none()).collect();
        if self.presence == Presence::Nobody && !missing.is_empty() {
            let failure = Failure::usage("there is no terminal to ask on; nothing was done");
            return Err(missing.iter().fold(failure, |failure, question| failure.next(format!("add {}", question.flag))));
        }
        questions.iter().map(|question| self.answer(question)).collect()
    }

    fn answer(&self, question: &Question) -> Result<String, Failure> {
        if let Some(given) = &question.given {
            let flag = question.flag.split(' ').next().unwrap_or_default();
            return (question.check)(given).map(|()| given.clone()).map_err(|wrong| Failure::usage(format!("{flag}: {wrong}")));
        }
        if let (Presence::Nobody, Some(default)) = (self.presence, &question.default) {
            return Ok(default.clone());
        }
        let check = question.check;
        let mut input = Input::<String>::new().with_prompt(question.prompt).validate_with(move |text: &String| check(text));
        if let Some(default) = &question.default {
            input = input.default(default.clone());
        }
        input.interact_text().map_err(|error| Failure::new(FailureKind::Interrupted, "not answered; nothing was done").because(error))
    }
}
