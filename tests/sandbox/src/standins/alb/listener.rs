//! One load balancer's listener: HTTP, or HTTPS with a certificate, on its address, requests passed to targets with the headers that an ALB adds.
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request, State},
    response::{IntoResponse, Response},
    routing::any,
};
use http::{HeaderValue, StatusCode, Uri, header};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{
    rules::{Backend, Rules},
    targets::{HealthCheck, Targets},
};
use crate::tls;

/// At least so often targets are looked at whose time has come: to be asked for the first time, or to be cut off.
const TICK: Duration = Duration::from_millis(500);

/// An ALB's idle timeout.
const IDLE: Duration = Duration::from_secs(60);

/// What a listener routes by; replaced as a whole when anything changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routing {
    pub rules: Rules,
    pub check: HealthCheck,
    /// How long a target that leaves is still served.
    pub delay: Duration,
    /// Addresses with their pods' names.
    pub targets: HashMap<Backend, BTreeMap<SocketAddr, String>>,
}

struct Balancer {
    routing: watch::Receiver<Arc<Routing>>,
    targets: Targets,
    client: Client<HttpConnector, Body>,
    turn: AtomicUsize,
    port: u16,
    protocol: &'static str,
}

/// A listener that runs until it is dropped.
pub struct Listener {
    pub routing: watch::Sender<Arc<Routing>>,
    pub targets: Targets,
    stop: CancellationToken,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Listens on `address`, with a certificate for HTTPS, and checks its targets' health; `changed` hears of every target that becomes well or unwell.
pub async fn start(address: SocketAddr, certificate: Option<TlsAcceptor>, routing: Routing, changed: Arc<Notify>) -> Result<Listener> {
    let listener = bound(address).await.with_context(|| format!("the load balancer cannot listen on {address}"))?;
    let (sender, receiver) = watch::channel(Arc::new(routing));
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(Duration::from_secs(5)));
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build(connector);
    let (targets, stop) = (Targets::default(), CancellationToken::new());
    let balancer = Balancer {
        routing: receiver.clone(),
        targets: targets.clone(),
        client,
        turn: AtomicUsize::new(0),
        port: address.port(),
        protocol: if certificate.is_some() { "https" } else { "http" },
    };
    let router = Router::new().fallback(any(pass)).with_state(Arc::new(balancer));
    let ended = stop.clone();
    tokio::spawn(async move {
        if let Some(certificate) = certificate {
            return tls::serve(listener, certificate, router, ended).await;
        }
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let served = axum::serve(listener, service).with_graceful_shutdown(async move { ended.cancelled().await }).await;
        if let Err(error) = served {
            tracing::error!("the load balancer on {address}: {error}");
        }
    });
    tokio::spawn(check_health(receiver, targets.clone(), changed, stop.clone()));
    Ok(Listener { routing: sender, targets, stop })
}

/// The one before, with another certificate, may not have let go of the address yet.
async fn bound(address: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    let end = Instant::now() + Duration::from_secs(2);
    loop {
        match tokio::net::TcpListener::bind(address).await {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            bound => return bound,
        }
    }
}

async fn pass(State(balancer): State<Arc<Balancer>>, ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request) -> Response {
    let routing = Arc::clone(&balancer.routing.borrow());
    // In HTTP/2 the name is a part of the address.
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().host()).unwrap_or_default();
    let Some(backend) = routing.rules.find(host, request.uri().path()) else { return StatusCode::NOT_FOUND.into_response() };
    let registered: BTreeSet<SocketAddr> = routing.targets.get(backend).into_iter().flat_map(BTreeMap::keys).copied().collect();
    let targets = balancer.targets.choice(&registered, Instant::now());
    if targets.is_empty() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let target = targets[balancer.turn.fetch_add(1, Ordering::Relaxed) % targets.len()];
    let Some(request) = forwarded(request, target, peer, &balancer) else { return StatusCode::BAD_REQUEST.into_response() };
    let cut = balancer.targets.cut(target);
    let answer = tokio::select! {
        answer = tokio::time::timeout(IDLE, balancer.client.request(request)) => answer,
        () = cut.cancelled() => return StatusCode::BAD_GATEWAY.into_response(),
    };
    match answer {
        Ok(Ok(mut response)) => {
            response.headers_mut().remove(header::CONNECTION);
            response.map(Body::new).into_response()
        }
        Ok(Err(error)) => {
            tracing::warn!("target {target}: {error}");
            StatusCode::BAD_GATEWAY.into_response()
        }
        Err(_) => StatusCode::GATEWAY_TIMEOUT.into_response(),
    }
}

fn forwarded(mut request: Request, target: SocketAddr, peer: SocketAddr, balancer: &Balancer) -> Option<Request> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = format!("http://{target}{path}").parse::<Uri>().ok()?;
    let headers = request.headers_mut();
    let chain = match headers.get("x-forwarded-for").and_then(|chain| chain.to_str().ok()) {
        Some(chain) => format!("{chain}, {}", peer.ip()),
        None => peer.ip().to_string(),
    };
    headers.insert("x-forwarded-for", chain.parse().ok()?);
    headers.insert("x-forwarded-proto", HeaderValue::from_static(balancer.protocol));
    headers.insert("x-forwarded-port", HeaderValue::from(balancer.port));
    if !headers.contains_key("x-amzn-trace-id") {
        let id = uuid::Uuid::new_v4().simple().to_string();
        headers.insert("x-amzn-trace-id", format!("Root=1-{:08x}-{}", jiff::Timestamp::now().as_second(), &id[..24]).parse().ok()?);
    }
    for name in [header::CONNECTION, header::EXPECT, header::UPGRADE] {
        headers.remove(name);
    }
    Some(request)
}

