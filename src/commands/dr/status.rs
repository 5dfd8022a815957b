//! `dr status`: what is in the DR region, by asking that region alone: recovery points and their ages, what is missing, what a restore does.
use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{RESTORE, answer::span, drill, object, restore, subject};
use crate::{
    aws::recovery::Wanted,
    cli::Globals,
    clock,
    commands::session::{Purpose, Session},
    engine::{
        drills::{self, Drilled, Drills},
        journal::NoIntents,
    },
    failure::{Failure, FailureKind, exit},
    ids::{DbInstanceId, EnvironmentName, Region, RepositoryName, SecretName, ServiceName},
    plan::{
        definition,
        environment::{SecretStore, Standby},
        read,
        reference::Resolved,
        resolve,
    },
    steps::{
        Change, Kind as _, StepContext, inside, live,
        restore::{
            Input, Restore,
            choice::{age_seconds, choose},
            look::Observed,
        },
    },
    ui::{Output, Ui},
};

/// A recovery point, or what may become one.
#[derive(Serialize)]
struct Point {
    /// As `dr restore` takes it: `snapshot:ID`, or `at:TIME` for the end of a replicated backup.
    point: String,
    /// RDS' word for its state.
    status: String,
    /// The first moment that can be restored; the same as the last for a snapshot.
    from: Option<Timestamp>,
    /// The last one.
    until: Option<Timestamp>,
    /// How long ago that was.
    age_seconds: Option<i64>,
}

/// Something that is not there, or could not be looked for.
#[derive(Serialize)]
struct Missing {
    /// `database` or `services`: what cannot be restored without it; `verification`: what a restored database cannot be looked into or tried without.
    needed_for: &'static str,
    /// What it is.
    what: String,
    /// What to do.
    next: String,
}

#[derive(Serialize)]
struct Status {
    environment: EnvironmentName,
    /// The region that was asked.
    region: Region,
    /// The region that may be lost, and was not asked.
    home: Region,
    /// The newest usable one; none if nothing can be restored.
    newest: Option<Point>,
    /// All of them.
    points: Vec<Point>,
    /// What services need, and is there.
    there: Vec<String>,
    /// The cluster that is prepared, with the agent's image in it; none also where none is wanted.
    looked_into_by: Option<String>,
    missing: Vec<Missing>,
    /// What `dr restore --latest` would do now; none if it is not possible, nothing if it was done already.
    restore: Option<Vec<Change>>,
    /// How long that took before, in seconds; none if it is not known.
    usual_seconds: Option<u64>,
    /// The last drill that was good; none if there was none.
    drill: Option<Drilled>,
    /// The newest drills, good or not.
    drills: Vec<Drilled>,
    /// Instances of a drill that is under way just now, or was killed.
    drilled_instances: Vec<DbInstanceId>,
}

/// Where the agent runs, in every region.
const AGENT: &str = "deployctl";
/// Its service account.
const AGENT_ACCOUNT: &str = "agent";
/// So many drills are shown.
const DRILLS: usize = 5;

/// Looks and tells. Exit code 12 if the database could not be restored now.
pub async fn run(globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let subject = subject(globals, RESTORE, BTreeMap::new())?;
    let name = subject.definition.environment.name.clone();
    let session = Session::open_on(globals, subject, Purpose::Plan, ui).await?;
    let status = look(&session).await;
    session.tidy();
    let status = session.end(status).await.map_err(|failure| failure.in_environment(&name))?;
    match ui.output {
        Output::Human => ui.data(&human(&status))?,
        Output::Json => ui.json(&status)?,
    }
    Ok(if status.restore.is_some() { exit::DONE } else { exit::PREFLIGHT })
}

