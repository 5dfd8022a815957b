//! `dr object restore`: deleted uploads brought back. A delete marker goes, or where the bucket has no version any more, one is copied from its
//! replica in the DR region. Whatever is there stays as it is: no object is ever overwritten.
mod look;

use std::{collections::BTreeSet, sync::Arc};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;

use self::look::{Found, Way};
use crate::{
    aws::{
        Aws,
        object_version::{Content, Copied, ObjectVersion},
    },
    cli::{Globals, ObjectRestoreArgs},
    commands::session,
    failure::{Failure, exit},
    ids::{BucketName, ObjectVersionId, Region},
    plan::{environment::Environment, read},
    ui::{Output, Ui, confirm::Consent},
};

/// Objects at once: each is two or three calls.
const PARALLEL: usize = 8;

/// A bucket with uploads.
#[derive(Clone)]
pub(super) struct Place {
    aws: Arc<Aws>,
    bucket: BucketName,
}

impl Place {
    fn region(&self) -> &Region {
        self.aws.region()
    }
}

/// The places that are worked on. Without the first the region is given up, and nothing is asked of it.
struct Places {
    home: Option<Place>,
    replica: Option<Place>,
}

/// What became of an object in a bucket.
#[derive(Clone, Debug, Serialize)]
struct Told {
    key: String,
    bucket: Option<BucketName>,
    region: Option<Region>,
    did: Did,
    /// The version that is current now.
    version: Option<ObjectVersionId>,
    /// What a person should know besides.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Did {
    /// It was there, and was left alone.
    WasThere,
    /// Its delete marker is gone.
    MarkerRemoved,
    /// It was copied from the replica.
    Copied,
    /// No bucket has a version of it.
    NotFound,
    /// Somebody has deleted it anew, or written it, in the meantime; that stands.
    ChangedMeanwhile,
}

/// Looks, shows, asks, brings back.
pub async fn run(args: ObjectRestoreArgs, globals: &Globals, ui: &Ui) -> Result<u8, Failure> {
    let project = session::project(globals)?;
    let environment = read::environment(&project, &session::environment(globals, &project)?)?;
    let places = places(&environment, args.to.as_ref()).await?;
    let found = look(&places, &args, ui).await?;
    if ui.output == Output::Human {
        found.iter().try_for_each(|found| ui.data(&format!("{found}\n")))?;
    }
    if found.is_empty() {
        ui.note("nothing that is deleted was found");
    }
    let todo = found.iter().filter(|found| !matches!(found.way, Way::There(_) | Way::Nowhere)).count();
    if todo > 0 {
        let consent = if globals.yes { Consent::Given } else { Consent::Ask };
        ui.confirm(&format!("Bring {todo} back?"), consent)?;
    }
    let told: Vec<Told> = stream::iter(found).map(bring_back).buffered(PARALLEL).try_collect().await?;
    match ui.output {
        Output::Json => ui.json(&told)?,
        Output::Human => told.iter().filter_map(line).try_for_each(|line| ui.data(&line))?,
    }
    let missing: BTreeSet<&str> = told.iter().filter(|told| told.did == Did::NotFound).map(|told| told.key.as_str()).collect();
    if missing.is_empty() {
        return Ok(exit::DONE);
    }
    Err(Failure::step(format!("no version is left of {} objects", missing.len()))
        .evidence(missing.into_iter().collect::<Vec<_>>().join("\n"))
        .next("compare the keys with: aws s3api list-object-versions; nothing else here keeps objects"))
}

/// The bucket of uploads, or of their copies in the DR region.
pub(super) fn bucket(environment: &Environment, dr_region: Option<&Region>) -> Result<BucketName, Failure> {
    let named = environment.uploads_bucket(dr_region);
    named.map_err(|e| Failure::usage("the environment's name is too long for the names of its buckets").because(e))
}

async fn places(environment: &Environment, to: Option<&Region>) -> Result<Places, Failure> {
    let aws = &environment.aws;
    let connect = async |region: &Region| Aws::connect(region, aws.deployer_role_arn.as_ref(), &aws.account_id).await;
    let replica = |there: Aws| Ok::<_, Failure>(Place { aws: Arc::new(there), bucket: bucket(environment, Some(&aws.dr_region))? });
    match to {
        Some(to) if *to == aws.dr_region && !environment.storage.replicate => {
            Err(Failure::usage(format!("nothing of {} is copied to {to}: storage.replicate is false", environment.name)))
        }
        Some(to) if *to == aws.dr_region => Ok(Places { home: None, replica: Some(replica(connect(to).await?)?) }),
        Some(to) if *to != aws.region => Err(Failure::usage(format!(
            "{} has no uploads in {to}, but in {} and, as copies, in {}",
            environment.name, aws.region, aws.dr_region
        ))),
        _ => {
            let home = connect(&aws.region).await?;
            let there = environment.storage.replicate.then(|| replica(home.in_region(&aws.dr_region))).transpose()?;
            Ok(Places { home: Some(Place { aws: Arc::new(home), bucket: bucket(environment, None)? }), replica: there })
        }
    }
}

