//! The daemon's control socket: one JSON line asks, one JSON line answers.
use std::{fs, io, time::Duration};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    time::timeout,
};

use crate::{layout::Layout, process::ProcessStatus};

/// What the daemon can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// How everything is.
    Status,
    /// End all processes, then yourself.
    Stop,
}

/// How far the daemon is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "reason")]
pub enum Stage {
    /// Parts are being started.
    Starting,
    /// Everything that should run was started.
    Up,
    /// Something could not be started.
    Failed(String),
    /// It was told to stop.
    Stopping,
}

/// How everything is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The sandbox's name.
    pub name: String,
    /// The daemon's process id.
    pub pid: u32,
    /// How far the daemon is.
    pub stage: Stage,
    /// Since when.
    pub since: Timestamp,
    /// Its processes.
    pub processes: Vec<ProcessStatus>,
    /// Add-ons that a stand-in or nothing stands behind, with what or why.
    pub notes: Vec<(String, String)>,
}

/// Listens; an old socket, whose daemon is dead, is replaced.
pub fn listen(layout: &Layout) -> Result<UnixListener> {
    let path = layout.control_socket();
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(|| format!("removing {}", path.display())),
        _ => {}
    }
    let listener = UnixListener::bind(&path).with_context(|| format!("listening on {}", path.display()))?;
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// Reads one question and answers it.
pub async fn answer(stream: UnixStream, status: impl FnOnce(Request) -> Status) -> Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    timeout(Duration::from_secs(5), BufReader::new(reader).read_line(&mut line))
        .await
        .context("waiting for a question on the control socket")??;
    let mut text = serde_json::to_vec(&status(serde_json::from_str(&line)?))?;
    text.push(b'\n');
    writer.write_all(&text).await?;
    Ok(())
}

/// Asks the daemon; an error when it does not run or does not answer.
pub async fn ask(layout: &Layout, request: Request) -> Result<Status> {
    let exchange = async {
        let path = layout.control_socket();
        let mut stream = UnixStream::connect(&path).await.with_context(|| format!("connecting to {}", path.display()))?;
        let mut text = serde_json::to_vec(&request)?;
        text.push(b'\n');
        stream.write_all(&text).await?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await?;
        if line.is_empty() {
            bail!("the daemon closed the connection without an answer");
        }
        Ok(serde_json::from_str(&line)?)
    };
    timeout(Duration::from_secs(5), exchange).await.context("the daemon did not answer within 5 s")?
}
