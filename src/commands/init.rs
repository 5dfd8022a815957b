//! `init`: asks for account, regions and sizes and writes an environment file that `plan --offline` takes; never overwrites one.
use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::ValueEnum;
use serde::Serialize;

use super::session;
use crate::{
    cli::{Globals, InitArgs, Size},
    failure::{Failure, FailureKind, exit},
    ids::{AccountId, EnvironmentName, Region, RoleArn},
    plan::{file::PlanFile, read},
    steps::registry::Registry,
    ui::{Output, Ui, ask::Question},
};

/// What was written, and what to type next.
#[derive(Serialize)]
struct Written {
    file: PathBuf,
    next: Vec<String>,
}

/// Asks, writes, and says what comes next.
pub fn run(args: InitArgs, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let project = session::project(globals)?;
    let questions = questions(&args, globals);
    let answers = ui.ask(&questions)?;
    let [name, account, region, dr_region, size, cidr, kafka, engineers] = answers.as_slice() else {
        return Err(Failure::new(FailureKind::Internal, "there are other answers than questions"));
    };
    let large = Size::from_str(size, false) == Ok(Size::Large);
    let wanted = Wanted { name, account, region, dr_region, large, cidr, kafka, engineers, args: &args };
    let file = PathBuf::from(format!("plans/environments/{name}.yaml"));
    let services = services(&project)?;
    let text = text(&wanted, &services);
    // Nobody should find out at the next command that this one wrote nonsense.
    let environment = read::environment_from(&file, &text)?;
    let plan = std::fs::read_to_string(project.join(read::PLAN_FILE))
        .map_err(|error| Failure::usage(format!("cannot read {}", read::PLAN_FILE)).because(error))?;
    read::plan_file_from(Path::new(read::PLAN_FILE), &plan, &project, &Registry::standard(), Some(&environment))?;
    write(&project.join(&file), &file, &text)?;
    let written = Written { file, next: next(&wanted) };
    match ui.output {
        Output::Json => ui.json(&written)?,
        Output::Human => {
            ui.data(&format!("{} was written; read it, and put your own sizes in. Then:\n\n", written.file.display()))?;
            written.next.iter().try_for_each(|line| ui.data(&format!("  {line}\n")))?;
        }
    }
    Ok(exit::DONE)
}

fn of_type<T>(parsed: Result<T, crate::ids::InvalidId>) -> Result<(), String> {
    parsed.map(drop).map_err(|error| error.to_string())
}

fn questions(args: &InitArgs, globals: &Globals) -> Vec<Question> {
    let question =
        |flag, prompt, given: Option<&str>, check| Question { flag, prompt, default: None, given: given.map(str::to_owned), check };
    let name = globals.environment.as_ref().map(EnvironmentName::as_str);
    vec![
        question("-e NAME", "Name of the environment, as in staging", name, name_is_short),
        question("--account-id 123456789012", "AWS account", args.account_id.as_deref(), |text| of_type(AccountId::parse(text))),
        question("--region eu-central-1", "Region", args.region.as_deref(), |text| of_type(Region::parse(text))),
        question("--dr-region eu-west-1", "Region to restore in", args.dr_region.as_deref(), |text| of_type(Region::parse(text))),
        Question {
            default: Some("small".to_owned()),
            ..question("--size small", "Size, small or large", args.size.map(size_text), |text| Size::from_str(text, false).map(drop))
        },
        Question {
            default: Some("10.50.0.0/16".to_owned()),
            ..question("--cidr 10.50.0.0/16", "Addresses of the VPC", args.cidr.as_deref(), |_| Ok(()))
        },
        question("--kafka HOST:9092", "Kafka's bootstrap servers", args.kafka.as_deref(), servers),
        question("--engineers ROLE_ARN", "Role of the people who may look into the cluster", args.engineers.as_deref(), |text| {
            of_type(RoleArn::parse(text))
        }),
    ]
}

fn size_text(size: Size) -> &'static str {
    if size == Size::Large { "large" } else { "small" }
}

/// Names are made from it that AWS limits.
fn name_is_short(text: &str) -> Result<(), String> {
    of_type(EnvironmentName::parse(text))?;
    if text.len() > 14 { Err("it may have 14 characters: roles are named after it".to_owned()) } else { Ok(()) }
}

fn servers(text: &str) -> Result<(), String> {
    let good =
        text.split(',').all(|server| server.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok()));
    if good { Ok(()) } else { Err("it must be host:port, several separated by commas".to_owned()) }
}

/// The services of the plan file: the environment file has an entry for each.
fn services(project: &Path) -> Result<Vec<String>, Failure> {
    let path = project.join(read::PLAN_FILE);
    let text = std::fs::read_to_string(&path).map_err(|error| Failure::usage(format!("cannot read {}", path.display())).because(error))?;
    let file: PlanFile =
        serde_saphyr::from_str(&text).map_err(|error| Failure::usage(format!("{} cannot be read", read::PLAN_FILE)).because(error))?;
    Ok(file.services.keys().map(ToString::to_string).collect())
}

