//! EKS' API: a cluster's life, and what a second one, a node without a CNI and an add-on without a program get.
use serde_json::Value;

use crate::{
    aws::{Answer, Call, element},
    stack::{Stack, until},
};

impl Stack {
    async fn eks(&self, method: &str, path: &str, body: &str) -> Answer {
        Call::rest("eks", method, path, body).send(self.door, &self.person).await
    }
    async fn ec2(&self, form: &str) -> String {
        Call::query("ec2", &format!("{form}&Version=2016-11-15")).send(self.door, &self.person).await.text
    }
    pub async fn cluster(&self, more: &str) -> Value {
        let vpc = element(&self.ec2("Action=CreateVpc&CidrBlock=10.9.0.0/16").await, "vpcId");
        let mut subnets = Vec::new();
        for third in [1, 2] {
            let made = self.ec2(&format!("Action=CreateSubnet&VpcId={vpc}&CidrBlock=10.9.{third}.0/24")).await;
            subnets.push(format!("{:?}", element(&made, "subnetId")));
        }
        let body = format!(
            r#"{{"name":"c","version":"1.34","roleArn":"arn:aws:iam::111122223333:role/c","resourcesVpcConfig":{{"subnetIds":[{}]}}{more}}}"#,
            subnets.join(",")
        );
        let made = self.eks("POST", "/clusters", &body).await;
        assert_eq!(made.status, 200, "{}", made.text);
        until("the cluster to be ACTIVE", || async { self.eks("GET", "/clusters/c", "").await.json()["cluster"]["status"] == "ACTIVE" })
            .await;
        made.json()["cluster"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_from_creation_to_deletion() {
    let Some(stack) = Stack::start().await else { return };
    assert_eq!(stack.eks("GET", "/clusters/c", "").await.headers["x-amzn-errortype"], "ResourceNotFoundException");
    let made = stack.cluster(r#","bootstrapSelfManagedAddons":false,"accessConfig":{"authenticationMode":"API"}"#).await;
    assert_eq!(made["status"], "CREATING");
    let issuer = made["identity"]["oidc"]["issuer"].as_str().unwrap();
    assert!(issuer.starts_with("https://oidc.eks.us-east-1.amazonaws.com/id/") && issuer.len() == 44 + 32, "{issuer}");
    let second = stack
        .eks(
            "POST",
            "/clusters",
            r#"{"name":"d","roleArn":"arn:aws:iam::111122223333:role/c","resourcesVpcConfig":{"subnetIds":["a","b"]}}"#,
        )
        .await;
    assert_eq!(second.headers["x-amzn-errortype"], "ResourceLimitExceededException", "{}", second.text);

    let group = r#"{"nodegroupName":"main","nodeRole":"arn:aws:iam::111122223333:role/n","subnets":["a"]}"#;
    assert_eq!(stack.eks("POST", "/clusters/c/node-groups", group).await.json()["nodegroup"]["status"], "CREATING");
    for addon in ["vpc-cni", "coredns", "metrics-server"] {
        let body = format!(r#"{{"addonName":"{addon}"}}"#);
        assert_eq!(stack.eks("POST", "/clusters/c/addons", &body).await.status, 200);
    }
    until("the node", || async { stack.eks("GET", "/clusters/c/node-groups/main", "").await.json()["nodegroup"]["status"] == "ACTIVE" })
        .await;
    for (addon, status) in [("coredns", "ACTIVE"), ("vpc-cni", "ACTIVE"), ("metrics-server", "DEGRADED")] {
        let path = format!("/clusters/c/addons/{addon}");
        until(addon, || async { stack.eks("GET", &path, "").await.json()["addon"]["status"] == status }).await;
    }
    stack.switches.on.lock().unwrap().retain(|part| *part != "dns");
    let stopped = stack.eks("GET", "/clusters/c/addons/coredns", "").await.json();
    assert_eq!(stopped["addon"]["status"], "DEGRADED", "ACTIVE only while its process runs");
    assert_eq!(stack.eks("DELETE", "/clusters/c", "").await.headers["x-amzn-errortype"], "ResourceInUseException");
    assert_eq!(stack.eks("DELETE", "/clusters/c/node-groups/main", "").await.status, 200);
    until("the node group to go", || async { stack.eks("DELETE", "/clusters/c", "").await.status == 200 }).await;
    until("the cluster to go", || async { stack.eks("GET", "/clusters/c", "").await.status == 404 }).await;
    assert!(stack.switches.on.lock().unwrap().iter().all(|part| *part == "proxy" || *part == "dns" || part.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn access_entries_and_their_policies() {
    let Some(stack) = Stack::start().await else { return };
    stack.cluster(r#","accessConfig":{"authenticationMode":"API"}"#).await;
    let entries = stack.eks("GET", "/clusters/c/access-entries", "").await.json();
    assert_eq!(entries["accessEntries"][0], "arn:aws:iam::111122223333:user/person");
    let arn = "arn%3Aaws%3Aiam%3A%3A111122223333%3Arole%2Fadmin";
    let made = stack.eks("POST", "/clusters/c/access-entries", r#"{"principalArn":"arn:aws:iam::111122223333:role/admin"}"#).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let forbidden = stack.eks("POST", &format!("/clusters/c/access-entries/{arn}"), r#"{"kubernetesGroups":["system:masters"]}"#).await;
    assert_eq!(forbidden.headers["x-amzn-errortype"], "InvalidParameterException", "{}", forbidden.text);
    let policy = r#"{"policyArn":"arn:aws:eks::aws:cluster-access-policy/AmazonEKSViewPolicy","accessScope":{"type":"namespace","namespaces":["apps"]}}"#;
    let associated = stack.eks("POST", &format!("/clusters/c/access-entries/{arn}/access-policies"), policy).await;
    assert_eq!(associated.status, 200, "{}", associated.text);
    let listed = stack.eks("GET", &format!("/clusters/c/access-entries/{arn}/access-policies"), "").await.json();
    assert_eq!(listed["associatedAccessPolicies"][0]["accessScope"]["namespaces"][0], "apps");
    assert_eq!(stack.eks("DELETE", &format!("/clusters/c/access-entries/{arn}"), "").await.status, 200);
}
