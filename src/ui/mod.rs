//! The only writers to the terminal: renderers of events, plans and failures. Data goes to standard output, everything else to standard error.
use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
};

use crate::{
    engine::event::Events,
    failure::{Failure, FailureKind},
    plan::render::Colour,
    redact,
};

pub mod ask;
pub mod confirm;
pub mod failure_text;
mod json_stream;
pub mod lines;
pub mod log;
mod progress;
pub mod report;

/// How data is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Human,
    /// One JSON document.
    Json,
}

/// How much is told besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Only failures.
    Quiet,
    /// What happens.
    Normal,
    /// And logs.
    Verbose,
}

/// Whether somebody sits at the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Questions can be asked.
    Person,
    /// They cannot.
    Nobody,
}

/// The terminal and what was asked of it.
#[derive(Clone, Debug)]
pub struct Ui {
    /// How data is written.
    pub output: Output,
    /// How much is told besides.
    pub verbosity: Verbosity,
    /// Whether colours are used on standard output.
    pub colour: Colour,
    /// Whether somebody can be asked.
    pub presence: Presence,
    /// Where the stream of events goes besides.
    pub json_into: Option<PathBuf>,
    /// What is drawn on the terminal; a question makes it pause.
    bars: indicatif::MultiProgress,
}

fn set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| !value.is_empty())
}

/// Whether the terminal wants no escapes: NO_COLOR (set and not empty), TERM=dumb.
fn plain_terminal() -> bool {
    set("NO_COLOR") || std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

impl Ui {
    /// What the terminal and the environment allow.
    pub fn new(output: Output, verbosity: Verbosity, colour: Option<Colour>, json_into: Option<PathBuf>) -> Self {
        let colour =
            colour.unwrap_or_else(|| if std::io::stdout().is_terminal() && !plain_terminal() { Colour::Ansi } else { Colour::Plain });
        let presence = if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() && !set("CI") {
            Presence::Person
        } else {
            Presence::Nobody
        };
        Self { output, verbosity, colour, presence, json_into, bars: indicatif::MultiProgress::new() }
    }
    /// Writes data to standard output. A reader that has gone away is no failure.
    pub fn data(&self, text: &str) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        match out.write_all(redact::mask(text).as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Failure::new(FailureKind::Internal, "standard output cannot be written").because(error))
            }
            _ => Ok(()),
        }
    }
    /// Writes one JSON document.
    pub fn json(&self, value: &impl serde::Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| Failure::new(FailureKind::Internal, "the result is not JSON").because(error))?;
        self.data(&(text + "\n"))
    }
    /// Writes Kubernetes objects: a list in JSON, or documents of YAML.
    pub fn objects(&self, objects: &[serde_json::Value]) -> Result<(), Failure> {
        if self.output == Output::Json {
            return self.json(&objects);
        }
        objects.iter().try_for_each(|object| {
            let text = serde_saphyr::to_string(object)
                .map_err(|error| Failure::new(FailureKind::Internal, "an object cannot be written as YAML").because(error))?;
            self.data(&format!("---\n{text}"))
        })
    }
    /// Tells something that is no data.
    pub fn note(&self, text: &str) {
        if self.verbosity > Verbosity::Quiet {
            to_stderr(text);
        }
    }
    /// Shows a failure, however quiet.
    pub fn failure(&self, failure: &Failure) {
        let colour = if std::io::stderr().is_terminal() { self.colour } else { Colour::Plain };
        to_stderr(&failure_text::render(failure, colour));
    }
    /// Starts to render events: bars on a terminal, lines elsewhere, and the stream if it was asked for.
    pub fn render(&self, events: &Events) -> Result<Renderers, Failure> {
        let mut renderers = Renderers::default();
        if let Some(path) = &self.json_into {
            renderers.add(events, json_stream::Stream::create(path)?);
        }
        if self.verbosity == Verbosity::Quiet {
            return Ok(renderers);
        }
        if std::io::stderr().is_terminal() && !plain_terminal() && !set("CI") {
            renderers.add(events, progress::Bars::new(self.bars.clone()));
        } else {
            renderers.add(events, lines::Lines);
        }
        Ok(renderers)
    }
}

/// Writes to standard error; where that is gone, nobody can be told.
pub fn to_stderr(text: &str) {
    let mut err = std::io::stderr().lock();
    drop(err.write_all(redact::mask(text).as_bytes()));
    if !text.ends_with('\n') {
        drop(err.write_all(b"\n"));
    }
}

/// Something that shows events as they come.
trait Renderer: Send + 'static {
    /// Shows one.
    fn show(&mut self, event: &crate::engine::event::Event) -> Result<(), Failure>;
    /// Says that some were missed: it was too slow.
    fn missed(&mut self, count: u64) -> Result<(), Failure>;
    /// The end.
    fn end(&mut self) {}
}

/// Renderers at work.
#[derive(Default)]
pub struct Renderers {
    stop: tokio_util::sync::CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<Result<(), Failure>>>,
}

impl Renderers {
    fn add(&mut self, events: &Events, mut renderer: impl Renderer) {
        use tokio::sync::broadcast::error::{RecvError, TryRecvError};
        let mut receiver = events.subscribe();
        let stop = self.stop.clone();
        self.tasks.push(tokio::spawn(async move {
            loop {
                tokio::select! {
                    received = receiver.recv() => match received {
                        Ok(event) => renderer.show(&event)?,
                        Err(RecvError::Lagged(count)) => renderer.missed(count)?,
                        Err(RecvError::Closed) => break,
                    },
                    () = stop.cancelled() => break,
                }
            }
            loop {
                match receiver.try_recv() {
                    Ok(event) => renderer.show(&event)?,
                    Err(TryRecvError::Lagged(count)) => renderer.missed(count)?,
                    Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                }
            }
            renderer.end();
            Ok(())
        }));
    }
    /// Shows what was emitted so far and stops. A stream that could not be written is a failure.
    pub async fn finish(self) -> Result<(), Failure> {
        self.stop.cancel();
        for task in self.tasks {
            task.await.map_err(|error| Failure::new(FailureKind::Internal, "a renderer of events died").because(error))??;
        }
        Ok(())
    }
}

/// Makes a panic a failure like any other: what, where, what next, and no secret.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.payload().downcast_ref::<String>().map(String::as_str).or_else(|| info.payload().downcast_ref::<&str>().copied());
        let place = info.location().map(|at| format!(" ({}:{})", at.file(), at.line())).unwrap_or_default();
        to_stderr(&format!(
            "error: deployctl itself is broken: {}{place}\n  next: report this line; the same command goes on from the journal",
            text.unwrap_or("no message")
        ));
    }));
}
