//! A load balancer has network interfaces in the VPC, and EC2 deletes no subnet under them.
use serde_json::json;

use crate::{
    aws::{Answer, Call},
    stack::{Stack, until},
};

async fn ec2(stack: &Stack, form: &str) -> Answer {
    Call::query("ec2", &format!("{form}&Version=2016-11-15")).send(stack.door, &stack.person).await
}

fn element<'a>(text: &'a str, name: &str) -> &'a str {
    text.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once('<')).unwrap_or_else(|| panic!("no {name} in {text}")).0
}

#[tokio::test(flavor = "multi_thread")]
async fn no_subnet_goes_before_its_load_balancer_and_its_interfaces() {
    let Some(stack) = Stack::start().await else { return };
    let vpc = ec2(&stack, "Action=CreateVpc&CidrBlock=10.9.0.0%2F16").await.text;
    let vpc = element(&vpc, "vpcId");
    let tag = "TagSpecification.1.ResourceType=subnet&TagSpecification.1.Tag.1.Key=kubernetes.io%2Frole%2Finternal-elb&TagSpecification.1.Tag.1.Value=1";
    let subnet = ec2(&stack, &format!("Action=CreateSubnet&VpcId={vpc}&CidrBlock=10.9.0.0%2F24&{tag}")).await.text;
    let subnet = element(&subnet, "subnetId");
    let write = |places: serde_json::Value, leaving: serde_json::Value| {
        std::fs::write(stack.folder.path().join("alb.json"), json!({ "places": places, "leaving": leaving }).to_string()).unwrap();
    };
    let place =
        json!({ "address": "198.18.0.128", "hostname": "internal-k8s-apps-uploader-0.us-east-1.elb.amazonaws.com", "scheme": "internal" });
    write(json!({ "apps/uploader": place }), json!([]));
    let found = ec2(&stack, "Action=DescribeNetworkInterfaces").await.text;
    assert!(
        found.contains("<description>ELB app/internal-k8s-apps-uploader-0/") && found.contains(&format!("<subnetId>{subnet}<")),
        "{found}"
    );
    let form = format!("Action=DeleteSubnet&SubnetId={subnet}");
    let delete = || ec2(&stack, &form);
    let refused = delete().await;
    assert!(refused.status == 400 && refused.text.contains("DependencyViolation"), "{}", refused.text);
    // Deleted a moment ago: its interfaces are still there.
    let until_then = jiff::Timestamp::now().as_second() + 2;
    write(json!({}), json!([{ "hostname": place["hostname"], "scheme": "internal", "until": until_then }]));
    assert!(delete().await.text.contains("DependencyViolation"));
    until("the interfaces to be gone", || async { delete().await.status == 200 }).await;
}
