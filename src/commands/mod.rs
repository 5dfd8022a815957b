//! One file a command: arguments to library calls to what is shown. Here: which command, and with which exit code it ends.
use std::{ffi::OsString, panic::AssertUnwindSafe};

use clap::{CommandFactory, Parser, error::ErrorKind};

use crate::{
    cli::{Cli, Command, Globals, SecretCommand},
    failure::{Failure, FailureKind, exit},
    plan::render::Colour,
    redact,
    ui::{self, Ui, Verbosity},
    waiting,
};

mod apply;
mod capacity;
mod certificates;
mod chart;
mod db;
mod destroy;
pub mod doctor;
mod dr;
mod elsewhere;
mod history;
mod image;
mod init;
mod lock;
mod permissions;
mod plan;
mod render;
mod schema;
pub mod secret;
mod session;
mod smoke;
mod status;

/// Runs what was typed and gives the exit code.
pub fn run(args: impl IntoIterator<Item = OsString>) -> u8 {
    ui::install_panic_hook();
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => return not_parsed(&error),
    };
    for name in redact::SECRET_VARIABLES {
        // Real ones are long; a short one, as emulators use, would mask ordinary words.
        if let Some(secret) = std::env::var(name).ok().filter(|secret| secret.len() >= 16) {
            redact::register(&secret);
        }
    }
    let ui = ui_of(&cli.globals);
    ui::log::start(ui.verbosity);
    // The panic hook has told about it; the exit code must still be one that we document.
    match std::panic::catch_unwind(AssertUnwindSafe(|| dispatch(cli.command, &cli.globals, &ui))) {
        Ok(Ok(code)) => code,
        Ok(Err(failure)) => {
            let failure = named(failure, &cli.globals);
            ui.failure(&failure);
            failure.kind.exit_code()
        }
        Err(_) => exit::FAILURE,
    }
}

/// The failure's next commands with the environment that this one was about, where it can be told.
fn named(failure: Failure, globals: &Globals) -> Failure {
    match session::project(globals).and_then(|project| session::environment(globals, &project)) {
        Ok(environment) => failure.in_environment(&environment),
        // A saved plan has named it already; elsewhere its absence is what failed.
        Err(_) => failure,
    }
}

fn ui_of(globals: &Globals) -> Ui {
    let verbosity = match (globals.quiet, globals.verbose) {
        (true, _) => Verbosity::Quiet,
        (_, true) => Verbosity::Verbose,
        _ => Verbosity::Normal,
    };
    Ui::new(globals.output, verbosity, globals.no_color.then_some(Colour::Plain), globals.json_into.clone())
}

/// clap's own exit code 2 means "there are changes" here, so usage errors get another one.
fn not_parsed(error: &clap::Error) -> u8 {
    let text = error.render().to_string();
    let ui = Ui::new(ui::Output::Human, Verbosity::Normal, Some(Colour::Plain), None);
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match ui.data(&text) {
            Ok(()) => exit::DONE,
            Err(failure) => failure.kind.exit_code(),
        },
        _ => {
            ui::to_stderr(&text);
            exit::USAGE
        }
    }
}

fn dispatch(command: Command, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let run = match command {
        // These need no runtime, no credentials and no project.
        Command::Version => return ui.data(&format!("deployctl {}\n", env!("CARGO_PKG_VERSION"))).map(|()| exit::DONE),
        Command::Man => return man(ui),
        Command::Completions(args) => return completions(args.shell, ui),
        Command::Schema(args) => return schema::run(args.of, ui),
        Command::Init(args) => return init::run(args, globals, ui),
        Command::Sandbox(args) => return Err(crate::tools::sandbox::become_sandbox(&args.args)),
        Command::Status(args) if args.offline => return status::show(&args, globals, ui),
        Command::History(args) if args.offline => return history::show(&args, globals, ui),
        other => other,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(FailureKind::Internal, "cannot start").because(error))?;
    // Steps speak for themselves; this is for what comes before and between them, and for commands without any.
    let note = |what: &str| ui.note(what);
    runtime.block_on(waiting::noted(note, async {
        match run {
            Command::Plan(args) => plan::run(args, globals, ui).await,
            Command::Apply(args) => apply::run(args, globals, ui).await,
            Command::Status(args) => status::run(&args, globals, ui).await,
            Command::History(args) => history::run(&args, globals, ui).await,
            Command::Render(args) => render::run(args, globals, ui).await,
            Command::Db(command) => db::run(command, globals, ui).await,
            Command::Dr(command) => dr::run(command, globals, ui).await,
            Command::Chart(command) => chart::run(command, globals, ui).await,
            Command::Image(command) => image::run(command, globals, ui).await,
            Command::Secret(SecretCommand::Set(args)) => secret::run(args, globals, ui).await,
            Command::Lock(command) => lock::run(command, globals, ui).await,
            Command::Doctor => doctor::show(globals, ui).await,
            Command::Agent(command) => crate::agent::run(&command).await.map(|()| exit::DONE),
            Command::Smoke => smoke::run(globals, ui).await,
            Command::Destroy(args) => destroy::run(args, globals, ui).await,
            // Handled above, without a runtime.
            _ => Ok(exit::DONE),
        }
    }))
}

fn man(ui: &Ui) -> Result<u8, Failure> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command())
        .render(&mut page)
        .map_err(|error| Failure::new(FailureKind::Internal, "the manual page cannot be made").because(error))?;
    ui.data(&String::from_utf8_lossy(&page)).map(|()| exit::DONE)
}

fn completions(shell: clap_complete::Shell, ui: &Ui) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "deployctl", &mut script);
    ui.data(&String::from_utf8_lossy(&script)).map(|()| exit::DONE)
}
