//! The registry: an image pushed to ministack's ECR through the proxy.
use std::time::Duration;

use deployctl::{
    failure::Failure,
    ids::RepositoryName,
    image::{Blob, Image, Registry},
};

use crate::{
    aws::{ASKED, Cell, World},
    http_proxy::Fault,
    proof::{Proof, ensure, prove},
    table::{Kind, Row},
};

fn repository(name: &str) -> RepositoryName {
    RepositoryName::parse(name).unwrap()
}

/// One blob of a megabyte, no two alike.
fn image(name: &str) -> Image {
    let blob = Blob::new(name.repeat(1024 * 1024 / name.len()).into_bytes()).unwrap();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": blob.digest, "size": blob.bytes.len()},
        "layers": [],
    });
    let manifest = Blob::new(manifest.to_string().into_bytes()).unwrap();
    Image { blobs: vec![blob], manifest, media_type: "application/vnd.oci.image.manifest.v1+json".to_owned() }
}

fn needles(call: &str, name: &str) -> Vec<String> {
    let word = match call {
        "ask-blob" => format!("HEAD /v2/{name}/blobs/sha256"),
        "start-upload" => format!("POST /v2/{name}/blobs/uploads"),
        "push-blob" => format!("PUT /v2/{name}/blobs/uploads"),
        "push-manifest" => format!("PUT /v2/{name}/manifests"),
        "find" => format!("GET /v2/{name}/manifests"),
        "read-manifest" => format!("GET /v2/{name}/manifests/sha256"),
        other => panic!("no such call: {other}"),
    };
    vec![word]
}

fn fault(row: &Row) -> Fault {
    let answer = |status: u16, headers| Fault::Answer { status, headers, body: "a fault".to_owned() };
    match row.kind {
        Kind::Throttled => answer(429, Vec::new()),
        Kind::RetryAfter => answer(429, vec![("retry-after", ASKED.as_secs().to_string())]),
        Kind::ServerError => answer(500, Vec::new()),
        Kind::Silent => Fault::Silent,
        Kind::Reset => Fault::Reset,
        Kind::CutRequest => Fault::CutRequest,
        Kind::LostAnswer => Fault::LostAnswer,
        Kind::CutAnswer => Fault::CutAnswer,
        Kind::Slow => Fault::Slow(Duration::from_secs(4)),
        Kind::Refused => panic!("nobody listens: no request meets it"),
    }
}

/// Pushes under a tag and reads back, whatever the line is about.
async fn push(world: &World, name: &str) -> Result<(), Failure> {
    let registry = Registry::connect(&world.aws).await?;
    let image = image(name);
    let pushed = registry.push(&repository(name), &image, &["src-1".to_owned()]).await?;
    let found = registry.find(&repository(name), "src-1").await?;
    ensure(pushed.digest == image.manifest.digest && found == Some(pushed.digest), "the image is there under its tag")
}

pub async fn prove_one(world: &World, cell: &Cell) -> Proof {
    let Cell { row, name } = cell;
    world.aws.ensure_repository(&repository(name), &Default::default()).await.unwrap();
    let attempts = world.proxy.strike_as(row, needles(row.call, name), fault).await;
    prove(row, push(world, name), attempts).await
}
