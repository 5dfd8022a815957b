//! The sandbox itself under what is deployed in it: closed where AWS would be closed, and whole again after its parts were killed.
use std::{
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

use rustix::process::{Signal, kill_process};

use super::target::{Target, text};

/// Longer than any answer on this machine takes.
const PATIENCE: Duration = Duration::from_secs(2);

/// The internal load balancer answers inside and not to the host; a wrong API key is refused by Kafka.
pub fn is_closed(target: &Target) {
    let ingress = ["-n", "apps", "get", "ingress", "uploader", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}"];
    let address = text(&target.command(Path::new("kubectl")).args(ingress).output().unwrap());
    let address: SocketAddr = format!("{address}:80").parse().unwrap();
    assert!(TcpStream::connect_timeout(&address, PATIENCE).is_err(), "an internal load balancer answers the host");
    target.inside(async move {
        tokio::time::timeout(PATIENCE, tokio::net::TcpStream::connect(address)).await.unwrap().unwrap();
    });
    let kafka = target.sandbox(&["kafka-credentials"]).stdout;
    let mut wrong: serde_json::Value = serde_json::from_slice(&kafka).unwrap();
    wrong["api_secret"] = "x-wrong".into();
    target.deployctl_with(&["secret", "set", "kafka"], Some(wrong.to_string().as_bytes())).expect(0);
    target.wait_for_secret("kafka", "api_secret", |secret| secret == "x-wrong");
    let refused = target.deployctl(&["smoke"]).expect(16);
    assert!(refused.err.contains("hop kafka"), "{}", refused.err);
    target.deployctl_with(&["secret", "set", "kafka"], Some(&kafka)).expect(0);
    // A Secret that is gone is made at once; that its interval works has been seen.
    target.kubectl(&["-n", "deployctl", "delete", "secret", "kafka"]);
    target.wait_for_secret("kafka", "api_secret", |secret| !secret.is_empty() && secret != "x-wrong");
}

/// Killed without a word, each part is started again, or `up` does it; a file then goes through all of them.
pub fn is_repaired(target: &Target) {
    let parts = ["ministack", "kube-apiserver", "containerd", "daemon"].map(|part| target.process(part));
    for part in parts {
        kill_process(part, Signal::KILL).unwrap();
    }
    let up = target.sandbox(&["up"]);
    assert!(up.status.success(), "{}", text(&up));
    target.deployctl(&["smoke"]).expect(0);
}
