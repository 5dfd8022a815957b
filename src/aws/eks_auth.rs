//! EKS Auth: a pod's token for a session of the role that its service account is associated with, as the Pod Identity agent of its node asks for it.
use aws_credential_types::Credentials;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;

use super::{
    Aws,
    signed::{Answer, Question},
    sts::{Assumed, is_session_of},
};
use crate::{
    failure::Failure,
    ids::{ClusterName, RoleArn},
    redact,
};

/// Whom a pod's token must be meant for, to be taken by EKS Auth. It must be bound to a pod, too.
pub const POD_IDENTITY_AUDIENCE: &str = "pods.eks.amazonaws.com";
const ACTION: &str = "eks-auth:AssumeRoleForPodIdentity";

/// AssumeRoleForPodIdentity's answer, as far as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Given {
    assumed_role_user: User,
    credentials: Keys,
}

#[derive(Deserialize)]
struct User {
    arn: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    access_key_id: String,
    secret_access_key: String,
    session_token: String,
}

impl Aws {
    /// Whether a pod with this token is given the role, and no other.
    pub async fn pod_assumes(&self, cluster: &ClusterName, role: &RoleArn, token: &SecretString) -> Result<Assumed, Failure> {
        Ok(match self.session_of_pod(cluster, token).await? {
            Ok(given) if is_session_of(&given.assumed_role_user.arn, role) => Assumed::Yes,
            Ok(given) => Assumed::Refused(format!("it is given {} instead", given.assumed_role_user.arn)),
            Err(why) => Assumed::Refused(why),
        })
    }

    /// AWS as the role that a pod with this token is given.
    pub async fn as_pod(&self, cluster: &ClusterName, role: &RoleArn, token: &SecretString) -> Result<Self, Failure> {
        let given = self.session_of_pod(cluster, token).await?;
        let given = given.map_err(|why| Failure::step(format!("{ACTION} gives no session of {role}: {why}")))?;
        let User { arn } = given.assumed_role_user;
        if !is_session_of(&arn, role) {
            return Err(Failure::step(format!("{ACTION} gives {arn} and no session of {role}")));
        }
        let Keys { access_key_id, secret_access_key, session_token } = given.credentials;
        let credentials = Credentials::new(access_key_id, secret_access_key, Some(session_token), None, "AssumeRoleForPodIdentity");
        Ok(self.with_session(arn, credentials))
    }

    /// The inner error is EKS Auth's word on the pod; the outer one says that it could not be asked.
    async fn session_of_pod(&self, cluster: &ClusterName, token: &SecretString) -> Result<Result<Given, String>, Failure> {
        let path = format!("clusters/{cluster}/assume-role-for-pod-identity");
        let body = json!({ "token": token.expose_secret() }).to_string();
        let headers = vec![("content-type", "application/json".to_owned())];
        let question = Question { service: "eks-auth", path: &path, action: ACTION.to_owned(), headers, body: &body };
        match self.ask(&question).await? {
            Answer::Done(text) => {
                let given: Given =
                    serde_json::from_str(&text).map_err(|_| Failure::step(format!("{ACTION} gave an answer of another form")))?;
                redact::register(&given.credentials.secret_access_key);
                redact::register(&given.credentials.session_token);
                Ok(Ok(given))
            }
            Answer::Refused { status, code, message } if is_about_the_pod(status, &code, &message) => Ok(Err(format!("{code}: {message}"))),
            Answer::Refused { status, code, message } => Err(self.refused(ACTION, status, &code, &message)),
        }
    }
}

/// No association, or a role that does not trust EKS for this account; what the caller himself may not do has the same code and names the action.
fn is_about_the_pod(status: u16, code: &str, message: &str) -> bool {
    match code {
        "ResourceNotFoundException" => true,
        "AccessDeniedException" => status != 403 && !message.contains(ACTION),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_about_the_pod;

    #[test]
    fn what_the_caller_may_not_do_says_nothing_of_the_pod() {
        assert!(is_about_the_pod(404, "ResourceNotFoundException", "No associations found"));
        assert!(is_about_the_pod(400, "AccessDeniedException", "EKS does not have permissions to assume the associated role"));
        let own = "User: arn:aws:sts::1:assumed-role/d/s is not authorized to perform: eks-auth:AssumeRoleForPodIdentity on resource: c";
        assert!(!is_about_the_pod(400, "AccessDeniedException", own) && !is_about_the_pod(403, "AccessDeniedException", "no"));
        assert!(!is_about_the_pod(400, "InvalidTokenException", "not bound to a pod"));
    }
}
