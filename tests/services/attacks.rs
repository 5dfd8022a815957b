//! Eight attacks on a pre-signed URL, against the real uploader: each is refused for its own reason, and stores nothing.
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::place::{BUCKET, Place};

const BODY: &[u8] = b"id,name\n1,a\n";
const TOKEN: &str = "the-token-of-the-test";

struct Caller<'a> {
    place: &'a Place,
    http: Client,
    base: String,
}

/// A signed request, to be changed.
#[derive(Clone)]
struct Signed {
    key: String,
    url: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Signed {
    fn set(mut self, name: &str, value: &str) -> Self {
        let header = self.headers.iter_mut().find(|(known, _)| known == name);
        header.unwrap_or_else(|| panic!("{name} is not signed")).1 = value.to_owned();
        self
    }
    fn to(mut self, from: &str, to: &str) -> Self {
        assert!(self.url.contains(from), "{} has no {from}", self.url);
        self.url = self.url.replace(from, to);
        self
    }
    fn with(mut self, body: &[u8]) -> Self {
        body.clone_into(&mut self.body);
        self
    }
}

pub async fn are_refused(place: &Place) {
    let tokens = place.home.join("tokens");
    std::fs::write(&tokens, format!("shop:{}\n", hex::encode(Sha256::digest(TOKEN)))).unwrap();
    let mut uploader = place.uploader(1, &tokens).started().await;
    let mut brief = place.uploader(2, &tokens).with("UPLOADER_URL_SECONDS", 1).started().await;
    let caller = |port: u16| Caller { place, http: Client::new(), base: format!("http://127.0.0.1:{port}/v1/uploads") };
    let (caller, brief_caller) = (caller(9201), caller(9202));

    let other = caller.begin().await;
    let forbidden = (StatusCode::FORBIDDEN, "SignatureDoesNotMatch");
    // Each begins anew, so that none is refused for what another one has left.
    let signed = caller.begin().await;
    let mut tampered = signed.key.clone();
    let last = if tampered.pop() == Some('0') { '1' } else { '0' };
    tampered.push(last);
    caller.refused("a tampered key", signed.clone().to(&signed.key, &tampered), &tampered, forbidden).await;
    let signed = caller.begin().await;
    let longer = signed.clone().to("X-Amz-Expires=600", "X-Amz-Expires=604800");
    caller.refused("a tampered expiry", longer, &signed.key, forbidden).await;
    let signed = caller.begin().await;
    caller.refused("another type", signed.clone().set("content-type", "text/html"), &signed.key, forbidden).await;
    let signed = caller.begin().await;
    let longer = [BODY, b"2,b\n"].concat();
    caller.refused("a longer body", signed.clone().with(&longer), &signed.key, forbidden).await;
    let signed = brief_caller.begin().await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    caller.refused("an expired URL", signed.clone(), &signed.key, (StatusCode::FORBIDDEN, "expired")).await;
    let signed = caller.begin().await;
    caller.refused("another upload's key", signed.clone().to(&signed.key, &other.key), &other.key, forbidden).await;
    let signed = caller.begin().await;
    let others = b"id,name\n2,b\n";
    caller.refused("other bytes", signed.clone().with(others), &signed.key, (StatusCode::BAD_REQUEST, "BadDigest")).await;
    let hash = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, Sha256::digest(others));
    let fitting = signed.clone().with(others).set("x-amz-checksum-sha256", &hash);
    caller.refused("other bytes with their own checksum", fitting, &signed.key, forbidden).await;

    // The same request as it was signed is taken: nothing above was refused for anything else. And it is taken once.
    let (status, said) = caller.send(&other).await;
    assert_eq!(status, StatusCode::OK, "{said}");
    let (status, said) = caller.send(&other).await;
    assert_eq!(status, StatusCode::PRECONDITION_FAILED, "it overwrote: {said}");
    let stored = place.s3.get_object().bucket(BUCKET).key(&other.key).send().await.unwrap();
    assert_eq!(stored.body.collect().await.unwrap().to_vec(), BODY);
    let versions = place.s3.list_object_versions().bucket(BUCKET).prefix(&other.key).send().await.unwrap();
    assert_eq!(versions.versions().len(), 1, "one version, never overwritten");
    // Taken away: for the parsers of the other parts it was never announced.
    place.s3.delete_object().bucket(BUCKET).key(&other.key).send().await.unwrap();
    for uploader in [&mut uploader, &mut brief] {
        uploader.terminate(Duration::from_secs(30)).await;
    }
    eprintln!("eight attacks on a signed URL, all refused; the URL itself is taken once");
}

impl Caller<'_> {
    async fn begin(&self) -> Signed {
        let asked = json!({ "filename": "a.csv", "content_type": "text/csv", "size_bytes": BODY.len(), "sha256": hex::encode(Sha256::digest(BODY)) });
        let answer = self.http.post(&self.base).bearer_auth(TOKEN).json(&asked).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        let begun: Value = answer.json().await.unwrap();
        let put = &begun["put"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let headers = put["headers"].as_object().unwrap().iter().map(|(name, value)| (name.to_lowercase(), text(value)));
        Signed { key: text(&begun["key"]), url: text(&put["url"]), headers: headers.collect(), body: BODY.to_vec() }
    }

    async fn send(&self, signed: &Signed) -> (StatusCode, String) {
        let mut request = self.http.request(Method::PUT, &signed.url);
        for (name, value) in signed.headers.iter().filter(|(name, _)| !["content-length", "host"].contains(&name.as_str())) {
            request = request.header(name, value);
        }
        let answer = request.body(signed.body.clone()).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    /// Refused with this status, for this reason, and nothing is stored under the key that it was meant for.
    async fn refused(&self, what: &str, attack: Signed, key: &str, (status, reason): (StatusCode, &str)) {
        let (answered, said) = self.send(&attack).await;
        assert!(answered == status && said.contains(reason), "{what}: {answered} {said}");
        let head = self.place.s3.head_object().bucket(BUCKET).key(key).send().await;
        assert!(head.is_err_and(|error| error.raw_response().is_some_and(|response| response.status().as_u16() == 404)), "{what}: stored");
    }
}
