//! registry.terraform.io's module protocol (modules.v1) for the two modules that the stacks use, served from the checkout.
use std::{path::Path, sync::Arc};

use axum::{
    body::Body,
    extract::{Path as UrlPath, State},
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};

use super::proxy::Proxy;

/// Name below `terraform-aws-modules/`, provider `aws`, and the real version that ours has the interface of.
const MODULES: [(&str, &str); 2] = [("vpc", "6.6.0"), ("eks", "21.19.0")];

/// Where terraform finds the module registry.
pub async fn discovery() -> Response {
    axum::Json(serde_json::json!({ "modules.v1": "/v1/modules/" })).into_response()
}

/// `NAMESPACE/NAME/aws/versions`, `…/VERSION/download` and `…/VERSION/archive.tar.gz`.
pub async fn registry(State(proxy): State<Arc<Proxy>>, UrlPath(rest): UrlPath<String>) -> Response {
    let parts: Vec<&str> = rest.split('/').collect();
    let known = |name: &str| MODULES.iter().find(|(module, _)| *module == name);
    match parts.as_slice() {
        ["terraform-aws-modules", name, "aws", "versions"] => match known(name) {
            Some((_, version)) => axum::Json(serde_json::json!({ "modules": [{ "versions": [{ "version": version }] }] })).into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        ["terraform-aws-modules", name, "aws", version, "download"] if known(name).is_some_and(|(_, v)| v == version) => {
            (StatusCode::NO_CONTENT, [("x-terraform-get", "./archive.tar.gz")]).into_response()
        }
        ["terraform-aws-modules", name, "aws", version, "archive.tar.gz"] if known(name).is_some_and(|(_, v)| v == version) => {
            let folder = proxy.door.project.join("tests/sandbox/modules").join(name);
            match tokio::task::spawn_blocking(move || archive(&folder)).await {
                Ok(Ok(bytes)) => ([(header::CONTENT_TYPE, "application/x-gzip")], Body::from(bytes)).into_response(),
                Ok(Err(error)) => {
                    (StatusCode::INTERNAL_SERVER_ERROR, format!("the module {name} cannot be packed: {error}")).into_response()
                }
                Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
            }
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn archive(folder: &Path) -> std::io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    archive.mode(tar::HeaderMode::Deterministic);
    archive.append_dir_all(".", folder)?;
    archive.into_inner()?.finish()
}
