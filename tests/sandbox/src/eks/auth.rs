//! EKS Auth, the service behind the Pod Identity agent: a pod's token becomes a session of the role that its account is associated with.
use std::sync::Arc;

use axum::extract::{Path, State as Shared};
use http::HeaderMap;
use serde_json::{Value, json};

use super::{
    Eks,
    answer::{Answer, Body, Caller, Refusal, text},
    clusters::named,
    pod_token::{self, AUDIENCE, Bearer, Bound, Refused},
};
use crate::door::service_role::{self, Service, Session, Wanted};

/// As trust policies name it.
const PRINCIPAL: &str = "pods.eks.amazonaws.com";
/// "Credentials are valid for 6 hours": EKS User Guide, "Understand how EKS Pod Identity works".
const SECONDS: u32 = 6 * 3600;
/// IAM's limit for the name of a session.
const SESSION: usize = 64;

/// AssumeRoleForPodIdentity. The role's trust policy decides, and sees what AWS shows it: account, cluster, and the pod's six tags.
pub async fn assume_role_for_pod_identity(
    Shared(eks): Shared<Arc<Eks>>,
    caller: Caller,
    headers: HeaderMap,
    Path(name): Path<String>,
    Body(body): Body,
) -> Answer {
    if headers.get("x-sandbox-service").is_none_or(|service| service != "eks-auth") {
        return Err(Refusal::not_found(format!("EKS has no operation at /clusters/{name}/assume-role-for-pod-identity; it is EKS Auth's")));
    }
    let token = text(&body, "token")?;
    let cluster =
        eks.store.read(|state| named(state, &caller, &name).map(|cluster| cluster["arn"].as_str().unwrap_or_default().to_owned()))?;
    let (issuer, key) = eks.issuer_key().ok_or_else(|| Refusal::server("the cluster has no issuer yet"))?;
    let (bearer, pod) = pod_token::read(token, &issuer, &key).map_err(|refused| match refused {
        Refused::Expired => Refusal::expired_token(),
        Refused::Invalid(what) => Refusal::invalid_token(what),
    })?;
    let association = eks
        .association_of(&bearer.namespace, &bearer.account.name)
        .ok_or_else(|| Refusal::not_found(format!("No associations found for {}/{} in {name}", bearer.namespace, bearer.account.name)))?;
    let session = eks.assume(&caller.region, &cluster, &name, &association, &bearer, &pod).await?;
    Ok(axum::Json(answer(&bearer, &association, &session)))
}

fn answer(bearer: &Bearer, association: &Value, session: &Session) -> Value {
    json!({
        "subject": { "namespace": bearer.namespace, "serviceAccount": bearer.account.name },
        "audience": AUDIENCE,
        "podIdentityAssociation": {
            "associationArn": association["associationArn"], "associationId": association["associationId"],
        },
        "assumedRoleUser": { "arn": session.arn, "assumeRoleId": session.id },
        "credentials": {
            "accessKeyId": session.access_key_id,
            "secretAccessKey": session.secret_access_key,
            "sessionToken": session.session_token,
            "expiration": session.expiration.as_second(),
        },
    })
}

impl Eks {
    /// The association of a service account.
    pub(super) fn association_of(&self, namespace: &str, account: &str) -> Option<Value> {
        self.store.read(|state| {
            let mut all = state.associations.values();
            all.find(|known| known["namespace"] == namespace && known["serviceAccount"] == account).cloned()
        })
    }

    async fn assume(
        &self,
        region: &str,
        cluster: &str,
        name: &str,
        association: &Value,
        bearer: &Bearer,
        pod: &Bound,
    ) -> Result<Session, Refusal> {
        let role = association["roleArn"].as_str().unwrap_or_default();
        let mut tags = vec![
            ("eks-cluster-arn", cluster.to_owned()),
            ("eks-cluster-name", name.to_owned()),
            ("kubernetes-namespace", bearer.namespace.clone()),
            ("kubernetes-service-account", bearer.account.name.clone()),
            ("kubernetes-pod-name", pod.name.clone()),
            ("kubernetes-pod-uid", pod.uid.clone()),
        ];
        if association["disableSessionTags"] == true {
            tags.clear();
        }
        let unique = uuid::Uuid::new_v4().to_string();
        let readable: String = format!("eks-{name}-{}", pod.name).chars().take(SESSION - unique.len() - 1).collect();
        let session = format!("{readable}-{unique}");
        let wanted = Wanted { role, session: &session, tags: &tags, seconds: SECONDS };
        let answer = self.root.assume_role_as(region, Service { principal: PRINCIPAL, source: cluster }, wanted).await;
        match answer.map_err(|error| Refusal::server(format!("{error:#}")))? {
            service_role::Answer::Given(session) => Ok(session),
            service_role::Answer::Refused(why) => {
                tracing::info!(role, why, "a pod was refused its role");
                Err(Refusal::denied(format!("Unauthorized Exception! EKS does not have permissions to assume the associated role: {role}")))
            }
        }
    }
}
