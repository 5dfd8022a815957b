//! Both services as their callers meet them: uploads and attacks through the load balancer, good, bad and doubled files for the parser.
use std::{
    path::Path,
    time::{Duration, Instant},
};

use aws_sdk_sqs::{config::Credentials, types::QueueAttributeName};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::target::{Target, text};

/// Longest time for a file to be parsed, or to be given up.
const DEADLINE: Duration = Duration::from_secs(60);

/// Everything below, from inside the sandbox's network: the load balancer is internal.
pub fn are_real(target: &Target, token: &str) {
    let services = Services::of(target, token);
    target.inside(async {
        services.strangers_are_refused().await;
        services.a_signed_url_takes_one_file_and_nothing_else().await;
        services.files_become_rows().await;
        services.parts_become_one_file().await;
        services.a_bad_file_ends_in_the_dead_letter_queue().await;
    });
}

/// What happens to services once in a blue moon, so that each of their permissions is used.
pub fn meet_the_rare(target: &Target, token: &str) {
    let services = Services::of(target, token);
    let small = small_uploader(target);
    target.inside(async {
        services.parts_of_too_much_are_given_up(&small).await;
        services.a_file_that_is_being_read_comes_again().await;
    });
}

/// A pod of the uploader's own, but for a limit that every upload in parts is beyond; gives its address.
fn small_uploader(target: &Target) -> String {
    let deployment: Value = serde_json::from_str(&target.kubectl(&["-n", "apps", "get", "deployment", "uploader", "-o", "json"])).unwrap();
    let mut spec = deployment["spec"]["template"]["spec"].clone();
    let limit = json!({ "name": "UPLOADER_LARGEST_BYTES", "value": "1000" });
    spec["containers"][0]["env"].as_array_mut().unwrap().push(limit);
    let name = "uploader-small";
    // No label of the uploader's: its Service must not find it.
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "namespace": "apps" }, "spec": spec });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pod.to_string()).unwrap();
    target.kubectl(&["apply", "-f", file.path().to_str().unwrap()]);
    target.kubectl(&["-n", "apps", "wait", "pod", name, "--for=condition=Ready", "--timeout=60s"]);
    target.kubectl(&["-n", "apps", "get", "pod", name, "-o", "jsonpath={.status.podIP}"])
}

struct Services<'a> {
    target: &'a Target,
    base: String,
    token: String,
    http: Client,
}

/// What is asked of the uploader for these bytes.
fn asked(filename: &str, content_type: &str, body: &[u8]) -> Value {
    json!({ "filename": filename, "content_type": content_type, "size_bytes": body.len(), "sha256": hex::encode(Sha256::digest(body)) })
}

impl<'a> Services<'a> {
    fn of(target: &'a Target, token: &str) -> Self {
        let ingress = ["-n", "apps", "get", "ingress", "uploader", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}"];
        let address = text(&target.command(Path::new("kubectl")).args(ingress).output().unwrap());
        Services { target, base: format!("http://{address}/v1/uploads"), token: token.to_owned(), http: Client::new() }
    }

