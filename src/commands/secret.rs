//! `deployctl secret set NAME`: takes a value from standard input or a file, stores it, and shows its name and version only.
use std::{
    io::{IsTerminal, Read},
    path::PathBuf,
};

use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use serde_json::Value;

use super::session;
use crate::{
    aws::{Aws, secrets::StoredSecret},
    cli::{Globals, SecretSetArgs},
    failure::{Failure, FailureKind, LeftBehind, exit},
    ids::SecretName,
    plan::{
        environment::{Environment, SecretStore},
        read,
    },
    redact,
    ui::{Output, Ui},
};

/// Where the value comes from. Never an argument and never a variable: both can be read by others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Standard input, which must not be a terminal.
    Stdin,
    /// A file.
    File(PathBuf),
}

/// What to do when the secret has a value already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Gives it a new version.
    Replace,
    /// Leaves it as it is.
    Keep,
}

/// Secrets Manager's limit; SSM's standard parameters take 4 KiB.
const LARGEST: u64 = 64 * 1024;
const LARGEST_SSM: usize = 4 * 1024;

/// `secret set`: stores a value and shows its name and version, never the value.
pub async fn run(args: SecretSetArgs, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let project = session::project(globals)?;
    let environment = read::environment(&project, &session::environment(globals, &project)?)?;
    let aws = &environment.aws;
    let connect = async |region| Aws::connect(region, aws.deployer_role_arn.as_ref(), &aws.account_id).await;
    let mut stores = vec![connect(&aws.region).await?];
    if environment.secrets.store == SecretStore::Ssm {
        stores.push(connect(&aws.dr_region).await?);
    }
    let source = args.from_file.map_or(Source::Stdin, Source::File);
    let existing = if args.keep_existing { Existing::Keep } else { Existing::Replace };
    let stored = set(&stores, &environment, &args.name, source, existing).await?;
    let version = stored.version.unwrap_or_else(|| "none".to_owned());
    match ui.output {
        Output::Json => ui.json(&serde_json::json!({ "name": stored.name, "arn": stored.arn, "version": version }))?,
        Output::Human => ui.data(&format!("{} version {version}\n", stored.name))?,
    }
    Ok(exit::DONE)
}

/// Stores the value under `deployctl/ENV/NAME` in the environment's store; says what the first region has then. Secrets Manager replicates a secret
/// by itself. Parameter Store does not, so there the DR region is given the value too: once the first is lost, nobody can read it there.
pub async fn set(
    regions: &[Aws],
    environment: &Environment,
    name: &SecretName,
    source: Source,
    existing: Existing,
) -> Result<StoredSecret, Failure> {
    let store = environment.secrets.store;
    let mut kept = Vec::new();
    if existing == Existing::Keep {
        for aws in regions {
            kept.push(aws.find_secret(store, &environment.name, name).await?.filter(|found| found.version.is_some()));
        }
        if let Some(Some(first)) = kept.first()
            && kept.iter().all(Option::is_some)
        {
            return Ok(first.clone());
        }
    }
    let value =
        tokio::task::spawn_blocking(move || value_of(&source)).await.map_err(|e| Failure::step("reading the secret").because(e))??;
    check(name, &value, store)?;
    let mut stored = Vec::new();
    for (number, aws) in regions.iter().enumerate() {
        stored.push(match kept.get(number).cloned().flatten() {
            Some(found) => found,
            None => put(aws, environment, name, &value, regions.get(..number).unwrap_or_default()).await?,
        });
    }
    stored.into_iter().next().ok_or_else(|| Failure::new(FailureKind::Internal, "a secret without a region"))
}

async fn put(aws: &Aws, environment: &Environment, name: &SecretName, value: &SecretString, done: &[Aws]) -> Result<StoredSecret, Failure> {
    let outcome = aws.put_secret(environment.secrets.store, &environment.name, name, value).await;
    outcome.map_err(|failure| match done {
        [] => failure,
        done => {
            let regions = done.iter().map(|aws| aws.region().as_str()).collect::<Vec<_>>().join(", ");
            failure
                .left(LeftBehind::Partial(vec![format!("{regions} has the new value of {name}, {} does not", aws.region())]))
                .next(format!("deployctl secret set {name} -e {}", environment.name))
        }
    })
}

