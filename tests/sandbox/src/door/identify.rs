//! What a request is, as far as its signature scope and its headers tell: service, region, access key, a first guess at the action.
use http::{HeaderMap, Method, Uri};

/// Who asks for what, before the emulator has judged it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub access_key: Option<String>,
    pub region: Option<String>,
    pub service: Option<String>,
    pub action: String,
}

impl Identity {
    /// Reads scope and action; a signature is neither checked nor kept.
    pub fn of(method: &Method, uri: &Uri, headers: &HeaderMap, form: Option<&str>) -> Self {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let authorization = header("authorization").unwrap_or_default();
        let signed = authorization
            .strip_prefix("AWS4-HMAC-SHA256")
            .and_then(|rest| rest.split_once("Credential="))
            .map(|(_, scope)| scope.split([',', ' ']).next().unwrap_or_default().to_owned());
        let scope = signed.or_else(|| parameter(uri.query().unwrap_or_default(), "X-Amz-Credential")).unwrap_or_default();
        let fields: Vec<&str> = scope.split('/').collect();
        let (mut access_key, mut region, mut service) = match fields.as_slice() {
            [key, _, region, service, "aws4_request"] => (Some(*key), Some(*region), Some(*service)),
            _ => (None, None, None),
        };
        let query = uri.query().unwrap_or_default();
        let registry_host = parameter(query, "ns").filter(|_| uri.path().starts_with("/v2/"));
        let registry_region = registry_host.as_deref().and_then(registry_region);
        if uri.path().starts_with("/v2/") && service.is_none() {
            (service, region) = (Some("ecr"), registry_region);
        }
        let action = header("x-amz-target")
            .and_then(|target| target.rsplit_once('.').map(|(_, action)| action.to_owned()))
            .or_else(|| parameter(query, "Action"))
            .or_else(|| form.and_then(|form| parameter(form, "Action")))
            .unwrap_or_else(|| format!("{method} {}", uri.path()));
        if service.is_none() && action == "AssumeRoleWithWebIdentity" {
            service = Some("sts");
        }
        let owned = |value: Option<&str>| value.map(str::to_owned);
        if access_key.is_some_and(str::is_empty) {
            access_key = None;
        }
        Self { access_key: owned(access_key), region: owned(region), service: owned(service), action }
    }

    /// Keys that the emulator treats as the account's root, without checking a signature: nobody outside may use them.
    pub fn is_root(&self) -> bool {
        self.access_key.as_deref().is_some_and(|key| key == "test" || (key.len() == 12 && key.bytes().all(|b| b.is_ascii_digit())))
    }
}

/// The region in `ACCOUNT.dkr.ecr.REGION.amazonaws.com`.
pub fn registry_region(host: &str) -> Option<&str> {
    let (account, rest) = host.split_once(".dkr.ecr.")?;
    let (region, _) = rest.split_once(".amazonaws.com")?;
    (account.len() == 12).then_some(region)
}

/// One parameter of a query string or form.
pub fn parameter(encoded: &str, name: &str) -> Option<String> {
    url::form_urlencoded::parse(encoded.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_header_names_key_region_and_service() {
        let mut headers = HeaderMap::new();
        let scope = "AWS4-HMAC-SHA256 Credential=AKIAX/20261122/eu-west-1/eks/aws4_request, SignedHeaders=host, Signature=ab";
        headers.insert("authorization", scope.parse().unwrap());
        let found = Identity::of(&Method::GET, &"/clusters/c".parse().unwrap(), &headers, None);
        assert_eq!(found.access_key.as_deref(), Some("AKIAX"));
        assert_eq!((found.region.as_deref(), found.service.as_deref()), (Some("eu-west-1"), Some("eks")));
        assert_eq!(found.action, "GET /clusters/c");
    }

    #[test]
    fn root_keys_are_recognised_in_a_query_too() {
        let uri: Uri =
            "/?Action=GetCallerIdentity&X-Amz-Credential=111122223333%2F20261122%2Fus-east-1%2Fsts%2Faws4_request".parse().unwrap();
        let found = Identity::of(&Method::GET, &uri, &HeaderMap::new(), None);
        assert!(found.is_root());
        assert_eq!(found.action, "GetCallerIdentity");
    }

    #[test]
    fn a_pull_takes_its_region_from_the_registry_it_is_meant_for() {
        let uri: Uri = "/v2/app/manifests/sha256:00?ns=111122223333.dkr.ecr.eu-west-1.amazonaws.com".parse().unwrap();
        let found = Identity::of(&Method::GET, &uri, &HeaderMap::new(), None);
        assert_eq!((found.region.as_deref(), found.service.as_deref()), (Some("eu-west-1"), Some("ecr")));
    }
}