/// Registers and deregisters as the routing says, and asks each target at the check's interval, a new one as soon as it may be asked.
async fn check_health(mut routing: watch::Receiver<Arc<Routing>>, targets: Targets, changed: Arc<Notify>, stop: CancellationToken) {
    let client = match reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build() {
        Ok(client) => client,
        Err(error) => return tracing::error!("no health checks: {error}"),
    };
    let mut asked: HashMap<SocketAddr, Instant> = HashMap::new();
    loop {
        let now = Arc::clone(&routing.borrow_and_update());
        let began = Instant::now();
        targets.register(&now.targets.values().flat_map(BTreeMap::keys).copied().collect(), now.delay, began);
        let is_due = |target: &SocketAddr| asked.get(target).is_none_or(|last| began - *last >= now.check.interval);
        let due = targets.to_check(began).into_iter().filter(is_due);
        let due: Vec<SocketAddr> = due.collect();
        asked.extend(due.iter().map(|target| (*target, began)));
        let checks = due.into_iter().map(|target| {
            let request = client
                .get(format!("http://{target}{}", now.check.path))
                .timeout(now.check.timeout)
                .header("user-agent", "ELB-HealthChecker/2.0");
            let check = &now.check;
            async move { (target, request.send().await.is_ok_and(|answer| check.accepts(answer.status().as_u16()))) }
        });
        for (target, passed) in futures::future::join_all(checks).await {
            if targets.count(&now.check, target, passed) {
                changed.notify_one();
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            moved = routing.changed() => if moved.is_err() { return },
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn target() -> SocketAddr {
        let echo = |headers: http::HeaderMap| async move {
            ["x-forwarded-for", "x-forwarded-proto"].map(|name| headers[name].to_str().unwrap().to_owned()).join(" ")
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, Router::new().route("/v1", any(echo)).route("/", any(|| async { "well" }))).into_future());
        address
    }

    fn routing(targets: &[SocketAddr]) -> Routing {
        let backend = serde_json::json!({ "service": { "name": "app", "port": { "number": 80 } } });
        let path = serde_json::json!({ "path": "/v1", "pathType": "Prefix", "backend": backend });
        let ingress: k8s_openapi::api::networking::v1::Ingress =
            serde_json::from_value(serde_json::json!({ "metadata": {}, "spec": { "rules": [{ "http": { "paths": [path] } }] } })).unwrap();
        let rules = Rules::of(&ingress);
        let named = || targets.iter().map(|target| (*target, "pod".to_owned())).collect();
        let targets = rules.backends().map(|backend| (backend.clone(), named())).collect();
        Routing { rules, check: HealthCheck::of(&ingress), delay: Duration::from_secs(1), targets }
    }

    #[tokio::test]
    async fn requests_reach_a_target_and_say_where_they_came_from() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let changed = Arc::new(Notify::new());
        let target = target().await;
        let listener = start(free, None, routing(&[target]), changed.clone()).await.unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let get = |path: &str| client.get(format!("http://{free}{path}")).header("x-forwarded-for", "192.0.2.1").send();
        assert_eq!(get("/v1").await.unwrap().status(), 503, "a target that is not registered yet");
        tokio::time::timeout(Duration::from_secs(10), changed.notified()).await.expect("it is found well");
        assert_eq!(get("/v1").await.unwrap().text().await.unwrap(), "192.0.2.1, 127.0.0.1 http");
        assert_eq!(get("/other").await.unwrap().status(), 404, "no rule");
        listener.routing.send_replace(Arc::new(routing(&[])));
        assert_eq!(get("/v1").await.unwrap().status(), 200, "a target that leaves is served for a while");
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(get("/v1").await.unwrap().status(), 503, "no target");
    }

    #[tokio::test]
    async fn with_a_certificate_it_speaks_https_and_says_so() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let made = rcgen::generate_simple_self_signed(["files.test".to_owned()]).unwrap();
        let pem = made.cert.pem() + &made.signing_key.serialize_pem();
        let changed = Arc::new(Notify::new());
        let certificate = Some(tls::acceptor(&pem, &pem).unwrap());
        let _listener = start(free, certificate, routing(&[target().await]), changed.clone()).await.unwrap();
        tokio::time::timeout(Duration::from_secs(10), changed.notified()).await.expect("it is found well");
        let authority = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([authority]).resolve("files.test", free).build().unwrap();
        let get = |address: String| client.get(address).send();
        let answer = get(format!("https://files.test:{}/v1", free.port())).await.unwrap().text().await.unwrap();
        assert_eq!(answer, "127.0.0.1 https");
        assert!(get(format!("https://{free}/v1")).await.is_err(), "the certificate is for another name");
        assert!(get(format!("http://{free}/v1")).await.is_err(), "no HTTP beside it");
    }

    /// What is under way to a target that left is cut off, as an ALB does when the time is over.
    #[tokio::test]
    async fn an_answer_that_takes_too_long_is_cut_off() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        let slow = |uri: Uri| async move {
            if uri.path() == "/v1" {
                tokio::time::sleep(Duration::from_secs(30)).await;
            }
        };
        tokio::spawn(axum::serve(silent, Router::new().fallback(any(slow))).into_future());
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let changed = Arc::new(Notify::new());
        let listener = start(free, None, routing(&[address]), changed.clone()).await.unwrap();
        tokio::time::timeout(Duration::from_secs(10), changed.notified()).await.expect("it is found well");
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let under_way = tokio::spawn(client.get(format!("http://{free}/v1")).send());
        tokio::time::sleep(Duration::from_millis(300)).await;
        listener.routing.send_replace(Arc::new(routing(&[])));
        let answer = tokio::time::timeout(Duration::from_secs(10), under_way).await.expect("it is cut off").unwrap().unwrap();
        assert_eq!(answer.status(), 502);
    }
}
