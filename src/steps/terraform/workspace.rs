//! Where terraform works: a copy of the stack outside the checkout, kept between runs so that nothing is initialised twice.
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{
    aws::Aws,
    cache,
    engine::workplace::StateFolder,
    failure::Failure,
    plan::environment::{Environment, StateLock},
    steps::{StepContext, state_backend::Names},
    tools::terraform::Terraform,
    whole_file,
};

/// Where the state is while a stack is planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Backend {
    /// In the state bucket.
    Bucket,
    /// In the state bucket, read without the MD5 beside the lock, which a killed terraform has left behind the state. Never applied.
    BucketUnchecked,
    /// Nowhere yet: the bucket is made by a step that has not run, so the state is empty and the plan starts from nothing.
    NotYet,
}

const READY: &str = ".deployctl-initialised";

/// A prepared working directory.
pub(super) struct Workspace {
    pub terraform: Terraform,
    pub variables: PathBuf,
    /// Where terraform was initialised.
    pub dir: PathBuf,
    /// The stack's folder, from the project's root.
    pub stack: PathBuf,
    backend_file: PathBuf,
    source: PathBuf,
    backend: Backend,
}

impl Workspace {
    /// Copies the stack, writes its variables, and initialises it unless that has been done for the same content.
    pub async fn prepare(cx: &StepContext, stack: &Path, backend: Backend, given: &BTreeMap<String, Value>) -> Result<Self, Failure> {
        let source = cx.project.join(stack);
        let files = stack_files(&source)?;
        let settings = backend_settings(&cx.environment, &cx.aws, stack, backend)?;
        let dir = cache::folder()?.join("terraform-work").join(content_key(&files)).join(settings_key(&settings, cx.aws.endpoint_url()));
        make_dir(&dir)?;
        make_dir(&cx.scratch)?;
        let variables = cx.scratch.join("terraform.tfvars.json");
        let declared = declared_variables(&files);
        write_own(&variables, Value::Object(variable_values(cx, &declared, given)?.into_iter().collect()).to_string().as_bytes())?;
        let backend_file = cx.scratch.join("backend.json");
        write_own(&backend_file, settings.to_string().as_bytes())?;
        let record = process_record(&cx.environment, &cx.aws, stack)?;
        if let Some(folder) = record.parent() {
            make_dir(folder)?;
        }
        let terraform = Terraform {
            dir: dir.clone(),
            env: cx.aws.credentials_env().await?,
            log: cx.scratch.join("terraform.log"),
            record,
            cancel: cx.cancel.clone(),
        };
        let workspace = Self { terraform, variables, dir, stack: stack.to_owned(), backend_file, source, backend };
        if !workspace.dir.join(READY).exists() {
            workspace.initialise(cx).await?;
        }
        Ok(workspace)
    }

    /// Throws the prepared directory away and prepares it anew: a provider or a module has changed under it.
    pub async fn initialise(&self, cx: &StepContext) -> Result<(), Failure> {
        let lock = self.dir.with_extension("lock");
        let _turn = cache::turn(&lock, "terraform init", std::time::Duration::from_secs(900), &cx.cancel).await?;
        let unwritable = |e: std::io::Error| Failure::step(format!("could not prepare {}", self.dir.display())).because(e);
        if fs::exists(self.dir.join(READY)).map_err(unwritable)? {
            // Either another process was faster, or this one found it broken; both are right with a fresh one.
            fs::remove_file(self.dir.join(READY)).map_err(unwritable)?;
        }
        for stale in [".terraform", ".terraform.lock.hcl"] {
            remove(&self.dir.join(stale)).map_err(unwritable)?;
        }
        for (name, content) in stack_files(&self.source)? {
            let to = self.dir.join(&name);
            if let Some(parent) = to.parent() {
                make_dir(parent)?;
            }
            write_own(&to, &content)?;
        }
        let block = match self.backend {
            Backend::Bucket | Backend::BucketUnchecked => "s3",
            Backend::NotYet => "local",
        };
        write_own(&self.dir.join("deployctl_override.tf"), format!("terraform {{\n  backend \"{block}\" {{}}\n}}\n").as_bytes())?;
        cx.progress(format!("terraform init in {}", self.dir.display()));
        self.terraform.init(&self.backend_file).await?;
        write_own(&self.dir.join(READY), b"")
    }

    /// terraform in a fresh copy of the prepared directory, which shares what init fetched. Whatever an earlier copy held is gone.
    pub fn copy_into(&self, to: &Path) -> Result<Terraform, Failure> {
        let failed = |e: std::io::Error| Failure::step(format!("could not copy {} to {}", self.dir.display(), to.display())).because(e);
        remove(to).map_err(failed)?;
        make_dir(to)?;
        for (name, content) in stack_files(&self.dir)? {
            let file = to.join(&name);
            if let Some(parent) = file.parent() {
                make_dir(parent)?;
            }
            write_own(&file, &content)?;
        }
        std::os::unix::fs::symlink(self.dir.join(".terraform"), to.join(".terraform")).map_err(failed)?;
        Ok(Terraform { dir: to.to_owned(), ..self.terraform.clone() })
    }
}

/// Where the process record of a stack's terraform is: one place for all runs, because the next one may have to prove that it is dead.
pub fn process_record(environment: &Environment, aws: &Aws, stack: &Path) -> Result<PathBuf, Failure> {
    let mut hash = Sha256::new();
    hash.update(Names::of(environment)?.bucket.as_str());
    // Sandboxes share their environment's name, and nothing else.
    hash.update(aws.endpoint_url().unwrap_or_default());
    let name = stack.file_name().unwrap_or(OsStr::new("stack")).to_string_lossy();
    Ok(StateFolder::of_this_user()?.processes(&environment.name).join(format!("{name}-{}.json", hex::encode(&hash.finalize()[..6]))))
}

