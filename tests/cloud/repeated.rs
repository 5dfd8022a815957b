//! Every changing call to AWS may be sent again by the SDK when its answer was lost: why that does no harm, call by call. A call without a line
//! fails the test, so that whoever adds one thinks of it.
use std::{collections::BTreeSet, fs, path::Path};

/// As a policy names the call, and what its second attempt meets.
const WHY: &[(&str, &str)] = &[
    ("dynamodb:CreateTable", "by name: ResourceInUseException counts as made; its settings are read back"),
    ("dynamodb:DeleteItem", "a lock: by what it says; none there counts as released"),
    ("dynamodb:PutItem", "under a condition; who is refused reads back whether it was he"),
    ("dynamodb:UpdateContinuousBackups", "says how it shall be"),
    ("dynamodb:UpdateTable", "says how it shall be; a table that takes it already is waited for"),
    ("ecr:BatchDeleteImage", "by tag: one that is gone counts as taken away"),
    ("ecr:CreateRepository", "by name: RepositoryAlreadyExistsException counts as made; its settings are read back"),
    ("ecr:PutImageScanningConfiguration", "says how it shall be"),
    ("ecr:PutImageTagMutability", "says how it shall be"),
    ("ecr:PutLifecyclePolicy", "says how it shall be"),
    ("rds:CopyDBSnapshot", "by a name that the journal holds: DBSnapshotAlreadyExists counts as started"),
    ("rds:CreateDBSnapshot", "by a name that the journal holds: DBSnapshotAlreadyExists counts as started"),
    ("rds:DeleteDBInstance", "by name: one that is gone or busy going is looked at again"),
    ("rds:DeleteDBInstanceAutomatedBackup", "by ARN: what is gone or going counts as deleted"),
    ("rds:DeleteDBSnapshot", "by name: one that is gone counts as deleted"),
    ("rds:ModifyDBInstance", "says how it shall be; of a rename, whoever is refused looks for the new name"),
    ("rds:RemoveTagsFromResource", "says how it shall be"),
    ("rds:RestoreDBInstanceFromDBSnapshot", "by name: DBInstanceAlreadyExists is looked at, where it came from"),
    ("rds:RestoreDBInstanceToPointInTime", "by name: DBInstanceAlreadyExists is looked at, where it came from"),
    ("rds:StartDBInstanceAutomatedBackupsReplication", "by instance: what is replicated already counts as started"),
    ("s3:CreateBucket", "by name: BucketAlreadyOwnedByYou counts as made"),
    ("s3:DeleteObject", "none there counts as deleted; of a versioned bucket a second delete marker hides what is hidden"),
    ("s3:DeleteObjectVersion", "by version"),
    ("s3:PutBucketOwnershipControls", "says how it shall be"),
    ("s3:PutBucketPolicy", "says how it shall be"),
    ("s3:PutBucketPublicAccessBlock", "says how it shall be"),
    ("s3:PutBucketVersioning", "says how it shall be"),
    ("s3:PutEncryptionConfiguration", "says how it shall be"),
    ("s3:PutLifecycleConfiguration", "says how it shall be"),
    ("s3:PutObject", "the same bytes, or under a condition; who is refused reads back whether it was he, or says that the key is taken"),
    ("secretsmanager:CreateSecret", "by name, with a client token: ResourceExistsException counts as made, and it is given the value"),
    ("secretsmanager:PutSecretValue", "with a client token, which the SDK makes once for all attempts"),
    ("ssm:PutParameter", "the same value, one version more"),
];

const READS: [&str; 6] = ["Get", "List", "Describe", "BatchGet", "Simulate", "Assume"];

fn changing(source: &str) -> impl Iterator<Item = &str> {
    // `failed("service:Action"` names each call as a policy does.
    source.split("failed(").skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next()).filter(|action| {
        let name = action.split(':').nth(1).unwrap_or_default();
        !READS.iter().any(|start| name.starts_with(start))
    })
}

#[test]
fn every_changing_call_may_be_sent_twice_and_says_why() {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/aws")).unwrap() {
        let source = fs::read_to_string(entry.unwrap().path()).unwrap();
        found.extend(changing(&source).map(str::to_owned));
    }
    let known: BTreeSet<String> = WHY.iter().map(|(action, _)| (*action).to_owned()).collect();
    let missing: Vec<&String> = found.difference(&known).collect();
    assert!(missing.is_empty(), "say in {} why a second attempt does no harm, or see to it that it does none: {missing:?}", file!());
    let gone: Vec<&String> = known.difference(&found).collect();
    assert!(gone.is_empty(), "these are no longer called: {gone:?}");
}
