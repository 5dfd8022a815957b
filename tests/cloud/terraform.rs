//! Answers to terraform's own requests are lost: its lock is given back on the proof of its own log, and by nobody else.
use deployctl::steps::{Kind, terraform::Terraform};
use serde_json::json;

use super::{
    emulator, fixture,
    http_proxy::{Fault, HttpProxy},
    stack,
};

/// AWS did what terraform asked, its answer was lost, and the SDK asked once more: the lock is held, terraform believes by somebody else.
#[test]
fn a_lock_that_it_does_not_know_to_be_its_own_is_given_back() {
    emulator::with_proxied_aws("terraform::a_lock_that_it_does_not_know_to_be_its_own_is_given_back", |emulator| async move {
        let endpoint = std::env::var("AWS_ENDPOINT_URL").unwrap();
        let address = endpoint.strip_prefix("http://").unwrap().parse().unwrap();
        let proxy = HttpProxy::start(address, &emulator, reqwest::Client::new()).await;
        let project = stack::project("lost");
        let cx = fixture::context("things", &project).await;
        stack::make_backend(&cx).await;
        let plan = fixture::planned::<Terraform>(&cx, &stack::input(2)).await.unwrap();
        let (taking, began) = (["PutItem".to_owned(), "OperationTypeApply".to_owned()], tokio::time::Instant::now());
        proxy.strike(&taking, Fault::LostAnswer, 1);
        let applied = Terraform::apply(&cx, &stack::input(2), &plan).await.unwrap();
        assert_eq!(applied.outputs["names"], json!(["deployctl-sandbox-0", "deployctl-sandbox-1"]));
        assert_eq!(stack::held(&cx).await, (false, false));
        assert!(proxy.seen(&taking, began).len() > 2, "the lost one, those of the first terraform, that of the second");
        assert_eq!(stack::made(&project).len(), 2, "whoever had no lock made nothing");

        // Its lock cannot be given back: the next run does it.
        let plan = fixture::planned::<Terraform>(&cx, &stack::input(3)).await.unwrap();
        let refused = Fault::Answer { status: 400, headers: Vec::new(), body: "{}".to_owned() };
        proxy.strike(&["DeleteItem".to_owned()], refused, usize::MAX);
        let failure = Terraform::apply(&cx, &stack::input(3), &plan).await.unwrap_err();
        assert_eq!(stack::held(&cx).await, (true, false), "{failure:?}");
        proxy.forgive();
        let next = fixture::another_run(&cx);
        let (plan, _) = fixture::run::<Terraform>(&next, &stack::input(4)).await.unwrap();
        assert_eq!((plan.changes.len(), stack::held(&cx).await), (1, (false, false)), "{:?}", plan.changes);

        // Somebody else's stays, though it was taken while ours waited.
        let stack::Locks { table, id, .. } = stack::locks(&cx);
        let other = json!({"ID": "0f1c", "Operation": "OperationTypeApply", "Who": "ann@laptop", "Version": "1.11.4",
                           "Created": jiff::Timestamp::now().to_string(), "Path": id, "Info": ""});
        assert!(cx.aws.take_lock_item(&table, &id, &other.to_string()).await.unwrap());
        let failure = fixture::run::<Terraform>(&fixture::another_run(&cx), &stack::input(5)).await.unwrap_err();
        assert_eq!((failure.kind, stack::held(&cx).await.0), (deployctl::failure::FailureKind::Locked, true), "{failure:?}");
    });
}
