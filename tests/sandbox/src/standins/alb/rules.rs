//! Which backend an HTTP request belongs to, as the AWS Load Balancer Controller orders the rules of an Ingress.
use k8s_openapi::api::networking::v1::{Ingress, IngressBackend};

/// A service's port, by number or name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Backend {
    pub service: String,
    pub port: Port,
}

/// As the Ingress says it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Port {
    Number(i32),
    Name(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Path {
    Exact(String),
    Prefix(String),
    /// `ImplementationSpecific`: the load balancer's own pattern, `*` and `?`.
    Pattern(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    host: Option<String>,
    path: Path,
    backend: Backend,
}

/// All rules of one Ingress, most specific first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    rules: Vec<Rule>,
    default: Option<Backend>,
}

fn backend(backend: &IngressBackend) -> Option<Backend> {
    let service = backend.service.as_ref()?;
    let port = service.port.as_ref()?;
    let port = port.number.map(Port::Number).or_else(|| port.name.clone().map(Port::Name))?;
    Some(Backend { service: service.name.clone(), port })
}

impl Rules {
    /// Reads the Ingress; a backend that is no service is left out.
    pub fn of(ingress: &Ingress) -> Self {
        let spec = ingress.spec.clone().unwrap_or_default();
        let mut rules = Vec::new();
        for rule in spec.rules.unwrap_or_default() {
            for path in rule.http.map(|http| http.paths).unwrap_or_default() {
                let Some(backend) = backend(&path.backend) else { continue };
                let text = path.path.unwrap_or_else(|| "/".to_owned());
                let path = match path.path_type.as_str() {
                    "Exact" => Path::Exact(text),
                    "Prefix" => Path::Prefix(text.trim_end_matches('/').to_owned()),
                    _ => Path::Pattern(text),
                };
                rules.push(Rule { host: rule.host.clone().filter(|host| !host.is_empty()), path, backend });
            }
        }
        rules.sort_by_key(|rule| {
            let (kind, length) = match &rule.path {
                Path::Exact(text) => (0, text.len()),
                Path::Prefix(text) => (1, text.len()),
                Path::Pattern(text) => (2, text.len()),
            };
            (rule.host.is_none(), kind, std::cmp::Reverse(length))
        });
        Self { rules, default: spec.default_backend.as_ref().and_then(backend) }
    }

    /// Every backend that is named.
    pub fn backends(&self) -> impl Iterator<Item = &Backend> {
        self.rules.iter().map(|rule| &rule.backend).chain(&self.default)
    }

    /// The backend for a request; `None` is the load balancer's own 404.
    pub fn find(&self, host: &str, path: &str) -> Option<&Backend> {
        let host = host.split(':').next().unwrap_or_default();
        let fits = |rule: &&Rule| rule.host.as_deref().is_none_or(|wanted| host_fits(wanted, host)) && path_fits(&rule.path, path);
        self.rules.iter().find(fits).map(|rule| &rule.backend).or(self.default.as_ref())
    }
}

fn host_fits(wanted: &str, host: &str) -> bool {
    match wanted.strip_prefix("*.") {
        Some(rest) => host.split_once('.').is_some_and(|(_, end)| end.eq_ignore_ascii_case(rest)),
        None => wanted.eq_ignore_ascii_case(host),
    }
}

fn path_fits(wanted: &Path, path: &str) -> bool {
    match wanted {
        Path::Exact(text) => text == path,
        Path::Prefix(text) => path.strip_prefix(text.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        Path::Pattern(text) => glob(text.as_bytes(), path.as_bytes()),
    }
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=text.len()).any(|skip| glob(rest, &text[skip..])),
        (Some((b'?', pattern)), Some((_, text))) => glob(pattern, text),
        (Some((wanted, pattern)), Some((found, text))) if wanted == found => glob(pattern, text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        let path = |path: &str, kind: &str, service: &str| serde_json::json!({ "path": path, "pathType": kind, "backend": { "service": { "name": service, "port": { "number": 80 } } } });
        let ingress = serde_json::json!({ "metadata": {}, "spec": { "rules": [
            { "http": { "paths": [path("/", "Prefix", "all"), path("/v1", "Prefix", "v1"), path("/v1/exact", "Exact", "exact")] } },
            { "host": "a.example", "http": { "paths": [path("/*", "ImplementationSpecific", "host")] } },
        ] } });
        Rules::of(&serde_json::from_value(ingress).unwrap())
    }

    #[test]
    fn the_most_specific_rule_wins() {
        for (host, path, service) in [
            ("x", "/", "all"),
            ("x", "/v1", "v1"),
            ("x:80", "/v1/uploads", "v1"),
            ("x", "/v12", "all"),
            ("x", "/v1/exact", "exact"),
            ("A.example", "/v1", "host"),
        ] {
            assert_eq!(rules().find(host, path).unwrap().service, service, "{host}{path}");
        }
    }

    #[test]
    fn without_a_rule_there_is_no_backend() {
        assert!(Rules::default().find("x", "/").is_none());
    }
}
