//! Questions and orders to AWS' services as a person would send them, by plain signed requests: no SDK for what is asked once.
use std::{collections::BTreeSet, time::SystemTime};

use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use serde_json::Value;

use super::{commands::block_on, target::Target};

/// What the environment has in EC2 once the network is applied: a call that lists it, the element with its id, how many there are.
pub const NETWORK: [(&str, &str, usize); 9] = [
    ("DescribeVpcs", "vpcId", 1),
    ("DescribeSubnets", "subnetId", 6),
    ("DescribeInternetGateways", "internetGatewayId", 1),
    ("DescribeAddresses", "allocationId", 1),
    ("DescribeNatGateways", "natGatewayId", 1),
    ("DescribeRouteTables", "routeTableId", 3),
    ("DescribeRouteTables", "routeTableAssociationId", 6),
    ("DescribeFlowLogs", "flowLogId", 1),
    ("DescribeVpcEndpoints", "vpcEndpointId", 1),
];

/// A call of a query service (EC2, IAM), its answer as XML. `version` is the API's.
pub fn query(target: &Target, service: &str, region: &str, version: &str, form: &[(&str, &str)]) -> String {
    let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).append_pair("Version", version).finish();
    asked(target, service, region, &[("content-type", "application/x-www-form-urlencoded")], &body)
}

/// A call of a JSON service (KMS, Logs); `action` with the prefix of its protocol.
pub fn json(target: &Target, service: &str, region: &str, action: &'static str, body: &Value) -> Value {
    let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", action)];
    let answer = asked(target, service, region, &headers, &body.to_string());
    if answer.is_empty() { Value::Null } else { serde_json::from_str(&answer).unwrap() }
}

/// Ids of what EC2 has of the environment, by a call that lists them and the element that holds them.
pub fn network(target: &Target, action: &str, id: &str) -> BTreeSet<String> {
    let form = [("Action", action), ("Filter.1.Name", "tag:deployctl:environment"), ("Filter.1.Value.1", "sandbox")];
    let answer = query(target, "ec2", "us-east-1", "2016-11-15", &form);
    answer.split(&format!("<{id}>")).skip(1).filter_map(|rest| rest.split('<').next()).map(str::to_owned).collect()
}

/// How many keys KMS has in a region.
pub fn keys(target: &Target, region: &str) -> usize {
    let answer = json(target, "kms", region, "TrentService.ListKeys", &Value::Object(Default::default()));
    answer["Keys"].as_array().unwrap().len()
}

fn asked(target: &Target, service: &str, region: &str, headers: &[(&'static str, &'static str)], body: &str) -> String {
    let url = format!("{}/", target.variable("AWS_ENDPOINT_URL"));
    let identity = target.person().into();
    let params = v4::SigningParams::builder().identity(&identity).region(region).name(service).time(SystemTime::now());
    let params = params.settings(SigningSettings::default()).build().unwrap().into();
    let request = SignableRequest::new("POST", &url, headers.iter().copied(), SignableBody::Bytes(body.as_bytes())).unwrap();
    let (instructions, _signature) = sign(request, &params).unwrap().into_parts();
    let request = reqwest::Client::new().post(&url).body(body.to_owned());
    let request = headers.iter().copied().chain(instructions.headers()).fold(request, |request, (name, value)| request.header(name, value));
    block_on(async {
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert!(status.is_success(), "{service} answered {status} to {body}: {text}");
        text
    })
}