struct Wanted<'a> {
    name: &'a str,
    account: &'a str,
    region: &'a str,
    dr_region: &'a str,
    large: bool,
    cidr: &'a str,
    kafka: &'a str,
    engineers: &'a str,
    args: &'a InitArgs,
}

impl Wanted<'_> {
    fn deployer(&self) -> String {
        format!("arn:aws:iam::{}:role/deployctl-deployer", self.account)
    }
}

/// The file. Sizes are those of the committed staging and production.
fn text(wanted: &Wanted<'_>, services: &[String]) -> String {
    let Wanted { name, account, region, dr_region, large, cidr, kafka, engineers, args } = wanted;
    let or = |small: &'static str, big: &'static str| if *large { big } else { small };
    let cidrs = args.public_access_cidrs.join(", ");
    let (zones, gateways, flow_days) = (or("2", "3"), or("single", "per-zone"), or("14", "90"));
    let (kinds, nodes) =
        (or("m7i.large, m6i.large", "m7i.xlarge, m6i.xlarge"), or("min: 2, desired: 2, max: 4", "min: 3, desired: 3, max: 12"));
    let (disk, class) = (or("50", "100"), or("db.t4g.medium", "db.m7g.large"));
    let (storage, backup_days) = (or("initial: 20, max: 100", "initial: 100, max: 1000"), or("7", "35"));
    let (hours, partitions, metrics_days) = (or("72", "3"), or("3", "12"), or("7", "30"));
    let (replicas, cpu, memory) = (or("min: 2, max: 4", "min: 3, max: 12"), or("500m", "\"1\""), or("256Mi", "512Mi"));
    let deployer = wanted.deployer();
    let services: String = services
        .iter()
        .map(|service| {
            format!(
                "  {service}:\n    strategy: rolling\n    replicas: {{ {replicas} }}\n    resources: {{ cpu: {cpu}, memory: {memory} }}\n"
            )
        })
        .collect();
    format!(
        "# Made by `deployctl init`. Every key is in plans/schema/environment.schema.json.
version: 1
name: {name}
aws:
  account_id: \"{account}\"
  region: {region}
  # Where it is restored when that one is lost.
  dr_region: {dr_region}
  deployer_role_arn: {deployer}
  state_lock: both
network:
  cidr: {cidr}
  availability_zones: {zones}
  nat_gateways: {gateways}
  flow_log_days: {flow_days}
cluster:
  version: \"1.34\"
  # Empty: the endpoint is private, and deployctl runs inside the VPC. Name networks here to reach it from outside.
  public_access_cidrs: [{cidrs}]
  access_entries:
    - principal_arn: {deployer}
      policy: AmazonEKSClusterAdminPolicy
    - principal_arn: {engineers}
      policy: AmazonEKSViewPolicy
      namespaces: [apps, observability]
  instance_types: [{kinds}]
  nodes: {{ {nodes} }}
  disk_gib: {disk}
database:
  engine_version: \"15\"
  instance_class: {class}
  storage_gib: {{ {storage} }}
  multi_az: {large}
  backup_days: {backup_days}
  replicate_backups: true
  deletion_protection: true
  # RDS' certificates for your region, as a file of this project. plan and apply ask for it.
  # ca_bundle: rds-{region}.pem
storage:
  current_to_glacier_days: 90
  noncurrent_to_glacier_days: 30
  replicate: {large}
kafka:
  bootstrap_servers: {kafka}
  security: sasl-ssl
  replication_factor: 3
  retention_hours: {hours}
  partitions: {partitions}
services:
{services}observability:
  retention_days: {metrics_days}
tags: {{ team: deployctl, environment: {name} }}
"
    )
}

/// The file appears whole, and never in the place of another.
fn write(path: &Path, shown: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            Failure::usage(format!("{} is there already; init overwrites nothing", shown.display()))
                .next("change it by hand, or choose another name")
        } else {
            Failure::usage(format!("{} cannot be written", shown.display())).because(error)
        }
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut file = tempfile::Builder::new().permissions(permissions()).tempfile_in(folder).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.persist_noclobber(path).map(drop).map_err(|error| failed(error.error))
}

/// As any file of a project: it holds no secret.
fn permissions() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    std::fs::Permissions::from_mode(0o644)
}

fn next(wanted: &Wanted<'_>) -> Vec<String> {
    let Wanted { name, account, region, dr_region, engineers, args, .. } = wanted;
    let mut bootstrap = format!(
        "terraform -chdir=terraform/bootstrap apply -var environment={name} -var account_id={account} -var region={region} \
         -var dr_region={dr_region} -var 'deployer_principals=[\"{engineers}\"]' -var 'on_call_principals=[\"{engineers}\"]'"
    );
    if let Some(repository) = &args.github {
        bootstrap.push_str(&format!(" -var 'github={{ repository = \"{repository}\" }}'"));
    }
    vec![
        "terraform -chdir=terraform/bootstrap init".to_owned(),
        bootstrap,
        format!("deployctl doctor -e {name}"),
        format!("deployctl secret set kafka -e {name} < kafka.json"),
        format!("deployctl plan -e {name}"),
    ]
}