/// The state's key: the stack's folder name.
pub(super) fn state_key(stack: &Path) -> String {
    format!("{}/terraform.tfstate", stack.file_name().unwrap_or(OsStr::new("stack")).to_string_lossy())
}

/// Every file that belongs to a stack, by its path in it. Tests, caches and plans do not.
pub(super) fn stack_files(source: &Path) -> Result<BTreeMap<PathBuf, Vec<u8>>, Failure> {
    let mut files = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    let unreadable = |path: &Path, e: std::io::Error| {
        Failure::usage(format!("the stack {} cannot be read", path.display())).because(e).next("correct `stack` in the plan file")
    };
    while let Some(folder) = folders.pop() {
        let path = source.join(&folder);
        for entry in fs::read_dir(&path).map_err(|e| unreadable(&path, e))? {
            let entry = entry.map_err(|e| unreadable(&path, e))?;
            let name = entry.file_name();
            let text = name.to_string_lossy();
            if text == ".terraform"
                || text == "tests"
                || text.ends_with(".tfstate")
                || text.ends_with(".tfplan")
                || text.ends_with(".tftest.hcl")
            {
                continue;
            }
            if entry.path().is_dir() {
                folders.push(folder.join(&name));
            } else {
                files.insert(folder.join(&name), fs::read(entry.path()).map_err(|e| unreadable(&entry.path(), e))?);
            }
        }
    }
    if !files.keys().any(|name| name.extension() == Some(OsStr::new("tf"))) {
        return Err(Failure::usage(format!("the stack {} has no .tf file", source.display())).next("correct `stack` in the plan file"));
    }
    Ok(files)
}

/// The first half of a prepared directory's name: what the stack is made of.
pub(super) fn content_key(files: &BTreeMap<PathBuf, Vec<u8>>) -> String {
    let mut hash = Sha256::new();
    for (name, content) in files {
        hash.update(name.as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update(Sha256::digest(content));
    }
    hex::encode(&hash.finalize()[..12])
}

/// The second half: what else init depends on.
fn settings_key(settings: &Value, endpoint: Option<&str>) -> String {
    let mut hash = Sha256::new();
    hash.update(settings.to_string());
    hash.update(endpoint.unwrap_or_default());
    if let Some(path) = std::env::var_os("TF_CLI_CONFIG_FILE") {
        hash.update(path.as_encoded_bytes());
        hash.update(fs::read(path).unwrap_or_default());
    }
    hex::encode(&hash.finalize()[..8])
}

fn backend_settings(environment: &Environment, aws: &Aws, stack: &Path, backend: Backend) -> Result<Value, Failure> {
    if backend == Backend::NotYet {
        return Ok(json!({}));
    }
    let names = Names::of(environment)?;
    let mut settings = json!({
        "bucket": names.bucket, "key": state_key(stack), "region": environment.aws.region, "encrypt": true,
        "allowed_account_ids": [environment.aws.account_id],
        "use_lockfile": environment.aws.state_lock != StateLock::Dynamodb,
    });
    if environment.aws.state_lock != StateLock::S3 && backend == Backend::Bucket {
        settings["dynamodb_table"] = json!(names.table);
    }
    if aws.endpoint_url_of("s3").is_some() {
        settings["use_path_style"] = json!(true);
    }
    Ok(settings)
}

/// Names that the stack's own files declare: terraform warns of values for others.
fn declared_variables(files: &BTreeMap<PathBuf, Vec<u8>>) -> Vec<String> {
    let own = files.iter().filter(|(name, _)| name.components().count() == 1 && name.extension() == Some(OsStr::new("tf")));
    own.flat_map(|(_, content)| super::bound::labels(&String::from_utf8_lossy(content), "variable")).collect()
}

fn variable_values(cx: &StepContext, declared: &[String], given: &BTreeMap<String, Value>) -> Result<BTreeMap<String, Value>, Failure> {
    let environment = &cx.environment;
    let mut tags = environment.tags.clone();
    tags.insert("managed-by".into(), "deployctl".into());
    let common = [
        ("name_prefix", json!(format!("deployctl-{}", environment.name))),
        ("environment", json!(environment.name)),
        ("account_id", json!(environment.aws.account_id)),
        ("region", json!(environment.aws.region)),
        ("dr_region", json!(environment.aws.dr_region)),
        ("tags", json!(tags)),
    ];
    let mut values: BTreeMap<String, Value> =
        common.into_iter().filter(|(name, _)| declared.iter().any(|d| d == name)).map(|(name, value)| (name.to_owned(), value)).collect();
    if let Some(unknown) = given.keys().find(|name| !declared.contains(name)) {
        return Err(Failure::usage(format!("the stack of step {} declares no variable {unknown:?}", cx.step))
            .next(format!("its variables are: {}", declared.join(", "))));
    }
    values.extend(given.iter().map(|(name, value)| (name.clone(), value.clone())));
    Ok(values)
}

pub(super) fn make_dir(path: &Path) -> Result<(), Failure> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|e| Failure::step(format!("could not make the folder {}", path.display())).because(e))
}

/// Writes a file that nobody else can read, all of it or nothing.
pub(super) fn write_own(path: &Path, content: &[u8]) -> Result<(), Failure> {
    whole_file::write(path, content).map_err(|e| Failure::step(format!("could not write {}", path.display())).because(e))
}

fn remove(path: &Path) -> std::io::Result<()> {
    match path.symlink_metadata() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    }
}
