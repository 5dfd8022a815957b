//! Builds an image of a small package with the native builder and pushes it to ministack's ECR, as it would be pushed to AWS'.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "tests: a panic is the failure, and a skipped test says why"
)]
#[path = "../installed/mod.rs"]
mod installed;

use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use deployctl::{
    aws::ecr::RegistryLogin,
    failure::Failure,
    ids::RepositoryName,
    image::{Builder, Image, Order, Package, Profile, Registry, Source, build},
};
use tokio_util::sync::CancellationToken;

struct Ministack {
    child: Child,
    port: u16,
}

impl Drop for Ministack {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Ministack {
    async fn start(folder: &Path) -> Option<Self> {
        let program = installed::ministack()?;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = std::fs::File::create(folder.join("ministack.log")).unwrap();
        let mut command = Command::new(program);
        // By its module: the script's own first line names the folder that the installation was prepared in.
        command.args(["-m", "ministack"]).env("GATEWAY_PORT", port.to_string()).env("BIND_HOST", "127.0.0.1").current_dir(folder);
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let started = Instant::now();
        while reqwest::get(format!("http://127.0.0.1:{port}/")).await.is_err() {
            assert!(started.elapsed() < Duration::from_secs(120), "{}", std::fs::read_to_string(folder.join("ministack.log")).unwrap());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Some(Self { child, port })
    }
    fn base(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
    async fn create_repository(&self, name: &str) {
        let scope = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/ecr/aws4_request, SignedHeaders=host, Signature=x";
        let request = reqwest::Client::new().post(self.base()).header("authorization", scope);
        let request = request
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", "AmazonEC2ContainerRegistry_V20150921.CreateRepository");
        let body = serde_json::json!({"repositoryName": name, "imageTagMutability": "IMMUTABLE"}).to_string();
        let answer = request.body(body).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }
}

fn project(folder: &Path) {
    let write = |path: &str, text: &str| {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("Cargo.toml", "[package]\nname = \"hello\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n");
    write("Cargo.lock", "version = 4\n\n[[package]]\nname = \"hello\"\nversion = \"0.1.0\"\n");
    write("src/main.rs", "fn main() {\n    println!(\"hello\");\n}\n");
}

async fn build_hello(project: &Path) -> Result<BTreeMap<String, Image>, Failure> {
    let packages = [Package { name: "hello".into(), from: Source::Cargo(".".into()) }];
    let order =
        Order { builder: Builder::Native, profile: Profile::Dev, project, scratch: project, packages: &packages, wanted: &["hello"] };
    build(order, &CancellationToken::new(), &|_| {}).await
}

async fn built(project: &Path) -> Image {
    let images = build_hello(project).await;
    images.unwrap_or_else(|failure| panic!("{:?} {:?}", failure.chain(), failure.evidence)).remove("hello").unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_built_is_pushed_once_and_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let Some(ministack) = Ministack::start(folder.path()).await else { return };
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    project(&one);
    project(&two);
    let (image, again) = (built(&one).await, built(&two).await);
    assert_eq!(image.manifest.digest, again.manifest.digest, "the same sources in another folder give the same image");

    let login = RegistryLogin { username: "AWS".into(), password: "token".to_owned().into(), endpoint: ministack.base() };
    let registry = Registry::new(&ministack.base(), login, deployctl::permit::Permit::unleased()).unwrap();
    let repository = RepositoryName::parse("deployctl-test/hello").unwrap();
    ministack.create_repository(repository.as_str()).await;
    assert_eq!(registry.find(&repository, "src-1").await.unwrap(), None);
    let first = registry.push(&repository, &image, &["src-1".to_owned()]).await.unwrap();
    assert_eq!(first.digest, image.manifest.digest);
    assert_eq!(first.uploaded.blobs, 3);
    assert_eq!(registry.find(&repository, "src-1").await.unwrap().as_ref(), Some(&image.manifest.digest));
    let started = Instant::now();
    let second = registry.push(&repository, &image, &["src-1".to_owned()]).await.unwrap();
    eprintln!("pushed {} bytes; again in {:?}", first.uploaded.bytes, started.elapsed());
    assert_eq!(second.uploaded, Default::default(), "nothing is sent twice");
    registry.tag_digest(&repository, &first.digest, "live-test-1").await.unwrap();
    assert_eq!(registry.find(&repository, "live-test-1").await.unwrap(), Some(first.digest));

    // Another image under a tag that is taken: refused before anything could move.
    std::fs::write(one.join("src/main.rs"), "fn main() {\n    println!(\"hello again\");\n}\n").unwrap();
    let other = built(&one).await;
    let failure = registry.push(&repository, &other, &["src-1".to_owned()]).await.unwrap_err();
    assert!(failure.message.contains("tags never move"), "{}", failure.message);
}

#[tokio::test]
async fn a_failing_build_shows_the_compilers_words() {
    let folder = tempfile::tempdir().unwrap();
    project(folder.path());
    std::fs::write(folder.path().join("src/main.rs"), "fn main() { missing() }\n").unwrap();
    let failure = build_hello(folder.path()).await.unwrap_err();
    assert!(failure.message.starts_with("compiling hello"), "{}", failure.message);
    assert!(failure.evidence.iter().any(|line| line.contains("missing")), "{:?}", failure.evidence);
}
