//! AssumeRoleWithWebIdentity: the emulator evaluates the trust policy but checks no signature, so the token is verified here first.
use std::sync::Arc;

use http::{HeaderMap, Uri};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, errors::ErrorKind};
use serde::Deserialize;

use super::identify::parameter;

/// The issuers whose tokens can be verified, each with its public key (PEM), asked for at each request: the cluster's, and in tests GitHub's.
pub type IssuerKeys = Arc<dyn Fn() -> Vec<(String, String)> + Send + Sync>;

/// What STS says of what is no token of a known issuer.
const NO_TOKEN: &str = "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)";

#[derive(Deserialize)]
struct Claims {
    iss: String,
}

/// Whether the request is one, in any of the encodings that STS takes.
pub fn is_web_identity(action: &str) -> bool {
    action == "AssumeRoleWithWebIdentity"
}

/// The token of the request: in the query, in a form or in JSON.
pub fn token(uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let json = headers.get("content-type").and_then(|kind| kind.to_str().ok()).is_some_and(|kind| kind.contains("json"));
    if json {
        let document: serde_json::Value = serde_json::from_slice(body).ok()?;
        return document["WebIdentityToken"].as_str().map(str::to_owned);
    }
    let form = std::str::from_utf8(body).unwrap_or_default();
    parameter(form, "WebIdentityToken").or_else(|| parameter(uri.query().unwrap_or_default(), "WebIdentityToken"))
}

/// Signature, expiry and issuer; audience and subject are the trust policy's to judge. The error is STS' own wording.
pub fn verify(token: &str, issuers: &[(String, String)]) -> Result<(), String> {
    if issuers.is_empty() {
        return Err("No OpenIDConnect provider found in your account".to_owned());
    }
    for (issuer, key) in issuers {
        let key = DecodingKey::from_rsa_pem(key.as_bytes()).map_err(|error| format!("Couldn't retrieve verification key: {error}"))?;
        let mut rules = Validation::new(Algorithm::RS256);
        rules.validate_aud = false;
        rules.validate_nbf = true;
        rules.leeway = 5;
        rules.set_issuer(&[issuer]);
        rules.set_required_spec_claims(&["exp", "iss", "sub"]);
        match jsonwebtoken::decode::<Claims>(token, &key, &rules) {
            Ok(found) if found.claims.iss == *issuer => return Ok(()),
            Ok(_) => return Err("Issuer does not match".to_owned()),
            // The next one's key may be the right one.
            Err(error) if *error.kind() == ErrorKind::InvalidSignature => {}
            Err(error) => {
                return Err(match error.kind() {
                    ErrorKind::ExpiredSignature => "Token expired".to_owned(),
                    ErrorKind::InvalidIssuer => "No OpenIDConnect provider found in your account for the token's issuer".to_owned(),
                    _ => NO_TOKEN.to_owned(),
                });
            }
        }
    }
    Err(NO_TOKEN.to_owned())
}

/// STS' answer for a token it does not accept.
pub fn refusal(message: &str) -> String {
    let message = message.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        r#"<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>InvalidIdentityToken</Code><Message>{message}</Message></Error></ErrorResponse>"#
    )
}