    async fn begin(&self, asked: &Value) -> Value {
        let response = self.http.post(&self.base).bearer_auth(&self.token).json(asked).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::CREATED);
        response.json().await.unwrap()
    }

    /// Sends a signed request as it is, but for what the test changes.
    async fn send(&self, signed: &Value, url: &str, header: Option<(&str, &str)>, body: Vec<u8>) -> StatusCode {
        let method: Method = signed["method"].as_str().unwrap().parse().unwrap();
        let mut request = self.http.request(method, url);
        for (name, value) in signed["headers"].as_object().unwrap() {
            let value =
                header.filter(|(changed, _)| changed.eq_ignore_ascii_case(name)).map_or(value.as_str().unwrap(), |(_, value)| value);
            if !name.eq_ignore_ascii_case("content-length") && !name.eq_ignore_ascii_case("host") {
                request = request.header(name, value);
            }
        }
        request.body(body).send().await.unwrap().status()
    }

    async fn upload(&self, filename: &str, content_type: &str, body: &[u8]) -> String {
        let begun = self.begin(&asked(filename, content_type, body)).await;
        let url = begun["put"]["url"].as_str().unwrap();
        assert_eq!(self.send(&begun["put"], url, None, body.to_vec()).await, StatusCode::OK);
        begun["key"].as_str().unwrap().to_owned()
    }

    async fn strangers_are_refused(&self) {
        let good = asked("a.csv", "text/csv", b"a\n1\n");
        let nobody = self.http.post(&self.base).json(&good).send().await.unwrap();
        assert_eq!(nobody.status(), StatusCode::UNAUTHORIZED);
        let guessed = self.http.post(&self.base).bearer_auth("guessed").json(&good).send().await.unwrap();
        assert_eq!(guessed.status(), StatusCode::UNAUTHORIZED);
        let huge = json!({ "filename": "a", "content_type": "text/csv", "size_bytes": u64::MAX / 2, "sha256": "0".repeat(64) });
        let huge = self.http.post(&self.base).bearer_auth(&self.token).json(&huge).send().await.unwrap();
        assert_eq!(huge.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let other = format!("{}/{}", self.base, uuid::Uuid::now_v7());
        let other = self.http.get(other).bearer_auth(&self.token).send().await.unwrap();
        assert_eq!(other.status(), StatusCode::NOT_FOUND);
    }

    async fn a_signed_url_takes_one_file_and_nothing_else(&self) {
        let body = b"id,name\n1,a\n".to_vec();
        let begun = self.begin(&asked("signed.csv", "text/csv", &body)).await;
        let (signed, url, id) = (&begun["put"], begun["put"]["url"].as_str().unwrap(), begun["id"].as_str().unwrap());
        let refused = |what: &str, status: StatusCode| assert!(status.is_client_error(), "{what}: {status}");
        refused("another key", self.send(signed, &url.replace(id, "0"), None, body.clone()).await);
        refused("another type", self.send(signed, url, Some(("content-type", "text/html")), body.clone()).await);
        refused("a longer body", self.send(signed, url, None, [&body[..], b"2,b\n"].concat()).await);
        refused("other bytes", self.send(signed, url, None, b"id,name\n2,b\n".to_vec()).await);
        refused("another checksum", self.send(signed, url, Some(("x-amz-meta-sha256", &"0".repeat(64))), body.clone()).await);
        assert_eq!(self.send(signed, url, None, body.clone()).await, StatusCode::OK);
        assert_eq!(self.send(signed, url, None, body.clone()).await, StatusCode::PRECONDITION_FAILED, "it never overwrites");
        let stored: Value =
            self.http.get(format!("{}/{id}", self.base)).bearer_auth(&self.token).send().await.unwrap().json().await.unwrap();
        assert_eq!(stored["size_bytes"], body.len());
        self.log_says(begun["key"].as_str().unwrap(), &[("accepted", 1), ("rejected", 0)]).await;
    }

    async fn files_become_rows(&self) {
        let csv = self.upload("mixed.csv", "text/csv", b"id,name\n1,a\n2\n3,\xff\xfe\n4,d\n").await;
        self.log_says(&csv, &[("accepted", 2), ("rejected", 2)]).await;
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut packed, b"{\"id\":1}\n{\"id\":2}\nnot json\n{\"id\":3}\n").unwrap();
        let packed = packed.finish().unwrap();
        let ndjson = self.upload("rows.ndjson.gz", "application/x-ndjson", &packed).await;
        self.log_says(&ndjson, &[("accepted", 3), ("rejected", 1)]).await;
        // SQS delivers at least once; the second time nothing is written.
        let again = self.announcement(&csv).await;
        self.sqs().send_message().queue_url(self.queue("parser").await).message_body(again.to_string()).send().await.unwrap();
        self.log_has("already parsed", &csv).await;
    }

    /// What S3 says of an object.
    async fn announcement(&self, key: &str) -> Value {
        json!({ "Records": [{
            "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "eventVersion": "2.1", "awsRegion": "us-east-1",
            "s3": { "bucket": { "name": self.bucket() }, "object": { "key": key, "size": 1, "versionId": self.version(key).await } },
        }] })
    }

    /// The test holds the file's lock, as another parser in the middle of it would.
    async fn a_file_that_is_being_read_comes_again(&self) {
        let key = self.upload("again.csv", "text/csv", b"id\n1\n").await;
        self.log_says(&key, &[("accepted", 1)]).await;
        let (key, message) = (&key, self.announcement(&key).await);
        let url = format!("s3://{}/{key}?versionId={}", self.bucket(), self.version(key).await.unwrap());
        let (lock, _) = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, url.as_bytes()).as_u64_pair();
        let hold = format!("SELECT pg_advisory_lock({}), pg_sleep(5)", lock.cast_signed());
        let mut reader = self.target.sandbox_started(&["exec", "psql", "-Atc", &hold]);
        let held = ["exec", "psql", "-Atc", "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"];
        let end = Instant::now() + DEADLINE;
        while text(&self.target.sandbox(&held)).trim() == "0" {
            assert!(Instant::now() < end, "the lock is not taken");
        }
        self.sqs().send_message().queue_url(self.queue("parser").await).message_body(message.to_string()).send().await.unwrap();
        while !self.log().contains("the file is being read already") {
            assert!(Instant::now() < end, "{}", self.log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(reader.wait().unwrap().success());
    }

    async fn parts_become_one_file(&self) {
        let row = format!("{{\"filler\":\"{}\"}}\n", "x".repeat(64 * 1024));
        let rows = 65 * 1024 * 1024 / row.len() + 1;
        let body = row.repeat(rows).into_bytes();
        let begun = self.begin(&asked("large.ndjson", "application/x-ndjson", &body)).await;
        let mut etags = Vec::new();
        let mut from = 0;
        for part in begun["multipart"]["parts"].as_array().unwrap() {
            let size = usize::try_from(part["size_bytes"].as_u64().unwrap()).unwrap();
            let response = self.http.put(part["url"].as_str().unwrap()).body(body[from..from + size].to_vec()).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            etags.push(json!({ "number": part["number"], "etag": response.headers()["etag"].to_str().unwrap() }));
            from += size;
        }
        assert_eq!(from, body.len());
        let url = format!("{}/{}/complete", self.base, begun["id"].as_str().unwrap());
        let complete = json!({ "upload_id": begun["multipart"]["upload_id"], "parts": etags });
        let response = self.http.post(url).bearer_auth(&self.token).json(&complete).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{}", response.text().await.unwrap());
        self.log_says(begun["key"].as_str().unwrap(), &[("accepted", rows as u64), ("rejected", 0)]).await;
    }

    /// What was uploaded in parts may be more than was said: it is not put together, and none of it is kept.
    async fn parts_of_too_much_are_given_up(&self, small: &str) {
        let size = 65 * 1024 * 1024;
        let asked = json!({ "filename": "grown.csv", "content_type": "text/csv", "size_bytes": size, "sha256": "0".repeat(64) });
        let begun = self.begin(&asked).await;
        let part = &begun["multipart"]["parts"][0];
        let body = vec![b'x'; usize::try_from(part["size_bytes"].as_u64().unwrap()).unwrap()];
        let sent = self.http.put(part["url"].as_str().unwrap()).body(body).send().await.unwrap();
        let parts = json!([{ "number": part["number"], "etag": sent.headers()["etag"].to_str().unwrap() }]);
        let complete = json!({ "upload_id": begun["multipart"]["upload_id"], "parts": parts });
        let path = format!("v1/uploads/{}/complete", begun["id"].as_str().unwrap());
        let at = async |base: &str| {
            let request = self.http.post(format!("{base}/{path}")).bearer_auth(&self.token).json(&complete);
            request.send().await.unwrap().status()
        };
        assert_eq!(at(&format!("http://{small}:8080")).await, StatusCode::PAYLOAD_TOO_LARGE);
        let base = self.base.trim_end_matches("/v1/uploads");
        assert_eq!(at(base).await, StatusCode::NOT_FOUND, "its parts are gone");
        let delete = ["-n", "apps", "delete", "pod", "uploader-small", "--wait=false"];
        assert!(self.target.command(Path::new("kubectl")).args(delete).status().unwrap().success());
    }

    async fn a_bad_file_ends_in_the_dead_letter_queue(&self) {
        let key = self.upload("broken.csv.gz", "text/csv", b"\x1f\x8b\x08\x00 this is no gzip stream").await;
        let end = Instant::now() + DEADLINE;
        let queue = self.queue("parser-dlq").await;
        loop {
            let asked =
                self.sqs().get_queue_attributes().queue_url(&queue).attribute_names(QueueAttributeName::ApproximateNumberOfMessages);
            let answer = asked.send().await.unwrap();
            if answer.attributes().unwrap()[&QueueAttributeName::ApproximateNumberOfMessages] == "1" {
                break;
            }
            assert!(Instant::now() < end, "{key} is not in the dead-letter queue\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert!(self.log().contains("file refused"), "{}", self.log());
        let restarts = ["-n", "apps", "get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[*].restartCount}"];
        let restarts = text(&self.target.command(Path::new("kubectl")).args(restarts).output().unwrap());
        assert!(restarts.split(' ').all(|count| count == "0"), "a bad file makes no pod crash: {restarts}");
        // Nothing of it is left for whoever looks at the queue next.
        self.sqs().purge_queue().queue_url(&queue).send().await.unwrap();
    }

    /// The parser's words so far.
    fn log(&self) -> String {
        let logs = ["-n", "apps", "logs", "-l", "app.kubernetes.io/name=parser", "--tail=-1"];
        text(&self.target.command(Path::new("kubectl")).args(logs).output().unwrap())
    }

    async fn log_has(&self, words: &str, key: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let log = self.log();
            if let Some(line) = log.lines().find(|line| line.contains(words) && line.contains(key)) {
                return line.to_owned();
            }
            assert!(Instant::now() < end, "no `{words}` for {key}:\n{log}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn log_says(&self, key: &str, counts: &[(&str, u64)]) {
        let line = self.log_has("parsed", key).await;
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for (name, count) in counts {
            let found = [&line[*name], &line["fields"][*name]].into_iter().find_map(Value::as_u64);
            assert_eq!(found, Some(*count), "{name} of {key}: {line}");
        }
    }

    fn bucket(&self) -> String {
        "deployctl-sandbox-uploads-111122223333".to_owned()
    }

    async fn version(&self, key: &str) -> Option<String> {
        let head = self.target.s3("us-east-1").head_object().bucket(self.bucket()).key(key).send().await.unwrap();
        head.version_id
    }

    async fn queue(&self, name: &str) -> String {
        self.sqs().get_queue_url().queue_name(format!("deployctl-sandbox-{name}")).send().await.unwrap().queue_url.unwrap()
    }

    fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&self.target.sdk("us-east-1"))
    }
}

impl Target {
    /// Who `sandbox env` makes the caller.
    pub fn person(&self) -> Credentials {
        Credentials::new(self.variable("AWS_ACCESS_KEY_ID"), self.variable("AWS_SECRET_ACCESS_KEY"), None, None, "the person")
    }
}
