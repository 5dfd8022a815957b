//! `status` and `logs`.
use std::{
    fs::File,
    io::{self, Read as _, Seek as _},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;

use crate::{
    claim,
    cli::{LogsArgs, Output},
    control::{self, Request, Stage, Status},
    report,
    up::word,
};

/// Prints how everything is.
pub async fn status(name: &str, output: Output) -> Result<()> {
    let layout = claim::existing(name)?;
    let asked = control::ask(&layout, Request::Status).await;
    let status = asked.with_context(|| format!("sandbox {name} has no daemon that answers; next: deployctl-sandbox up --name {name}"))?;
    match output {
        Output::Json => report::data(&serde_json::to_string_pretty(&status)?)?,
        Output::Table => table(&status).iter().try_for_each(|line| report::data(line))?,
    }
    Ok(())
}

fn table(status: &Status) -> Vec<String> {
    let stage = match &status.stage {
        Stage::Starting => "starting".to_owned(),
        Stage::Up => "up".to_owned(),
        Stage::Stopping => "stopping".to_owned(),
        Stage::Failed(reason) => format!("failed: {reason}"),
    };
    let mut lines = vec![format!("{:<28} {:<11} {:>8} {:>9}  {}", "PART", "STATE", "PID", "SINCE", "NOTE")];
    lines.push(format!("{:<28} {:<11} {:>8} {:>9}", "daemon", stage, status.pid, ago(status.since)));
    for process in &status.processes {
        let pid = process.pid.map(|pid| pid.to_string()).unwrap_or_default();
        let note = match (&process.last_exit, process.restarts) {
            (Some(exit), restarts) if restarts > 0 => format!("restarted {restarts} times, last after: {exit}"),
            _ => String::new(),
        };
        lines.push(
            format!("{:<28} {:<11} {:>8} {:>9}  {note}", process.name, word(process.phase), pid, ago(process.since)).trim_end().to_owned(),
        );
    }
    lines.extend(status.notes.iter().map(|(name, note)| format!("{:<28} {note}", format!("add-on {name}"))));
    lines
}

fn ago(since: Timestamp) -> String {
    let seconds = Timestamp::now().duration_since(since).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

/// Prints a log, and what is added to it if asked.
pub async fn logs(name: &str, args: &LogsArgs) -> Result<()> {
    let layout = claim::existing(name)?;
    if args.part.contains('/') || args.part.starts_with('.') {
        bail!("{} is not the name of a part; next: deployctl-sandbox status --name {name}", args.part);
    }
    let path = layout.log(&args.part);
    let mut file = File::open(&path)
        .with_context(|| format!("{} has no log {}; next: deployctl-sandbox status --name {name}", args.part, path.display()))?;
    let mut at = 0;
    loop {
        file.seek(io::SeekFrom::Start(at))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        at += text.len() as u64;
        io::Write::write_all(&mut io::stdout().lock(), &text)?;
        if !args.follow {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
