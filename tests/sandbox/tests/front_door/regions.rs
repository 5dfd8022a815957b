//! A lost region, and the modules that terraform gets.
use crate::{
    aws::{Call, answer, client},
    stack::Stack,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_is_down_hangs_and_fails_until_it_is_back() {
    let Some(stack) = Stack::start().await else { return };
    let switch = stack.folder.path().join("regions-down");
    std::fs::create_dir_all(&switch).unwrap();
    std::fs::write(switch.join("us-east-1"), "").unwrap();
    let who = Call::query("sts", "Action=GetCallerIdentity&Version=2011-06-15");
    let begun = std::time::Instant::now();
    assert_eq!(who.send(stack.door, &stack.person).await.status, 503);
    assert!(begun.elapsed().as_secs() >= 4, "it must not fail at once");
    std::fs::remove_file(switch.join("us-east-1")).unwrap();
    assert_eq!(who.send(stack.door, &stack.person).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn terraform_finds_the_modules_under_their_real_names_and_versions() {
    let Some(stack) = Stack::start().await else { return };
    let base = format!("http://{}/v1/modules/terraform-aws-modules", stack.door);
    for (name, version) in [("vpc", "6.6.0"), ("eks", "21.19.0")] {
        let versions = answer(client().get(format!("{base}/{name}/aws/versions"))).await.json();
        assert_eq!(versions["modules"][0]["versions"][0]["version"], version);
        let download = answer(client().get(format!("{base}/{name}/aws/{version}/download"))).await;
        assert_eq!((download.status, &download.headers["x-terraform-get"]), (204, &"./archive.tar.gz".parse().unwrap()));
        let archive = client().get(format!("{base}/{name}/aws/{version}/archive.tar.gz")).send().await.unwrap().bytes().await.unwrap();
        let mut files = tar::Archive::new(flate2::read::GzDecoder::new(&archive[..]));
        let names: Vec<_> = files.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
        assert!(names.iter().any(|path| path.ends_with("outputs.tf")), "{names:?}");
    }
    assert_eq!(answer(client().get(format!("{base}/rds/aws/versions"))).await.status, 404);
}
