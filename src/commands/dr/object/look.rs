//! What there is of objects that shall come back, and which way each takes. Deciding is pure.
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;

use super::{PARALLEL, Place};
use crate::{
    aws::object_version::{Content, ObjectVersion},
    cli::ObjectRestoreArgs,
    failure::Failure,
    ids::{BucketName, ObjectVersionId},
    steps::restore::choice::whole_second,
};

/// Which objects.
pub(super) enum Wanted {
    /// These.
    Keys(BTreeSet<String>),
    /// All below a prefix that are deleted, since a moment or at any time.
    Below { prefix: String, since: Option<Timestamp> },
}

impl Wanted {
    /// A key may be given as it stands in a listing, `s3://BUCKET/KEY`, if the bucket is one of the environment's.
    pub fn of<'b>(args: &ObjectRestoreArgs, buckets: impl Iterator<Item = &'b BucketName> + Clone) -> Result<Self, Failure> {
        let key = |text: &String| match text.strip_prefix("s3://") {
            None => Ok(text.trim_start_matches('/').to_owned()),
            Some(rest) => match rest.split_once('/') {
                Some((bucket, key)) if buckets.clone().any(|ours| ours.as_str() == bucket) && !key.is_empty() => Ok(key.to_owned()),
                _ => Err(Failure::usage(format!("{text} is no object in a bucket that is looked at"))
                    .evidence(buckets.clone().map(|bucket| format!("s3://{bucket}/…")).collect::<Vec<_>>().join("\n"))),
            },
        };
        match &args.prefix {
            Some(prefix) => Ok(Self::Below { prefix: key(prefix)?, since: args.deleted_since.map(whole_second) }),
            None => Ok(Self::Keys(args.keys.iter().map(key).collect::<Result<_, _>>()?)),
        }
    }
}

/// Versions by key.
pub(super) type Versions = BTreeMap<String, Vec<ObjectVersion>>;

fn by_key(versions: impl IntoIterator<Item = ObjectVersion>) -> Versions {
    let mut found = Versions::new();
    for version in versions {
        found.entry(version.key.clone()).or_default().push(version);
    }
    found
}

/// Asks a bucket.
pub(super) async fn versions(place: &Place, wanted: &Wanted) -> Result<Versions, Failure> {
    match wanted {
        Wanted::Below { prefix, .. } => Ok(by_key(place.aws.object_versions(&place.bucket, prefix).await?)),
        Wanted::Keys(keys) => {
            let asked = stream::iter(keys).map(|key| async move {
                let found = place.aws.object_versions(&place.bucket, key).await?;
                // A prefix finds longer keys too.
                Ok::<_, Failure>(found.into_iter().filter(|version| version.key == *key).collect::<Vec<_>>())
            });
            let found: Vec<Vec<ObjectVersion>> = asked.buffered(PARALLEL).try_collect().await?;
            Ok(by_key(found.into_iter().flatten()))
        }
    }
}

/// How an object comes back in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It is there.
    There(ObjectVersion),
    /// By taking these markers away; then this version is current.
    Uncover { version: ObjectVersion, markers: Vec<ObjectVersionId> },
    /// By a copy of this version in another bucket.
    Copy { from: BucketName, version: ObjectVersion },
    /// Not at all.
    Nowhere,
}

/// An object in a bucket, and what can be done; no bucket if none has it.
pub(super) struct Found {
    pub key: String,
    pub place: Option<Place>,
    pub way: Way,
}

/// In the bucket itself. S3 lists the newest first, and its times are whole seconds.
fn way(versions: &[ObjectVersion]) -> Way {
    let is_marker = |version: &&ObjectVersion| version.content == Content::DeleteMarker;
    let Some(newest) = versions.iter().rev().filter(|version| !is_marker(version)).max_by_key(|version| version.at) else {
        return Way::Nowhere;
    };
    match versions.iter().find(|version| version.current) {
        Some(current) if !is_marker(&current) => Way::There(current.clone()),
        // Of markers within the same second some may be older: they are never current, and only what is current is taken away.
        _ => {
            let hides = |version: &&ObjectVersion| is_marker(version) && (version.current || version.at >= newest.at);
            Way::Uncover { version: newest.clone(), markers: versions.iter().filter(hides).map(|version| version.id.clone()).collect() }
        }
    }
}

/// Deleted, and no longer ago than that.
fn deleted_since(versions: &[ObjectVersion], since: Option<Timestamp>) -> bool {
    let hidden = versions.iter().find(|version| version.current && version.content == Content::DeleteMarker);
    hidden.is_some_and(|marker| since.is_none_or(|since| marker.at >= since))
}

/// A bucket and what is in it.
type Side<'s> = Option<(&'s Place, &'s Versions)>;

fn of<'s>(side: Side<'s>, key: &str) -> &'s [ObjectVersion] {
    side.and_then(|(_, versions)| versions.get(key)).map(Vec::as_slice).unwrap_or_default()
}