fn value_of(source: &Source) -> Result<SecretString, Failure> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(LARGEST).unwrap_or(0) + 1));
    let read = match source {
        Source::Stdin if std::io::stdin().is_terminal() => {
            return Err(Failure::usage("no secret on standard input")
                .next("deployctl secret set NAME < FILE")
                .next("or: deployctl secret set NAME --from-file FILE"));
        }
        Source::Stdin => std::io::stdin().lock().take(LARGEST + 1).read_to_end(&mut bytes),
        Source::File(path) => std::fs::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes)),
    };
    read.map_err(|e| match source {
        Source::Stdin => Failure::usage("standard input cannot be read").because(e),
        Source::File(path) => Failure::usage(format!("{} cannot be read", path.display())).because(e),
    })?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > LARGEST {
        return Err(Failure::usage("the secret is larger than 64 KiB, which Secrets Manager refuses"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| Failure::usage("the secret is not UTF-8 text"))?;
    // `echo` and editors add one line end that nobody means.
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    Ok(redact::secret(text))
}

/// Refuses what the reader of a known secret would choke on; says where, never what.
fn check(name: &SecretName, value: &SecretString, store: SecretStore) -> Result<(), Failure> {
    let text = value.expose_secret();
    if text.trim().is_empty() {
        return Err(Failure::usage(format!("the value for {name} is empty")));
    }
    if store == SecretStore::Ssm && text.len() > LARGEST_SSM {
        return Err(Failure::usage(format!("the value for {name} is larger than 4 KiB, which SSM refuses"))
            .next("use secrets.store: secrets-manager"));
    }
    match name.as_str() {
        "kafka" => {
            let fields: Option<Value> = serde_json::from_str(text).ok();
            let has = |key: &str| fields.as_ref().is_some_and(|f| f[key].as_str().is_some_and(|v| !v.is_empty()));
            if !has("api_key") || !has("api_secret") {
                return Err(Failure::usage("the secret kafka must be JSON with the texts api_key and api_secret"));
            }
        }
        "uploader-tokens" => {
            let right = |line: &str| {
                let hash = line.split_once(':').filter(|(caller, _)| !caller.is_empty()).map(|(_, hash)| hash);
                hash.is_some_and(|hash| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
            };
            if let Some(number) = text.lines().position(|line| !line.trim().is_empty() && !right(line.trim())) {
                return Err(Failure::usage(format!(
                    "line {} of the secret uploader-tokens is not CALLER:SHA256 in hexadecimal digits",
                    number + 1
                ))
                .next("printf %s TOKEN | sha256sum"));
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(name: &str, value: &str) -> Result<(), Failure> {
        check(&SecretName::parse(name).unwrap(), &SecretString::from(value), SecretStore::SecretsManager)
    }

    #[test]
    fn known_secrets_are_checked_and_never_quoted() {
        checked("kafka", r#"{"api_key":"k","api_secret":"canary"}"#).unwrap();
        checked("uploader-tokens", &format!("ann:{}\n\nbob:{}", "a".repeat(64), "0".repeat(64))).unwrap();
        for (name, value) in
            [("kafka", "canary"), ("kafka", r#"{"api_key":"canary"}"#), ("uploader-tokens", "ann:canary"), ("other", " \n")]
        {
            let failure = checked(name, value).unwrap_err();
            assert!(!format!("{failure:?}").contains("canary"));
        }
    }

    #[test]
    fn one_line_end_is_taken_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("value");
        for (written, stored) in [("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a")] {
            std::fs::write(&path, written).unwrap();
            assert_eq!(value_of(&Source::File(path.clone())).unwrap().expose_secret(), stored);
        }
        std::fs::write(&path, vec![b'a'; 70_000]).unwrap();
        assert!(value_of(&Source::File(path)).unwrap_err().message.contains("64 KiB"));
    }
}
