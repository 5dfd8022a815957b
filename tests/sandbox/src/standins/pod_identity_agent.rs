//! Stand-in for the EKS Pod Identity agent: hands a pod's token to EKS Auth, as the node, and gives the pod what comes back.
use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail};
use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{
    door::{
        emulator::Root,
        service_role::{self, Service, Session, Wanted},
    },
    eks::{self, Node},
    layout::{ACCOUNT, Layout},
    network,
};

/// How long the node's own session is good for; a new one is taken well before.
const SECONDS: u32 = 3600;
const EARLY: i64 = 300;

/// What the agent asks.
pub struct Agent {
    /// AWS: the front door.
    pub endpoint: String,
    /// The emulator, for what EC2's metadata service gives a node: its role's session.
    pub emulator: String,
    /// The cluster's state folder: which it is, and which role its node has.
    pub state: PathBuf,
}

/// The agent of a cluster, listening where its pods are, until the process is stopped.
pub async fn run(layout: &Layout) -> Result<()> {
    tracing::info!("stand-in for the EKS Pod Identity agent v0.1.36: GET /v1/credentials, by EKS Auth's AssumeRoleForPodIdentity");
    let agent = Agent { endpoint: layout.endpoint_url(), emulator: Layout::EMULATOR.to_owned(), state: layout.state.clone() };
    serve(agent, network::listen(layout, SocketAddr::from((Layout::POD_IDENTITY_AGENT, 80)))?).await
}

/// Serves; returns only with the reason why it cannot.
pub async fn serve(agent: Agent, listener: TcpListener) -> Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let root = Root::new(&agent.emulator)?;
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().context("an HTTP client")?;
    let shared = Arc::new(Serving { agent, root, client, node: Mutex::new(None) });
    let router = Router::new().route("/v1/credentials", get(credentials)).with_state(shared);
    axum::serve(listener, router).await.context("the agent")
}

struct Serving {
    agent: Agent,
    root: Root,
    client: reqwest::Client,
    node: Mutex<Option<Session>>,
}

/// As the real one answers: what SDKs read, or EKS Auth's refusal with its status.
async fn credentials(State(serving): State<Arc<Serving>>, headers: HeaderMap) -> Response {
    let Some(token) = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).filter(|token| !token.is_empty()) else {
        return refusal(StatusCode::BAD_REQUEST, "InvalidTokenException", "Service account token cannot be empty");
    };
    match serving.exchange(token).await {
        Ok(Ok(document)) => axum::Json(document).into_response(),
        Ok(Err(refused)) => refused,
        Err(error) => {
            tracing::warn!("a pod's credentials: {error:#}");
            refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerException", &format!("{error:#}"))
        }
    }
}

/// SDKs read `code` and `message`.
fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    (status, axum::Json(json!({ "code": code, "message": message }))).into_response()
}

impl Serving {
    async fn exchange(&self, token: &str) -> Result<std::result::Result<Value, Response>> {
        let node = eks::node(&self.agent.state).context("the cluster has no node group yet")?;
        let session = self.of_node(&node).await?;
        let url = format!("{}/clusters/{}/assume-role-for-pod-identity", self.agent.endpoint, node.cluster);
        let body = json!({ "token": token }).to_string();
        let headers = signed(&url, &body, &node.region, &session).context("signing")?;
        let request = headers.into_iter().fold(self.client.post(&url), |request, (name, value)| request.header(name, value));
        let answer = request.body(body).send().await.context("EKS Auth does not answer")?;
        let status = answer.status();
        let code = answer.headers().get("x-amzn-errortype").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let text = answer.text().await.context("EKS Auth's answer")?;
        let document: Value = serde_json::from_str(&text).with_context(|| format!("EKS Auth's answer {status}: {text}"))?;
        if !status.is_success() {
            let message = document["message"].as_str().unwrap_or(&text);
            tracing::info!(code, message, "a pod was refused");
            return Ok(Err(refusal(status, code.split(':').next().unwrap_or_default(), message)));
        }
        let given = &document["credentials"];
        let end = jiff::Timestamp::from_second(given["expiration"].as_i64().context("credentials without an end")?)?;
        Ok(Ok(json!({
            "AccessKeyId": given["accessKeyId"],
            "SecretAccessKey": given["secretAccessKey"],
            "Token": given["sessionToken"],
            "AccountId": ACCOUNT,
            "Expiration": end.to_string(),
        })))
    }

    /// What the metadata service would give: a session of the node's role, if it trusts EC2.
    async fn of_node(&self, node: &Node) -> Result<Session> {
        let mut held = self.node.lock().await;
        if let Some(session) = &*held
            && session.expiration.as_second() > jiff::Timestamp::now().as_second() + EARLY
        {
            return Ok(session.clone());
        }
        let service = Service { principal: "ec2.amazonaws.com", source: "arn:aws:ec2:::instance/i-0123456789abcdef0" };
        let wanted = Wanted { role: &node.role, session: "i-0123456789abcdef0", tags: &[], seconds: SECONDS };
        match self.root.assume_role_as(&node.region, service, wanted).await? {
            service_role::Answer::Given(session) => Ok(held.insert(session).clone()),
            service_role::Answer::Refused(why) => bail!("the node has no role: {why}"),
        }
    }
}

fn signed(url: &str, body: &str, region: &str, session: &Session) -> Result<Vec<(String, String)>> {
    let Session { access_key_id, secret_access_key, session_token, .. } = session;
    let identity = Credentials::new(access_key_id, secret_access_key, Some(session_token.clone()), None, "node").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("eks-auth")
        .time(SystemTime::now())
        .settings(SigningSettings::default())
        .build()?
        .into();
    let request = SignableRequest::new("POST", url, std::iter::empty(), SignableBody::Bytes(body.as_bytes())).context("the request")?;
    let (instructions, _signature) = sign(request, &params)?.into_parts();
    Ok(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}
