//! Runs a program of the machine to its end, within a deadline, and keeps what it said for the error.
use std::{ffi::OsStr, path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use tokio::{process::Command, time::timeout};

/// Long enough for anything that only talks to the kernel.
pub const SHORT: Duration = Duration::from_secs(20);

/// Runs a program and returns what it printed.
pub async fn output<A: AsRef<OsStr>>(program: impl AsRef<Path>, args: impl IntoIterator<Item = A>, deadline: Duration) -> Result<String> {
    let program = program.as_ref();
    let mut command = Command::new(program);
    command.args(args);
    output_of(command, deadline).await
}

/// The same for a command that was prepared by the caller.
pub async fn output_of(mut command: Command, deadline: Duration) -> Result<String> {
    let shown = shown(&command);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let done = timeout(deadline, command.output())
        .await
        .with_context(|| format!("`{shown}` took longer than {deadline:?}"))?
        .with_context(|| format!("starting `{shown}`"))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        let said = if said.trim().is_empty() { String::from_utf8_lossy(&done.stdout) } else { said };
        bail!("`{shown}` ended with {}: {}", done.status, last_lines(&said, 8));
    }
    String::from_utf8(done.stdout).with_context(|| format!("`{shown}` printed something that is not text"))
}

/// Whether a program is to be found on PATH, and where.
pub fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    let sbin = ["/usr/sbin", "/sbin", "/usr/local/go/bin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(sbin).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// The end of a text, for errors.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

fn shown(command: &Command) -> String {
    let command = command.as_std();
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}
