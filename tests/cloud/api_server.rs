//! The API server: the library's own client against a real kube-apiserver, through the proxy.
use std::{net::Ipv4Addr, time::Duration};

use deployctl::{
    cluster::Cluster,
    failure::Failure,
    ids::ClusterName,
    manifests::{Object, ObjectKey},
};
use futures::future::join_all;
use serde_json::json;

use crate::{
    aws::{ASKED, Cell, cells},
    http_proxy::{Fault, HttpProxy},
    proof::{Proof, ensure, prove, report},
    real_api_server::ApiServer,
    table::{Dependency, Kind, Row},
};

struct World {
    /// Past the proxy.
    direct: Cluster,
    cluster: Cluster,
    proxy: HttpProxy,
}

fn object(kind: &str, name: &str, data: &str) -> Object {
    let mut value = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "default"}});
    if kind == "ConfigMap" {
        value["data"] = json!({"text": data.repeat(1000)});
    }
    Object::new(value, "cell.yaml".into(), 1).unwrap()
}

fn key(name: &str) -> ObjectKey {
    object("ConfigMap", name, "").key
}

fn needles(call: &str, name: &str) -> Vec<String> {
    let maps = "/api/v1/namespaces/default/configmaps";
    match call {
        "get" => vec![format!("GET {maps}/{name}")],
        "apply" => vec![format!("PATCH {maps}/{name}")],
        "delete" => vec![format!("DELETE {maps}/{name}")],
        "token" => vec![format!("POST /api/v1/namespaces/default/serviceaccounts/{name}/token")],
        "watch" => vec![format!("GET {maps}"), "watch=".to_owned(), name.to_owned()],
        other => panic!("no such call: {other}"),
    }
}

fn fault(row: &Row) -> Fault {
    let answer = |status: u16, headers| {
        let body =
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "a fault", "reason": "Fault", "code": status});
        Fault::Answer { status, headers, body: body.to_string() }
    };
    match row.kind {
        Kind::Throttled => answer(429, Vec::new()),
        Kind::RetryAfter => answer(429, vec![("retry-after", ASKED.as_secs().to_string())]),
        Kind::ServerError => answer(500, Vec::new()),
        Kind::Silent if row.call == "watch" => Fault::Freeze,
        Kind::Silent => Fault::Silent,
        Kind::Reset => Fault::Reset,
        Kind::CutRequest => Fault::CutRequest,
        Kind::LostAnswer => Fault::LostAnswer,
        Kind::CutAnswer => Fault::CutAnswer,
        Kind::Slow => Fault::Slow(Duration::from_secs(4)),
        Kind::Refused => panic!("nobody listens: no request meets it"),
    }
}

impl World {
    async fn prepare(&self, call: &str, name: &str) {
        let object = match call {
            "get" | "delete" => object("ConfigMap", name, "before"),
            "token" => object("ServiceAccount", name, ""),
            _ => return,
        };
        self.direct.apply(&[object], |_| {}).await.unwrap();
    }

    async fn call(&self, call: &str, name: &str) -> Result<(), Failure> {
        match call {
            "get" => ensure(self.cluster.get(&key(name)).await?.is_some(), "the object is read"),
            "apply" => {
                self.cluster.apply(&[object("ConfigMap", name, "after")], |_| {}).await?;
                let there = self.direct.get(&key(name)).await?.unwrap_or_default();
                ensure(there["data"]["text"].as_str().is_some_and(|text| text.starts_with("after")), "the object is as it was applied")
            }
            "delete" => {
                self.cluster.delete(&key(name)).await?;
                ensure(self.direct.get(&key(name)).await?.is_none(), "the object is gone")
            }
            "token" => self.cluster.account_token("default", name, "sts.amazonaws.com").await.map(drop),
            "watch" => {
                let made_later = async {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    self.direct.apply(&[object("ConfigMap", name, "late")], |_| {}).await.map(drop)
                };
                let keys = [key(name)];
                let waiting = self.cluster.wait_until_current(&keys, Duration::from_secs(60), |_| {});
                tokio::try_join!(waiting, made_later).map(drop)
            }
            other => panic!("no such call: {other}"),
        }
    }

    async fn prove(&self, cell: &Cell) -> Proof {
        let Cell { row, name } = cell;
        self.prepare(row.call, name).await;
        let attempts = self.proxy.strike_as(row, needles(row.call, name), fault).await;
        prove(row, self.call(row.call, name), attempts).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_server() {
    let Some(server) = ApiServer::start() else { return };
    let direct = server.cluster_as("test-token").await;
    let mut config = server.config();
    let authority = reqwest::Certificate::from_der(&config.root_cert.clone().unwrap()[0]).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([authority]).build().unwrap();
    let base = config.cluster_url.to_string();
    let proxy = HttpProxy::start((Ipv4Addr::LOCALHOST, 0).into(), base.trim_end_matches('/'), client).await;
    config.cluster_url = proxy.base().parse().unwrap();
    let cluster = Cluster::with_config(&ClusterName::parse("test").unwrap(), config).unwrap();
    // The API server makes its own namespaces a moment after it answers.
    let default = ObjectKey { api_version: "v1".into(), kind: "Namespace".into(), namespace: None, name: "default".into() };
    direct.wait_until_current(&[default], Duration::from_secs(60), |_| {}).await.unwrap();
    let world = World { direct, cluster, proxy };
    let cells = cells(Dependency::ApiServer);
    let (first, rest): (Vec<&Cell>, Vec<&Cell>) = cells.iter().partition(|cell| cell.row.kind == Kind::Refused);
    let mut proofs = Vec::new();
    for cell in first {
        proofs.push(world.prove(cell).await);
    }
    proofs.extend(join_all(rest.into_iter().map(|cell| world.prove(cell))).await);
    report(&proofs);
}
