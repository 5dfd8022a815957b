//! A working copy of one stack in which terraform finds providers and modules offline.
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Outcome, installed};

/// Providers and the versions that the offline ones go by.
const PROVIDERS: [(&str, &str); 5] = [("aws", "6.62.0"), ("tls", "4.1.0"), ("time", "0.13.0"), ("null", "3.2.4"), ("cloudinit", "2.3.7")];

/// The checkout.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A module as terraform's own list of installed modules has it. Terraform asks no registry for what is in that list.
pub struct Module {
    /// Its path in the configuration, as in `eks.kms`.
    pub key: String,
    /// Its name in the public registry, as in `vpc`.
    pub name: String,
    /// The version that it passes for.
    pub version: String,
    /// Where it is.
    pub folder: PathBuf,
}

/// What terraform said.
pub struct Said {
    /// Whether it succeeded.
    pub succeeded: bool,
    /// Standard output, then standard error.
    pub text: String,
}

/// A working copy, removed when it is dropped.
pub struct Workspace {
    stack: PathBuf,
    /// Holds it.
    _folder: TempDir,
}

impl Workspace {
    /// Copies `stack` and initializes it with `modules`.
    pub fn of(stack: &Path, modules: &[Module]) -> Outcome<Self> {
        let folder = TempDir::new()?;
        let workspace = Self { stack: folder.path().join("stack"), _folder: folder };
        copy(stack, workspace.path())?;
        // Where the stack bootstrap looks for them.
        copy(&project().join("terraform/policies"), &workspace.path().with_file_name("policies"))?;
        workspace.install(modules)?;
        fs::write(workspace.path().join("cli.tfrc"), cli_configuration(mirror()?))?;
        let said = workspace.terraform(&["init", "-backend=false", "-input=false", "-no-color"])?;
        if said.succeeded { Ok(workspace) } else { Err(format!("terraform init in {}: {}", stack.display(), said.text).into()) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.stack
    }

    /// Runs terraform in it, without anything that the caller's environment tells terraform.
    pub fn terraform(&self, arguments: &[&str]) -> Outcome<Said> {
        let mut command = Command::new(installed::terraform());
        command.args(arguments).current_dir(self.path());
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TF_")) {
            command.env_remove(name);
        }
        command.env("TF_CLI_CONFIG_FILE", self.path().join("cli.tfrc")).env("TF_IN_AUTOMATION", "1").env("CHECKPOINT_DISABLE", "1");
        let output =
            command.output().map_err(|error| format!("terraform cannot be started (`deployctl-sandbox install` installs it): {error}"))?;
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Ok(Said { succeeded: output.status.success(), text })
    }

    fn install(&self, modules: &[Module]) -> Outcome {
        let mut list = vec![json!({ "Key": "", "Source": "", "Dir": "." })];
        for module in modules {
            list.push(json!({
                "Key": module.key,
                "Source": format!("registry.terraform.io/terraform-aws-modules/{}/aws", module.name),
                "Version": module.version,
                "Dir": module.folder,
            }));
        }
        let folder = self.path().join(".terraform/modules");
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join("modules.json"), json!({ "Modules": Value::Array(list) }).to_string())?)
    }
}

fn cli_configuration(mirror: &Path) -> String {
    format!("disable_checkpoint = true\nprovider_installation {{\n  filesystem_mirror {{\n    path = {:?}\n  }}\n}}\n", mirror)
}

/// The offline providers as a filesystem mirror: `DEPLOYCTL_TERRAFORM_MIRROR`, or built once from tests/sandbox/provider.
fn mirror() -> Outcome<&'static Path> {
    static MIRROR: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = MIRROR.get_or_init(|| match env::var_os("DEPLOYCTL_TERRAFORM_MIRROR") {
        Some(mirror) => Ok(PathBuf::from(mirror)),
        None => build_mirror().map_err(|error| error.to_string()),
    });
    made.as_deref().map_err(|error| error.clone().into())
}

fn build_mirror() -> Outcome<PathBuf> {
    let mirror = Path::new(env!("CARGO_TARGET_TMPDIR")).join("terraform-mirror");
    fs::create_dir_all(&mirror)?;
    let program = mirror.join("terraform-provider");
    let source = project().join("tests/sandbox/provider");
    let output = Command::new("go").args(["build", "-o"]).arg(&program).arg(".").current_dir(&source).output();
    let output = output.map_err(|error| format!("go build in {}: {error}", source.display()))?;
    if !output.status.success() {
        return Err(format!("go build in {}: {}", source.display(), String::from_utf8_lossy(&output.stderr)).into());
    }
    for (name, version) in PROVIDERS {
        let folder = mirror.join(format!("registry.terraform.io/hashicorp/{name}/{version}/linux_amd64"));
        fs::create_dir_all(&folder)?;
        let link = folder.join(format!("terraform-provider-{name}_v{version}"));
        if link.exists() {
            fs::remove_file(&link)?;
        }
        fs::hard_link(&program, link)?;
    }
    Ok(mirror)
}

fn copy(from: &Path, to: &Path) -> Outcome {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        // What terraform left in the checkout when somebody ran it by hand must not decide a test.
        if entry.file_name() == ".terraform" || entry.file_name() == ".terraform.lock.hcl" {
            continue;
        }
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