async fn look(session: &Session) -> Result<Status, Failure> {
    let definition = &session.work.definition;
    let step = definition.file.steps.iter().find(|step| step.kind == Restore::NAME);
    let step = step.ok_or_else(|| Failure::usage(format!("{RESTORE} has no step of kind {}", Restore::NAME)))?;
    let Resolved::Value(input) = resolve::input(definition, step, &BTreeMap::new())? else {
        return Err(Failure::usage(format!("step {} of {RESTORE} waits for another one", step.id)));
    };
    let usual_seconds = restore::usual_seconds(session, &step.id);
    let input: Input = serde_json::from_value(input).map_err(|error| Failure::usage(format!("step {}", step.id)).because(error))?;
    let input = Input { point: Wanted::Latest, usual_seconds, ..input };
    let cx = session.work.context(&step.id, None, Arc::new(NoIntents))?;
    let prefix = drill::prefix(&definition.environment.name)?;
    let (observed, services, warm, drilled_instances) =
        tokio::join!(Restore::observe(&cx, &input), for_services(&cx), for_the_warm(&cx), session.work.aws.drilled(&prefix));
    let observed = observed?;
    let now = clock::now();
    let database = |(what, next)| Missing { needed_for: "database", what, next };
    let mut missing: Vec<Missing> = observed.missing(&input).into_iter().map(database).collect();
    let mut found = Drills::default();
    if session.records.exists().await? {
        found = drills::read(&*session.records, DRILLS).await?;
    } else {
        missing.push(database((format!("bucket {}", session.records.place()), "deployctl apply --only backend".to_owned())));
    }
    let (there, services) = services?;
    missing.extend(services);
    let looked_into_by = match warm? {
        Some(Ok(cluster)) => Some(cluster),
        Some(Err(cold)) => {
            missing.push(cold);
            None
        }
        None => None,
    };
    for missing in &mut missing {
        missing.next = in_environment(&missing.next, &definition.environment.name);
    }
    let chosen = choose(&Wanted::Latest, &observed.snapshots, &observed.backups);
    let newest = chosen.as_ref().ok().map(|chosen| Point {
        point: chosen.wanted().to_string(),
        status: restore::point_text(chosen),
        from: None,
        until: Some(chosen.at),
        age_seconds: Some(age_seconds(now, chosen.at)),
    });
    let restore = match Restore::plan(&input, &observed) {
        Ok(plan) => Some(plan.changes),
        Err(failure) if failure.kind == FailureKind::Preflight => None,
        Err(failure) => return Err(failure),
    };
    let aws = &definition.environment.aws;
    let (region, home) = (aws.region.clone(), aws.dr_region.clone());
    let points = points(&observed, now);
    let environment = definition.environment.name.clone();
    let Drills { newest: drills, last_good: drill } = found;
    let drilled_instances = drilled_instances?;
    Ok(Status {
        environment,
        region,
        home,
        newest,
        points,
        there,
        looked_into_by,
        missing,
        restore,
        usual_seconds,
        drill,
        drills,
        drilled_instances,
    })
}

/// Of a warm standby: the cluster, and the agent that has run in it. Without these a database can be restored, and nobody looks into it.
async fn for_the_warm(cx: &StepContext) -> Result<Option<Result<String, Missing>>, Failure> {
    let environment = &cx.environment;
    if environment.recovery.standby != Standby::Warm {
        return Ok(None);
    }
    let name = environment.cluster_name().map_err(|e| Failure::usage("the cluster's name").because(e))?;
    let missing = |what: String, next: &str| Err(Missing { needed_for: "verification", what, next: next.to_owned() });
    let region = cx.aws.region();
    Ok(Some(match inside::prepared(cx, &name, AGENT, AGENT_ACCOUNT).await {
        Ok(Ok(pod)) => Ok(format!("cluster {name} in {region}, in which {} has run", pod.image)),
        Ok(Err(what)) => missing(what, "deployctl dr prepare"),
        Err(failure) => missing(format!("the cluster {name} in {region} (not known: {})", failure.message), "deployctl doctor"),
    }))
}

