//! terraform: init once, one plan, one apply of exactly that plan; everything it says is read as JSON.
use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use self::{
    messages::{Apply, Message, Ui},
    plan_json::{PlanJson, StateJson},
};
use super::process::{Care, Ended, Program, Stream, Told};
use crate::{
    cache,
    failure::{Failure, FailureKind, LeftBehind},
};

pub mod diagnostics;
pub mod messages;
pub mod plan_json;

const INSTALL: &str = "terraform 1.11 or newer, from https://developer.hashicorp.com/terraform/install";
const INIT_DEADLINE: Duration = Duration::from_secs(15 * 60);
const PLAN_DEADLINE: Duration = Duration::from_secs(20 * 60);
const APPLY_DEADLINE: Duration = Duration::from_secs(120 * 60);
const SHOW_DEADLINE: Duration = Duration::from_secs(5 * 60);
/// What its S3 backend's log says of the lock that it asks for (terraform 1.11, internal/backend/remote-state/s3/logging.go).
const LOCK_ID: &str = "tf_backend.lock.id=";

/// Variables that would make terraform another identity than the one it is given.
const NOT_INHERITED: [&str; 8] = [
    "AWS_PROFILE",
    "AWS_ROLE_ARN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_SESSION_TOKEN",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_SECURITY_TOKEN",
];

/// Which way a plan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Towards the configuration.
    Forward,
    /// Towards nothing.
    Destroy,
    /// Nowhere: the state takes notice of what is there.
    Refresh,
}

/// terraform in one working directory.
#[derive(Clone, Debug)]
pub struct Terraform {
    /// Where the configuration was copied to.
    pub dir: PathBuf,
    /// Credentials and whatever else this child alone gets.
    pub env: Vec<(OsString, OsString)>,
    /// Everything that it prints, 0600; what `show -json` prints may be secret and does not go there.
    pub log: PathBuf,
    /// Where the process record of a running apply is.
    pub record: PathBuf,
    /// First Ctrl-C.
    pub cancel: CancellationToken,
}

/// The version of the terraform that PATH leads to.
pub async fn version() -> Result<String, Failure> {
    #[derive(serde::Deserialize)]
    struct Version {
        terraform_version: String,
    }
    let program = Program::new("terraform", INSTALL, Duration::from_secs(30)).args(["version", "-json"]);
    let (ended, out) = program.env([("CHECKPOINT_DISABLE".into(), "1".into())]).output().await?;
    let unreadable =
        || Failure::new(FailureKind::Preflight, format!("terraform version: {}", ended.how())).next(format!("install {INSTALL}"));
    let version: Version = serde_json::from_slice(&out).map_err(|e| unreadable().because(e))?;
    Ok(version.terraform_version)
}

/// Whether a version is 1.11 or newer: older ones have no S3 lock file and no write-only attributes.
pub fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(|n| n.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (1, 11)
}

impl Terraform {
    fn program(&self, deadline: Duration) -> Program {
        let mut fixed: Vec<(OsString, OsString)> = vec![
            ("TF_IN_AUTOMATION".into(), "1".into()),
            ("TF_INPUT".into(), "0".into()),
            ("CHECKPOINT_DISABLE".into(), "1".into()),
            // A workspace would put the state where nobody looks for it; the environment has its own bucket already.
            ("TF_WORKSPACE".into(), "default".into()),
        ];
        // It lives for seconds: a third of its time would go into collecting garbage of providers' schemas.
        if std::env::var_os("GOGC").is_none() {
            fixed.push(("GOGC".into(), "400".into()));
        }
        // Seconds between writes of the state during an apply: what a killed terraform forgets at most.
        if std::env::var_os("TF_STATE_PERSIST_INTERVAL").is_none() {
            fixed.push(("TF_STATE_PERSIST_INTERVAL".into(), "5".into()));
        }
        Program::new("terraform", INSTALL, deadline)
            .without(NOT_INHERITED)
            .env(fixed)
            .env(self.env.iter().cloned())
            .dir(&self.dir)
            .cancel(&self.cancel)
    }

    /// Fetches providers and modules and connects the backend; processes take turns when they share a plugin cache.
    pub async fn init(&self, backend: &Path) -> Result<(), Failure> {
        let _turn = plugin_cache_turn(&self.cancel).await?;
        let mut config = OsString::from("-backend-config=");
        config.push(backend);
        let program = self.program(INIT_DEADLINE).args(["init", "-json", "-input=false", "-reconfigure"]).arg(config).log(&self.log);
        let (ended, ui) = self.run(program, &mut |_| {}).await?;
        self.judge("init", &ended, &ui, LeftBehind::Nothing)
    }