/// What there is of the objects, in both places at once. A replica that does not answer is told of, and done without.
async fn look(places: &Places, args: &ObjectRestoreArgs, ui: &Ui) -> Result<Vec<Found>, Failure> {
    let wanted = look::Wanted::of(args, [&places.home, &places.replica].into_iter().flatten().map(|place| &place.bucket))?;
    let of = async |place: &Option<Place>| match place {
        Some(place) => Ok(Some(look::versions(place, &wanted).await?)),
        None => Ok::<_, Failure>(None),
    };
    let (home, replica) = tokio::join!(of(&places.home), of(&places.replica));
    let lost = |failure: Failure| match (&places.home, &places.replica) {
        (Some(home), Some(replica)) => {
            let command = format!(
                "if {} is lost, its copies in {} can be brought back: add --to {}",
                home.region(),
                replica.region(),
                replica.region()
            );
            failure.next(command)
        }
        _ => failure,
    };
    let home = home.map_err(lost)?;
    let replica = match replica {
        Err(failure) if home.is_some() => {
            ui.note(&format!("the copies are not looked at: {}", failure.chain().join(": ")));
            None
        }
        other => other?,
    };
    Ok(look::decide(&wanted, places.home.as_ref().zip(home.as_ref()), places.replica.as_ref().zip(replica.as_ref())))
}

/// One object in one bucket. What was planned is held against what is there by S3 itself: a marker goes by its id, a copy is made on condition.
async fn bring_back(found: Found) -> Result<Told, Failure> {
    let Found { key, place, way } = found;
    let (bucket, region) = place.as_ref().map(|place| (place.bucket.clone(), place.region().clone())).unzip();
    let told = |did, version, note| Told { key: key.clone(), bucket: bucket.clone(), region: region.clone(), did, version, note };
    let (place, way) = match (place, way) {
        (Some(place), way) if !matches!(way, Way::Nowhere) => (place, way),
        _ => return Ok(told(Did::NotFound, None, None)),
    };
    match way {
        Way::There(version) => Ok(told(Did::WasThere, Some(version.id), None)),
        Way::Uncover { version, markers } => {
            let markers: BTreeSet<ObjectVersionId> = markers.into_iter().collect();
            let (did, current) = uncover(&place, &key, &markers).await?;
            Ok(told(did, current.map(|current| current.id), archived(&version)))
        }
        Way::Copy { from, version } => match place.aws.copy_version(&from, &key, &version.id, &place.bucket).await? {
            Copied::Done(id) => {
                Ok(told(Did::Copied, id, Some(format!("from s3://{from}, version {}: announced as a new object", version.id))))
            }
            Copied::KeyTaken => Ok(told(Did::ChangedMeanwhile, None, None)),
        },
        Way::Nowhere => Ok(told(Did::NotFound, None, None)),
    }
}

/// Takes the markers away that were seen, the current one first, until an object is current. One that came later is somebody's wish.
async fn uncover(place: &Place, key: &str, markers: &BTreeSet<ObjectVersionId>) -> Result<(Did, Option<ObjectVersion>), Failure> {
    let mut did = Did::WasThere;
    for _ in 0..=markers.len() {
        let versions = place.aws.object_versions(&place.bucket, key).await?;
        let current = versions.into_iter().find(|version| version.key == key && version.current);
        match current {
            Some(version) if version.content == Content::DeleteMarker => {
                if !markers.contains(&version.id) {
                    break;
                }
                place.aws.delete_object_version(&place.bucket, key, Some(version.id.as_str())).await?;
                did = Did::MarkerRemoved;
            }
            current => return Ok((did, current)),
        }
    }
    Ok((Did::ChangedMeanwhile, None))
}

fn archived(version: &ObjectVersion) -> Option<String> {
    match &version.content {
        Content::Bytes(class) if matches!(class.as_str(), "GLACIER" | "DEEP_ARCHIVE") => {
            Some(format!("it is in {class}: nobody can read it before aws s3api restore-object"))
        }
        _ => None,
    }
}

fn line(told: &Told) -> Option<String> {
    let what = match told.did {
        // Both were shown before.
        Did::WasThere | Did::NotFound => return None,
        Did::MarkerRemoved => "brought back",
        Did::Copied => "copied",
        Did::ChangedMeanwhile => "left as it is: somebody has changed it meanwhile",
    };
    let place = told.bucket.as_ref().map(|bucket| format!("s3://{bucket}/")).unwrap_or_default();
    let version = told.version.as_ref().map(|id| format!(", version {id}")).unwrap_or_default();
    let note = told.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
    Some(format!("{what}: {place}{}{version}{note}\n", told.key))
}