/// A command as it must be typed where there are several environments.
fn in_environment(next: &str, environment: &EnvironmentName) -> String {
    Failure::usage("").next(next).in_environment(environment).next.concat()
}

fn points(observed: &Observed, now: Timestamp) -> Vec<Point> {
    let age = |until: Option<Timestamp>| until.map(|until| age_seconds(now, until));
    let snapshots = observed.snapshots.iter().map(|copy| Point {
        point: Wanted::Snapshot(copy.id.clone()).to_string(),
        status: if copy.status == "available" { copy.status.clone() } else { format!("{} {} %", copy.status, copy.percent) },
        from: copy.at,
        until: copy.at,
        age_seconds: age(copy.at),
    });
    let backups = observed.backups.iter().map(|backup| {
        let (from, until) = backup.window.unzip();
        let point = until.map_or_else(|| backup.arn.clone(), |until| Wanted::At(until).to_string());
        Point { point, status: backup.status.clone(), from, until, age_seconds: age(until) }
    });
    let mut all: Vec<Point> = snapshots.chain(backups).collect();
    all.sort_by_key(|point| std::cmp::Reverse(point.until));
    all
}

/// What services would need there: their secrets and their images. Without these a database can be restored, and nothing that uses it.
async fn for_services(cx: &StepContext) -> Result<(Vec<String>, Vec<Missing>), Failure> {
    let environment = &cx.environment;
    let store = environment.secrets.store;
    // The deployment's own plan file says which; it is seen from the region that it deploys to.
    let home = environment.as_ref().clone().in_dr_region();
    let registry = crate::steps::registry::Registry::standard();
    let deployment = read::definition_of(&cx.project, read::PLAN_FILE, BTreeMap::new(), home, &registry)?.file;
    let all = definition::all(&deployment, store, environment.name.as_str());
    let secrets = all["secrets"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let region = cx.aws.region();
    // Secrets Manager replicates by itself; Parameter Store does not, so `secret set` writes there too.
    let brought = match store {
        SecretStore::SecretsManager => "deployctl apply --only data replicates secrets",
        SecretStore::Ssm => "deployctl secret set NAME writes it in both regions",
    };
    let (mut there, mut missing) = (Vec::new(), Vec::new());
    let mut note = |what: String, next: String| missing.push(Missing { needed_for: "services", what, next });
    for secret in secrets {
        let name = SecretName::parse(secret).map_err(|e| Failure::usage("a secret of the plan file").because(e))?;
        match cx.aws.find_secret(store, &environment.name, &name).await {
            Ok(Some(_)) => there.push(format!("secret {secret}")),
            // What is made in the cluster is made anew in another one: a role gets the password that its secret has then.
            Ok(None) if store == SecretStore::Ssm && deployment.writes_secret(secret) => {}
            Ok(None) => note(format!("secret {secret} in {region}"), brought.to_owned()),
            Err(failure) => note(format!("secret {secret} in {region} (not known: {})", failure.message), "deployctl doctor".into()),
        }
    }
    for service in deployment.services.keys().map(ServiceName::as_str).chain(["deployctl"]) {
        let name = format!("deployctl-{}/{service}", environment.name);
        let repository = RepositoryName::parse(&name).map_err(|e| Failure::usage("a repository's name").because(e))?;
        match live::live_images(&cx.aws, &environment.name, &repository).await.map(|live| live.into_iter().next()) {
            Ok(Some((tag, image))) => there.push(format!("image {name}:{tag}, {}", bytesize::ByteSize(image.size))),
            Ok(None) => {
                let next = match environment.recovery.standby {
                    Standby::Backups => "set recovery.standby: pilot-light in the environment file; then: deployctl apply --only images",
                    Standby::PilotLight | Standby::Warm => "deployctl apply --only images",
                };
                note(format!("a live image in {name} in {region}"), next.to_owned());
            }
            Err(failure) => note(format!("images of {name} in {region} (not known: {})", failure.message), "deployctl doctor".into()),
        }
    }
    let uploads = object::bucket(environment, Some(region))?;
    match cx.aws.bucket_exists(&uploads).await {
        _ if !environment.storage.replicate => {
            note("copies of uploads".to_owned(), "set storage.replicate in the environment file; then: deployctl apply --only data".into());
        }
        Ok(true) => there.push(format!("uploads in s3://{uploads}")),
        Ok(false) => note(format!("copies of uploads: bucket {uploads}"), "deployctl apply --only data".into()),
        Err(failure) => note(format!("copies of uploads (not known: {})", failure.message), "deployctl doctor".into()),
    }
    Ok((there, missing))
}

fn human(status: &Status) -> String {
    let Status { environment, region, home, newest, points, there, looked_into_by, missing, restore, usual_seconds, .. } = status;
    let mut text = format!("{environment}: {home} can be restored in {region}; {home} was not asked\n\n");
    text += &match newest {
        Some(point) => format!("newest recovery point: {}\n", point.status),
        None => "newest recovery point: NONE: the database would be lost with its region\n".to_owned(),
    };
    for point in points {
        let time = |time: &Option<Timestamp>| time.map_or_else(|| "?".to_owned(), |time| time.to_string());
        let window =
            if point.from == point.until { time(&point.until) } else { format!("{} to {}", time(&point.from), time(&point.until)) };
        let age = point.age_seconds.map(|age| format!(", {} old", span(age))).unwrap_or_default();
        text += &format!("  {}  {} ({window}{age})\n", point.point, point.status);
    }
    text += &there.iter().map(|what| format!("  for the services: {what}\n")).collect::<String>();
    text += &looked_into_by.iter().map(|what| format!("  for a look into the database: {what}\n")).collect::<String>();
    text += if missing.is_empty() { "\nmissing: nothing\n" } else { "\nmissing:\n" };
    for Missing { needed_for, what, next } in missing {
        text += &format!("  for the {needed_for}: {what}\n      next: {next}\n");
    }
    text += &match restore {
        None => "\na restore is not possible now\n".to_owned(),
        Some(changes) if changes.is_empty() => "\na restore would change nothing: the newest point is restored already\n".to_owned(),
        Some(changes) => {
            let line = |change: &Change| {
                format!("  {} {} {}\n      {}\n", change.action, change.resource, change.name, change.details.join("\n      "))
            };
            let lines: String = changes.iter().map(line).collect();
            format!(
                "\ndeployctl dr restore -e {environment} --to {region} would\n{lines}  and write its address into the environment's secret `database` there\n"
            )
        }
    };
    if usual_seconds.is_none() {
        text += "how long that takes is not known: a drill or a restore would tell\n";
    }
    text + &drills_text(status)
}

fn drills_text(status: &Status) -> String {
    let environment = &status.environment;
    let ago = |drill: &Drilled| span(age_seconds(clock::now(), drill.at));
    let measured = |drill: &Drilled| {
        let rto = drill.rto_seconds.map_or_else(|| "?".to_owned(), |rto| format!("{rto:.0} s"));
        format!("RTO {rto}, RPO at most {}", drill.rpo_seconds_at_most.map_or_else(|| "?".to_owned(), span))
    };
    let mut text = match &status.drill {
        None => format!("no drill has been good yet: deployctl dr drill -e {environment}\n"),
        Some(drill) => format!("last good drill: {} ago, {}\n", ago(drill), measured(drill)),
    };
    for drill in &status.drills {
        let result = if drill.good { "good" } else { "NOT GOOD" };
        let why = drill.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        text += &format!("  {}  {result}, {}{why}\n", drill.at, measured(drill));
    }
    for id in &status.drilled_instances {
        text += &format!("a drill is under way, or one that was killed has left {id}: deployctl dr drill --clean -e {environment}\n");
    }
    text
}