    /// Plans into `out`. Changes nothing but that file.
    pub async fn plan(
        &self,
        direction: Direction,
        variables: &Path,
        out: &Path,
        on_message: &mut (dyn FnMut(&Message) + Send),
    ) -> Result<(), Failure> {
        self.plan_of(direction, &[], variables, out, on_message).await
    }

    /// The same for these addresses and what depends on them; for everything if there are none.
    pub async fn plan_of(
        &self,
        direction: Direction,
        targets: &[String],
        variables: &Path,
        out: &Path,
        on_message: &mut (dyn FnMut(&Message) + Send),
    ) -> Result<(), Failure> {
        // No lock: whoever applies this plan does so to the very state that it was made from, or is told that it is stale.
        let mut program = self.program(PLAN_DEADLINE).args(["plan", "-json", "-input=false", "-lock=false"]).log(&self.log);
        match direction {
            Direction::Forward => {}
            Direction::Destroy => program = program.arg("-destroy"),
            Direction::Refresh => program = program.arg("-refresh-only"),
        }
        let program = program.args(targets.iter().map(|target| format!("-target={target}")));
        let program = program.arg(joined("-var-file=", variables)).arg(joined("-out=", out));
        let (ended, ui) = self.run(program, on_message).await?;
        self.judge("plan", &ended, &ui, LeftBehind::Nothing)?;
        own_only(out)
    }

    /// Reads a plan file. Its values may be secret: they are neither logged nor shown.
    pub async fn show_plan(&self, plan: &Path) -> Result<PlanJson, Failure> {
        let (ended, out) = self.program(SHOW_DEADLINE).args(["show", "-json"]).arg(plan).output().await?;
        if !ended.succeeded() {
            return Err(ended.failure("terraform show"));
        }
        PlanJson::parse(&out)
    }

    /// Reads the state as it is in the backend.
    pub async fn show_state(&self) -> Result<StateJson, Failure> {
        let (ended, out) = self.program(SHOW_DEADLINE).args(["show", "-json"]).output().await?;
        if !ended.succeeded() {
            return Err(ended.failure("terraform show"));
        }
        StateJson::parse(&out)
    }

    /// Applies exactly this plan file. Told to stop once when cancelled, then waited for: it saves its state.
    pub async fn apply(&self, plan: &Path, on_message: &mut (dyn FnMut(&Message) + Send)) -> Result<Apply, Failure> {
        let program = self.program(APPLY_DEADLINE).args(["apply", "-json", "-input=false", "-lock-timeout=5s"]).arg(plan);
        let program = program.env(self.tells_its_locks()?).log(&self.log).care(Care::Guarded).record(&self.record);
        let (ended, ui) = self.run(program, on_message).await?;
        let left = ui.apply.left_behind();
        let judged = self.judge("apply", &ended, &ui, left);
        // terraform found no way to save its state and wrote it here; the cache is no place for the only copy.
        let errored = self.dir.join("errored.tfstate");
        if let Err(failure) = judged {
            return Err(if errored.exists() { self.keep_errored_state(&errored, failure) } else { failure });
        }
        Ok(ui.apply)
    }

    /// The ids of the locks that the last apply asked for, as its own log has them. Empty if it wrote none.
    pub fn locks_asked_for(&self) -> BTreeSet<String> {
        let said = std::fs::read_to_string(self.lock_log()).unwrap_or_default();
        let after = said.split(LOCK_ID).skip(1);
        after.filter_map(|text| text.split_whitespace().next()).map(|id| id.trim_matches('"').to_owned()).collect()
    }

    fn lock_log(&self) -> PathBuf {
        self.record.with_extension("locks.log")
    }

    /// Has terraform write which locks it asks for, at a level where it names what it does and no values. Somebody who sets these variables
    /// wants to see something else: then there is no such log.
    fn tells_its_locks(&self) -> Result<Vec<(OsString, OsString)>, Failure> {
        let log = self.lock_log();
        let failed = |e: std::io::Error| Failure::step(format!("could not write {}", log.display())).because(e);
        File::create(&log).map_err(failed)?;
        own_only(&log)?;
        let callers = ["TF_LOG", "TF_LOG_CORE", "TF_LOG_PATH"].into_iter().any(|name| std::env::var_os(name).is_some());
        let ours = || vec![("TF_LOG_CORE".into(), "INFO".into()), ("TF_LOG_PATH".into(), log.clone().into())];
        Ok(if callers { Vec::new() } else { ours() })
    }

    /// Takes one resource out of the state; what it stands for stays.
    pub async fn forget(&self, address: &str) -> Result<(), Failure> {
        self.change_state("state rm", &["state", "rm", "-lock-timeout=5s"], None, &[address]).await
    }

