//! RDS' errors: the code, the sentence and the HTTP status that AWS answers with.
use axum::{
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use uuid::Uuid;

use super::xml::{Body, NAMESPACE};

/// One refusal or failure, as the client sees it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Fault {
    status: StatusCode,
    /// AWS' error code.
    pub code: &'static str,
    /// The sentence behind it.
    pub message: String,
}

impl Fault {
    /// A refusal (400) with AWS' code.
    pub fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, message: message.into() }
    }
    /// Something that does not exist (404).
    pub fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, code, message: message.into() }
    }
    /// The sandbox itself failed (500).
    pub fn internal(error: impl std::fmt::Display) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, code: "InternalFailure", message: format!("{error:#}") }
    }
    /// The source region of a copy cannot be reached (503).
    pub fn region_down(region: &super::ids::Region) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, code: "ServiceUnavailable", message: format!("Region {region} cannot be reached.") }
    }
    /// A parameter's value is wrong.
    pub fn invalid_value(message: impl Into<String>) -> Self {
        Self::refused("InvalidParameterValue", message)
    }
    /// Parameters do not go together.
    pub fn combination(message: impl Into<String>) -> Self {
        Self::refused("InvalidParameterCombination", message)
    }
    /// A needed parameter is absent.
    pub fn missing(parameter: &str) -> Self {
        Self::refused("MissingParameter", format!("The request must contain the parameter {parameter}."))
    }
    /// No such instance.
    pub fn instance_not_found(name: impl std::fmt::Display) -> Self {
        Self::not_found("DBInstanceNotFound", format!("DBInstance {name} not found."))
    }
    /// No such snapshot.
    pub fn snapshot_not_found(name: impl std::fmt::Display) -> Self {
        Self::not_found("DBSnapshotNotFound", format!("DBSnapshot {name} not found."))
    }
    /// No such automated backup.
    pub fn backup_not_found(name: impl std::fmt::Display) -> Self {
        Self::not_found("DBInstanceAutomatedBackupNotFound", format!("DBInstanceAutomatedBackup {name} not found."))
    }
    /// The instance is busy, stopped or being deleted.
    pub fn instance_state(name: impl std::fmt::Display, wanted: &str) -> Self {
        Self::refused("InvalidDBInstanceState", format!("Instance {name} is not in {wanted} state."))
    }
    /// The key is in another region, disabled or absent.
    pub fn key_not_accessible(key: &str) -> Self {
        Self::refused(
            "KMSKeyNotAccessibleFault",
            format!("The specified KMS key [{key}] does not exist, is not enabled or you do not have permissions to access it."),
        )
    }
}

impl From<anyhow::Error> for Fault {
    fn from(error: anyhow::Error) -> Self {
        Self::internal(error)
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let kind = if self.status.is_server_error() { "Receiver" } else { "Sender" };
        let error = Body::default().text("Type", kind).text("Code", self.code).text("Message", &self.message);
        let inner = Body::default().nested("Error", error).text("RequestId", Uuid::new_v4());
        let document = format!("<ErrorResponse xmlns=\"{NAMESPACE}\">{inner}</ErrorResponse>");
        (self.status, [(CONTENT_TYPE, "text/xml")], document).into_response()
    }
}