/// Every object with its way, in each bucket where something is to be done or said.
pub(super) fn decide(wanted: &Wanted, home: Side<'_>, replica: Side<'_>) -> Vec<Found> {
    let known: BTreeSet<&String> = [home, replica].into_iter().flatten().flat_map(|(_, versions)| versions.keys()).collect();
    let keys: Vec<&String> = match wanted {
        Wanted::Keys(keys) => keys.iter().collect(),
        Wanted::Below { since, .. } => {
            let gone = |key: &String| home.is_some() && since.is_none() && way(of(home, key)) == Way::Nowhere;
            let deleted = |key: &String| deleted_since(of(home, key), *since) || deleted_since(of(replica, key), *since);
            known.into_iter().filter(|key| gone(key) || deleted(key)).collect()
        }
    };
    let mut found = Vec::new();
    for key in keys {
        let (here, there) = (way(of(home, key)), way(of(replica, key)));
        let newest_there = match &there {
            Way::There(version) | Way::Uncover { version, .. } => replica.map(|(place, _)| (place.bucket.clone(), version.clone())),
            _ => None,
        };
        let add = |side: Side<'_>, way: Way| Found { key: key.clone(), place: side.map(|(place, _)| place.clone()), way };
        match (home, here, newest_there) {
            (None, _, None) | (Some(_), Way::Nowhere, None) => found.push(add(None, Way::Nowhere)),
            (Some(_), Way::Nowhere, Some((from, version))) => found.push(add(home, Way::Copy { from, version })),
            (Some(_), here, _) => found.push(add(home, here)),
            (None, _, Some(_)) => {}
        }
        // Taking a marker away is not replicated, so it is done in both; what is there in the replica is worth a word only without the other.
        if matches!(there, Way::Uncover { .. }) || (home.is_none() && matches!(there, Way::There(_))) {
            found.push(add(replica, there));
        }
    }
    found
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.place.as_ref().map(|place| format!("s3://{}/", place.bucket)).unwrap_or_default();
        write!(f, "{place}{}: ", self.key)?;
        match &self.way {
            Way::There(version) => write!(f, "is there since {} (version {}); left as it is", version.at, version.id),
            Way::Uncover { version, markers } => {
                let goes =
                    if markers.len() == 1 { "its delete marker goes".to_owned() } else { format!("{} delete markers go", markers.len()) };
                write!(f, "version {} of {} comes back: {goes}", version.id, version.at)
            }
            Way::Copy { from, version } => write!(f, "version {} of {} is copied from s3://{from}", version.id, version.at),
            Way::Nowhere => f.write_str("NOT FOUND: no version of it is left"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn version(id: &str, second: u32, current: bool, content: Content) -> ObjectVersion {
        let at = format!("2026-11-29T03:00:{second:02}Z").parse().unwrap();
        ObjectVersion { key: "uploads/a".into(), id: ObjectVersionId::parse(id).unwrap(), at, current, content }
    }

    fn bytes(id: &str, second: u32, current: bool) -> ObjectVersion {
        version(id, second, current, Content::Bytes("STANDARD".into()))
    }

    fn marker(id: &str, second: u32, current: bool) -> ObjectVersion {
        version(id, second, current, Content::DeleteMarker)
    }

    fn ids(texts: &[&str]) -> Vec<ObjectVersionId> {
        texts.iter().map(|text| ObjectVersionId::parse(*text).unwrap()).collect()
    }

    #[test]
    fn the_newest_version_comes_back_from_under_every_marker_above_it() {
        let there = [bytes("v1", 1, false), marker("m1", 2, false), bytes("v2", 3, true)];
        assert_eq!(way(&there), Way::There(there[2].clone()), "an object that was written again stays");
        let twice = [marker("m3", 9, true), marker("m2", 8, false), bytes("v2", 3, false), marker("m1", 2, false), bytes("v1", 1, false)];
        assert_eq!(way(&twice), Way::Uncover { version: twice[2].clone(), markers: ids(&["m3", "m2"]) }, "m1 hides nothing but v1");
        let within_a_second = [bytes("v1", 4, false), marker("m1", 4, true)];
        assert_eq!(way(&within_a_second), Way::Uncover { version: within_a_second[0].clone(), markers: ids(&["m1"]) });
        assert_eq!(way(&[marker("m1", 2, true)]), Way::Nowhere, "a marker alone hides nothing");
        assert_eq!(way(&[]), Way::Nowhere);
    }

    #[test]
    fn what_was_deleted_before_the_accident_stays_deleted() {
        let deleted = [bytes("v1", 1, false), marker("m1", 20, true)];
        let since = |second: u32| Some(format!("2026-11-29T03:00:{second:02}Z").parse().unwrap());
        assert!(deleted_since(&deleted, None) && deleted_since(&deleted, since(20)));
        assert!(!deleted_since(&deleted, since(21)) && !deleted_since(&deleted[..1], None));
    }

    #[test]
    fn a_key_is_taken_as_a_listing_shows_it() {
        let args = |text: &str| ObjectRestoreArgs { keys: vec![text.to_owned()], prefix: None, deleted_since: None, to: None };
        let ours = BucketName::parse("deployctl-sandbox-uploads-111122223333").unwrap();
        let key = |text: &str| match Wanted::of(&args(text), [&ours].into_iter())? {
            Wanted::Keys(keys) => Ok(keys.into_iter().next().unwrap()),
            Wanted::Below { prefix, .. } => Ok::<_, Failure>(prefix),
        };
        assert_eq!(key("uploads/a b.csv").unwrap(), "uploads/a b.csv");
        assert_eq!(key("s3://deployctl-sandbox-uploads-111122223333/uploads/a").unwrap(), "uploads/a");
        assert!(key("s3://another/uploads/a").is_err());
    }
}