    /// Has it keep what an earlier one made and could not finish; what that lacks is an update then.
    pub async fn untaint(&self, address: &str) -> Result<(), Failure> {
        self.change_state("untaint", &["untaint", "-lock-timeout=5s"], None, &[address]).await
    }

    /// Takes what is there under this id into the state.
    pub async fn import(&self, variables: &Path, address: &str, id: &str) -> Result<(), Failure> {
        let args = ["import", "-input=false", "-no-color", "-lock-timeout=5s"];
        self.change_state("import", &args, Some(variables), &[address, id]).await
    }

    async fn change_state(&self, name: &str, args: &[&str], variables: Option<&Path>, what: &[&str]) -> Result<(), Failure> {
        let mut program = self.program(PLAN_DEADLINE).args(args.iter().copied());
        if let Some(variables) = variables {
            program = program.arg(joined("-var-file=", variables));
        }
        let (ended, _out) = program.args(what.iter().copied()).output().await?;
        if ended.succeeded() {
            return Ok(());
        }
        let left = LeftBehind::Unknown(format!("terraform {name} of {} may have written the state", what.join(" ")));
        Err(Failure::step(format!("terraform {name} {}: {}", what.join(" "), ended.how()))
            .evidence(ended.stderr_tail.join("\n"))
            .left(left))
    }

    fn keep_errored_state(&self, errored: &Path, failure: Failure) -> Failure {
        let kept = self.log.with_file_name("errored.tfstate");
        let place = match std::fs::copy(errored, &kept).and_then(|_| own_only(&kept).map_err(std::io::Error::other)) {
            Ok(()) => {
                // The copy is safe; the original would be taken for a later run's.
                if let Err(e) = std::fs::remove_file(errored) {
                    tracing::warn!(error = %e, "errored.tfstate could not be removed");
                }
                kept
            }
            Err(_) => errored.to_owned(),
        };
        failure
            .left(LeftBehind::Unknown(format!("the state could not be saved; what was made is recorded in {} only", place.display())))
            .next(format!("cd {} && terraform state push {}", self.dir.display(), place.display()))
    }

    async fn run(&self, program: Program, on_message: &mut (dyn FnMut(&Message) + Send)) -> Result<(Ended, Ui), Failure> {
        let mut ui = Ui::default();
        let ended = program
            .run(|stream, line| {
                if stream == Stream::Out
                    && let Some(message) = ui.take(line)
                {
                    on_message(&message);
                }
            })
            .await?;
        Ok((ended, ui))
    }

    fn judge(&self, command: &str, ended: &Ended, ui: &Ui, left: LeftBehind) -> Result<(), Failure> {
        let log = format!("read {}", self.log.display());
        match ended.told {
            Told::Nothing if ended.succeeded() => return Ok(()),
            // It had finished its work before it heard us.
            _ if ended.succeeded() && command == "apply" => return Ok(()),
            Told::Cancelled => {
                let message = format!("terraform {command} was interrupted and ended with {}; it had time to save its state", ended.how());
                return Err(Failure::new(FailureKind::Interrupted, message).left(left).next("run the same command again").next(log));
            }
            Told::Deadline => {
                return Err(Failure::new(FailureKind::Timeout, format!("terraform {command} took too long")).left(left).next(log));
            }
            Told::Nothing => {}
        }
        if let Some(signal) = ended.signal {
            return Err(Failure::step(format!("terraform {command} was ended by signal {signal}"))
                .left(LeftBehind::Unknown("its lock may still be held and its last changes missing from the state".into()))
                .next(log));
        }
        Err(diagnostics::failure(command, ended, ui, &self.dir).left(left).next(log))
    }
}

fn joined(flag: &str, path: &Path) -> OsString {
    let mut text = OsString::from(flag);
    text.push(path);
    text
}

fn own_only(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;
    let set = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600));
    set.map_err(|e| Failure::step(format!("could not protect {}", path.display())).because(e))
}

/// TF_PLUGIN_CACHE_DIR is not safe for two processes at once (terraform#32028).
async fn plugin_cache_turn(cancel: &CancellationToken) -> Result<Option<File>, Failure> {
    let Some(dir) = std::env::var_os("TF_PLUGIN_CACHE_DIR").filter(|dir| !dir.is_empty()) else { return Ok(None) };
    let path = Path::new(&dir).join(".deployctl.lock");
    cache::turn(&path, "terraform init", INIT_DEADLINE, cancel).await.map(Some)
}

#[cfg(test)]
mod tests {
    use super::is_new_enough;

    #[test]
    fn versions_compare_as_numbers() {
        assert!(is_new_enough("1.11.4") && is_new_enough("1.12.0-beta1") && is_new_enough("2.0.0"));
        assert!(!is_new_enough("1.9.8") && !is_new_enough("1.10.5") && !is_new_enough("nonsense"));
    }
}
