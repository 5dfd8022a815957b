//! Reads and single writes that steps need besides apply: one object, a list, a deletion.
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams},
    core::DynamicObject,
};
use serde_json::Value;

use super::{Cluster, again};
use crate::{
    failure::{Failure, LeftBehind},
    manifests::ObjectKey,
};

/// Items in one page of a list.
const PAGE: u32 = 250;

impl Cluster {
    /// One object as it is; none if it, its namespace or its kind is not there.
    pub async fn get(&self, key: &ObjectKey) -> Result<Option<Value>, Failure> {
        let what = format!("reading {} {key}", key.kind);
        let api = self.api(key).await?;
        match self.repeated(&what, || api.get_opt(&key.name)).await? {
            Ok(found) => found.map(|o| to_value(&o)).transpose(),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(e) => Err(self.failed(what, e)),
        }
    }

    /// Every object of a kind, in a namespace or everywhere, with these labels; an unknown kind has none.
    pub async fn list(&self, api_version: &str, kind: &str, namespace: Option<&str>, labels: &str) -> Result<Vec<Value>, Failure> {
        let resource = self.resource(api_version, kind).await?;
        let client = self.client().await?;
        let api: Api<DynamicObject> = match namespace {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        let mut params = ListParams::default().limit(PAGE);
        if !labels.is_empty() {
            params = params.labels(labels);
        }
        let mut found = Vec::new();
        loop {
            let what = format!("listing {kind}");
            let page = match self.repeated(&what, || api.list(&params)).await? {
                Ok(page) => page,
                Err(kube::Error::Api(status)) if status.code == 404 => return Ok(found),
                Err(e) => return Err(self.failed(what, e)),
            };
            let next = page.metadata.continue_.clone().filter(|token| !token.is_empty());
            for mut item in page.items {
                // Items of a list come without their type.
                item.types = Some(kube::core::TypeMeta { api_version: api_version.to_owned(), kind: kind.to_owned() });
                item.managed_fields_mut().clear();
                found.push(to_value(&item)?);
            }
            match next {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(found),
            }
        }
    }

    /// What the pods with these labels have logged in the last seconds, line by line.
    pub async fn recent_log(&self, namespace: &str, labels: &str, seconds: i64) -> Result<Vec<String>, Failure> {
        let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(self.client().await?, namespace);
        let mut lines = Vec::new();
        for pod in self.list("v1", "Pod", Some(namespace), labels).await? {
            let Some(name) = pod.pointer("/metadata/name").and_then(Value::as_str) else { continue };
            let params = kube::api::LogParams { since_seconds: Some(seconds), ..Default::default() };
            let what = format!("reading the log of {namespace}/{name}");
            match self.repeated(&what, || pods.logs(name, &params)).await? {
                Ok(text) => lines.extend(text.lines().map(String::from)),
                // A pod that is only being made, or is going, has no log; the others have.
                Err(kube::Error::Api(status)) if status.code == 400 || status.code == 404 => {}
                Err(e) => return Err(self.failed(what, e)),
            }
        }
        Ok(lines)
    }

    /// Deletes an object and, in the background, what it owns. One that is not there is fine.
    pub async fn delete(&self, key: &ObjectKey) -> Result<(), Failure> {
        let what = format!("deleting {} {key}", key.kind);
        let api = self.api(key).await?;
        let params = DeleteParams::background();
        let asked = self.repeated(&what, || api.delete(&key.name, &params)).await;
        let unknown = || LeftBehind::Unknown(format!("{} {key}, which was to be deleted", key.kind));
        match asked.map_err(|silent| silent.left(unknown()))? {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(e) if again::may_have_arrived(&e) => Err(self.failed(what, e).left(unknown())),
            Err(e) => Err(self.failed(what, e)),
        }
    }

    /// Answers whether the API server takes our token and lets us ask for its version.
    pub async fn version(&self) -> Result<String, Failure> {
        let what = "asking for the version";
        let client = self.client().await?;
        let version = self.repeated(what, || client.apiserver_version()).await?;
        Ok(version.map_err(|e| self.failed(what, e))?.git_version)
    }
}

/// An object as JSON.
pub(super) fn to_value(object: &DynamicObject) -> Result<Value, Failure> {
    serde_json::to_value(object).map_err(|e| Failure::step(format!("{} cannot be read", object.name_any())).because(e))
}
