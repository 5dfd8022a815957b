//! The names that RDS resources go by, each its own type: regions, instances, snapshots, resource ids, ARNs.
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::fault::Fault;
use crate::layout::ACCOUNT;

macro_rules! text_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// A region, like `us-east-1`.
    Region
);
text_id!(
    /// What a person calls an instance; may be renamed.
    InstanceId
);
text_id!(
    /// What a person calls a snapshot.
    SnapshotId
);
text_id!(
    /// What RDS calls an instance, for ever: `db-` and 26 letters and digits.
    ResourceId
);

fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// RDS' rule for identifiers: a letter first, letters, digits and hyphens, no two hyphens in a row, none at the end.
fn identifier(parameter: &str, text: &str, longest: usize) -> Result<String, Fault> {
    let lower = text.to_ascii_lowercase();
    let valid = is_plain(&lower)
        && lower.starts_with(|first: char| first.is_ascii_lowercase())
        && !lower.ends_with('-')
        && !lower.contains("--")
        && lower.len() <= longest;
    if valid {
        return Ok(lower);
    }
    Err(Fault::invalid_value(format!(
        "The parameter {parameter} is not a valid identifier. Identifiers must begin with a letter; must contain only ASCII letters, \
         digits, and hyphens; and must not end with a hyphen or contain two consecutive hyphens."
    )))
}

impl Region {
    /// Refuses what could not be a region's name (it becomes a folder).
    pub fn parse(text: &str) -> Result<Self, Fault> {
        if is_plain(text) { Ok(Self(text.to_owned())) } else { Err(Fault::invalid_value(format!("Invalid region: {text}"))) }
    }
}

impl InstanceId {
    /// Checks the name by RDS' rules; RDS keeps names in lower case.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        identifier("DBInstanceIdentifier", text, 63).map(Self)
    }
    /// Takes a plain name or an ARN of this region.
    pub fn from_name_or_arn(region: &Region, text: &str) -> Result<Self, Fault> {
        match Arn::parse(text) {
            Some(arn) if arn.kind == "db" && &arn.region == region => Self::parse(&arn.name),
            Some(_) => Err(Fault::instance_not_found(text)),
            None => Self::parse(text),
        }
    }
    /// Its ARN in a region.
    pub fn arn(&self, region: &Region) -> String {
        arn(region, "db", &self.0)
    }
    /// The host name that clients connect to.
    pub fn host(&self, region: &Region) -> String {
        format!("{}.sandbox.{region}.rds.amazonaws.com", self.0)
    }
}

impl SnapshotId {
    /// Checks the name by RDS' rules.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        identifier("DBSnapshotIdentifier", text, 255).map(Self)
    }
    /// Its ARN in a region.
    pub fn arn(&self, region: &Region) -> String {
        arn(region, "snapshot", &self.0)
    }
}

impl ResourceId {
    /// A new one, that no other instance has.
    pub fn generate() -> Self {
        let letters: Vec<char> = ('A'..='Z').chain('0'..='9').collect();
        let mut number = Uuid::new_v4().as_u128();
        let text: String = (0..26)
            .map(|position| {
                // A v4 UUID carries 122 random bits and 26 places need 134: fresh ones for the second half.
                if position == 13 {
                    number = Uuid::new_v4().as_u128();
                }
                let letter = letters[(number % 36) as usize];
                number /= 36;
                letter
            })
            .collect();
        Self(format!("db-{text}"))
    }
    /// Refuses what could not be a resource id (it becomes a folder).
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let valid = text.strip_prefix("db-").is_some_and(|rest| is_plain(&rest.to_ascii_lowercase()));
        if valid { Ok(Self(text.to_owned())) } else { Err(Fault::backup_not_found(text)) }
    }
    /// The supervised process' name.
    pub fn process(&self) -> String {
        format!("rds-{}", self.0.to_ascii_lowercase())
    }
    /// The ARN of its automated backup in a region.
    pub fn backup_arn(&self, region: &Region) -> String {
        arn(region, "auto-backup", &self.0.to_ascii_lowercase().replacen("db-", "ab-", 1))
    }
}

/// An RDS ARN taken apart.
#[derive(Debug, PartialEq, Eq)]
pub struct Arn {
    /// Where the resource is.
    pub region: Region,
    /// `db`, `snapshot`, `subgrp`, `pg`, `auto-backup`.
    pub kind: String,
    /// The resource's name.
    pub name: String,
}

impl Arn {
    /// `arn:aws:rds:REGION:ACCOUNT:KIND:NAME`, of this account.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("arn:aws:rds:")?.splitn(4, ':');
        let (region, account, kind, name) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if account != ACCOUNT {
            return None;
        }
        Some(Self { region: Region::parse(region).ok()?, kind: kind.to_owned(), name: name.to_owned() })
    }
}

/// The ARN of a resource in this account.
pub fn arn(region: &Region, kind: &str, name: &str) -> String {
    format!("arn:aws:rds:{region}:{ACCOUNT}:{kind}:{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_follow_rds_rules() {
        assert_eq!(InstanceId::parse("Deployctl-Sandbox").unwrap().as_str(), "deployctl-sandbox");
        for wrong in ["", "1a", "a--b", "a-", "a_b", "../a", &"a".repeat(64)] {
            assert!(InstanceId::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn arns_round_trip_and_foreign_accounts_are_not_ours() {
        let region = Region::parse("us-east-1").unwrap();
        let parsed = Arn::parse(&SnapshotId::parse("before").unwrap().arn(&region)).unwrap();
        assert_eq!(parsed, Arn { region, kind: "snapshot".into(), name: "before".into() });
        assert_eq!(Arn::parse("arn:aws:rds:us-east-1:999999999999:snapshot:before"), None);
    }

    #[test]
    fn resource_ids_look_like_rds_ones() {
        let id = ResourceId::generate();
        assert_eq!(id.as_str().len(), 29);
        assert!(ResourceId::parse(id.as_str()).is_ok());
        assert!(ResourceId::parse("db-../../etc").is_err());
    }
}
