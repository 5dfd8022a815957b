//! One address in front of the emulator that also answers for an EKS cluster: DescribeCluster, and the webhook that takes its tokens.
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What it answers by itself.
pub struct Cluster {
    pub name: String,
    pub endpoint: String,
    /// As PEM.
    pub authority: String,
}

/// Answers at the address that AWS_ENDPOINT_URL names, until the test ends.
pub async fn serve(emulator: String, cluster: Cluster) {
    let address = std::env::var("AWS_ENDPOINT_URL").unwrap();
    let listener = TcpListener::bind(address.strip_prefix("http://").unwrap()).await.unwrap();
    let (emulator, cluster) = (Arc::new(emulator), Arc::new(cluster));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (emulator, cluster) = (emulator.clone(), cluster.clone());
            tokio::spawn(async move { one(stream, &emulator, &cluster).await });
        }
    });
}

async fn one(mut stream: TcpStream, emulator: &str, cluster: &Cluster) {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next().unwrap().split(' ');
    let (method, path) = (first.next().unwrap().to_owned(), first.next().unwrap().to_owned());
    let headers: Vec<(String, String)> =
        lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, value)| value.parse().unwrap());
    while bytes.len() < end + length {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let body = bytes[end..].to_vec();
    let (status, kind, answer) = match own(&path, cluster) {
        Some(answer) => (200, vec![("content-type".to_owned(), "application/json".to_owned())], answer.to_string().into_bytes()),
        None => forwarded(&method, &format!("{emulator}{path}"), &headers, body).await,
    };
    let mut text = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n", answer.len());
    for (name, value) in kind {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    // Whoever has gone needs no answer.
    drop(stream.write_all(&[format!("{text}\r\n").as_bytes(), &answer].concat()).await);
}

fn own(path: &str, cluster: &Cluster) -> Option<Value> {
    use base64::Engine;
    if path == format!("/clusters/{}", cluster.name) {
        let authority = base64::engine::general_purpose::STANDARD.encode(&cluster.authority);
        return Some(json!({ "cluster": { "name": cluster.name, "status": "ACTIVE", "version": "1.34", "endpoint": cluster.endpoint,
            "certificateAuthority": { "data": authority } } }));
    }
    (path.starts_with("/tokens")).then(|| {
        json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "status": { "authenticated": true, "user": { "username": "deployer", "groups": ["system:masters"] } } })
    })
}

type Answer = (u16, Vec<(String, String)>, Vec<u8>);

async fn forwarded(method: &str, url: &str, headers: &[(String, String)], body: Vec<u8>) -> Answer {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let mut request = client.request(method.parse().unwrap(), url).body(body);
    for (name, value) in headers.iter().filter(|(name, _)| !["connection", "content-length", "expect"].contains(&name.as_str())) {
        request = request.header(name, value);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let kept = |name: &str| !["connection", "content-length", "transfer-encoding"].contains(&name);
    let headers = answer.headers().iter().filter(|(name, _)| kept(name.as_str()));
    let headers = headers.map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned())).collect();
    (status, headers, answer.bytes().await.unwrap().to_vec())
}
