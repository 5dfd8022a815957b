//! Everything that deployctl leaves where others can read it: files, states, objects of the cluster, logs, layers of images.
use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    io::Read as _,
    path::Path,
};

use serde_json::Value;

use super::{
    commands::block_on,
    target::{Target, text},
};

/// Contents by place.
pub type Places = BTreeMap<String, Vec<u8>>;

/// All of it.
pub fn all(target: &Target) -> Places {
    let mut places = Places::new();
    // The second one has the logs of every pod, of the sandbox's parts and of all requests.
    for folder in [target.state(), &Path::new(target.variable("KUBECONFIG")).with_file_name("log")] {
        files(folder, &mut places);
    }
    states(target, &mut places);
    objects(target, &mut places);
    let before = places.len();
    layers(target, &mut places);
    assert!(places.len() > before + 5, "images have layers");
    places
}

/// Every file below a folder.
pub fn files(folder: &Path, places: &mut Places) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.read_link().is_err() {
            files(&path, places);
        } else if path.is_file() {
            places.insert(path.display().to_string(), std::fs::read(&path).unwrap());
        }
    }
}

/// What is in the state buckets, of both regions if there are two.
fn states(target: &Target, places: &mut Places) {
    let client = target.s3("us-east-1");
    block_on(async {
        let mut found = 0;
        for region in ["us-east-1", "eu-west-1"] {
            let bucket = format!("deployctl-sandbox-state-111122223333-{region}");
            let Ok(listed) = client.list_objects_v2().bucket(&bucket).send().await else { continue };
            for key in listed.contents().iter().filter_map(|object| object.key()) {
                let body = client.get_object().bucket(&bucket).key(key).send().await.unwrap().body.collect().await.unwrap();
                places.insert(format!("s3://{bucket}/{key}"), body.to_vec());
                found += 1;
            }
        }
        assert!(found >= 4, "a state for each stack");
    });
}

/// Every object of every kind; of Secrets, which are there to hold values, all but the values.
fn objects(target: &Target, places: &mut Places) {
    let kubectl = |args: &[&str]| {
        let output = target.command(Path::new("kubectl")).args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let kinds = kubectl(&["api-resources", "--verbs=list", "-o", "name"]);
    let kinds: BTreeSet<&str> = kinds.lines().filter(|kind| *kind != "secrets").collect();
    assert!(kinds.len() > 20, "{kinds:?}");
    for kind in kinds {
        // Some kinds are answered by nobody, as metrics are without a metrics server.
        let output = target.command(Path::new("kubectl")).args(["get", kind, "-A", "-o", "yaml"]).output().unwrap();
        places.insert(format!("kubectl get {kind}"), output.stdout);
    }
    let about = kubectl(&["get", "secrets", "-A", "-o", "jsonpath={range .items[*]}{.metadata}{\"\\n\"}{end}"]);
    assert!(about.lines().count() > 3, "{about}");
    places.insert("metadata of Secrets".to_owned(), about.into_bytes());
}

/// Every configuration and, unpacked, every layer of the images that were pushed.
fn layers(target: &Target, places: &mut Places) {
    let ecr = aws_sdk_ecr::Client::new(&target.sdk("us-east-1"));
    block_on(async {
        let login = ecr.get_authorization_token().send().await.unwrap();
        let login = login.authorization_data()[0].authorization_token().unwrap().to_owned();
        let get = async |path: String, accept: &str| {
            let url = format!("{}/v2/{path}", target.variable("AWS_ENDPOINT_URL"));
            let request = reqwest::Client::new().get(url).header("authorization", format!("Basic {login}")).header("accept", accept);
            request.send().await.unwrap().error_for_status().unwrap().bytes().await.unwrap().to_vec()
        };
        let repositories = ecr.describe_repositories().send().await.unwrap();
        for repository in repositories.repositories().iter().filter_map(|repository| repository.repository_name()) {
            let images = ecr.describe_images().repository_name(repository).send().await.unwrap();
            for digest in images.image_details().iter().filter_map(|image| image.image_digest()) {
                let manifest = get(format!("{repository}/manifests/{digest}"), "application/vnd.oci.image.manifest.v1+json").await;
                let value: Value = serde_json::from_slice(&manifest).unwrap();
                places.insert(format!("{repository}@{digest}"), manifest);
                let layers = value["layers"].as_array().into_iter().flatten();
                for blob in layers.chain([&value["config"]]).filter_map(|blob| blob["digest"].as_str()) {
                    // The same layer is in many images.
                    if let Entry::Vacant(place) = places.entry(format!("layer {blob}")) {
                        place.insert(unpacked(get(format!("{repository}/blobs/{blob}"), "*/*").await));
                    }
                }
            }
        }
    });
}

fn unpacked(blob: Vec<u8>) -> Vec<u8> {
    let mut plain = Vec::new();
    if blob.starts_with(&[0x1f, 0x8b]) {
        flate2::read::MultiGzDecoder::new(&blob[..]).read_to_end(&mut plain).unwrap();
        return plain;
    }
    blob
}
