//! Values that a chart makes up anew whenever it is rendered: a webhook's certificate, a password. The first ones stay, as the cluster has them,
//! so that nothing changes by itself; and a plan, which is kept in files, holds none of them.
use std::collections::BTreeMap;

use base64::Engine;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    failure::{Failure, FailureKind},
    manifests::{Object, ObjectKey},
    redact,
};

/// Stands in a plan where such a value will be.
const PLACE: &str = "(made up by the chart at its first apply, and kept)";

/// Where in which objects such values are: JSON pointers, in the order in which they are met.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeUp(Vec<(ObjectKey, Vec<String>)>);

/// What differs between two renderings of the same chart with the same values.
pub fn between(one: &[Object], two: &[Object]) -> Result<MadeUp, Failure> {
    let other: BTreeMap<&ObjectKey, &Object> = two.iter().map(|object| (&object.key, object)).collect();
    if let Some(lonely) = one.iter().find(|object| !other.contains_key(&object.key)) {
        let what = format!("{} {}", lonely.key.kind, lonely.key);
        return Err(Failure::new(FailureKind::Policy, format!("the chart makes up a name at every rendering: {what}"))
            .next("no plan of it could ever be applied as it was shown; give it the name in `values`"));
    }
    let mut found = Vec::new();
    for object in one {
        let mut pointers = Vec::new();
        if let Some(other) = other.get(&object.key) {
            differing(&object.value, &other.value, String::new(), &mut pointers);
        }
        if !pointers.is_empty() {
            found.push((object.key.clone(), pointers));
        }
    }
    Ok(MadeUp(found))
}

fn differing(one: &Value, two: &Value, at: String, into: &mut Vec<String>) {
    match (one, two) {
        (Value::Object(left), Value::Object(right)) if left.keys().eq(right.keys()) => {
            for (key, value) in left {
                differing(value, &right[key], format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), into);
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (number, (value, other)) in left.iter().zip(right).enumerate() {
                differing(value, other, format!("{at}/{number}"), into);
            }
        }
        _ if one == two => {}
        _ => into.push(at),
    }
}

impl MadeUp {
    /// Nothing was made up.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// The objects that hold such values.
    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.0.iter().map(|(key, _)| key)
    }
    /// Puts the values of `source` into `objects`, if it has all of them: a certificate and the authority that it is checked against come from
    /// one rendering or from none. Says whether it had.
    pub fn take(&self, objects: &mut [Object], source: &BTreeMap<ObjectKey, Value>) -> Taken {
        let value = |key: &ObjectKey, pointer: &String| source.get(key)?.pointer(pointer).filter(|value| !value.is_null()).cloned();
        let all: Option<Vec<(ObjectKey, Vec<Value>)>> = self
            .0
            .iter()
            .map(|(key, pointers)| Some((key.clone(), pointers.iter().map(|pointer| value(key, pointer)).collect::<Option<_>>()?)))
            .collect();
        let Some(all) = all else { return Taken::Nothing };
        for ((key, values), (_, pointers)) in all.into_iter().zip(&self.0) {
            if let Some(object) = objects.iter_mut().find(|object| object.key == key) {
                pointers.iter().zip(values).for_each(|(pointer, value)| put(object, pointer, value));
            }
        }
        Taken::All
    }
    /// Takes them out, for a plan; what a Secret held is masked from now on wherever it turns up.
    pub fn blank(&self, objects: &mut [Object]) {
        for (key, pointers) in &self.0 {
            let Some(object) = objects.iter_mut().find(|object| object.key == *key) else { continue };
            for pointer in pointers {
                if key.kind == "Secret"
                    && let Some(text) = object.value.pointer(pointer).and_then(Value::as_str)
                    && let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(text)
                {
                    redact::register(&String::from_utf8_lossy(&bytes));
                }
                put(object, pointer, Value::String(PLACE.to_owned()));
            }
        }
    }
}

/// Whether a source had every value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It had.
    All,
    /// It lacked one, so that none was taken.
    Nothing,
}

fn put(object: &mut Object, pointer: &str, value: Value) {
    if let Some(place) = object.value.pointer_mut(pointer) {
        *place = value;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use serde_json::json;

    use super::*;

    fn objects(certificate: &str) -> Vec<Object> {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls", "namespace": "n"}, "data": {"tls.crt": certificate, "kept": "eA=="}});
        let hook = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "metadata": {"name": "w"},
            "webhooks": [{"name": "a/b", "clientConfig": {"caBundle": certificate}}]});
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "n"}, "data": {"a": "1"}});
        [secret, hook, map].into_iter().map(|value| Object::new(value, "a.yaml".into(), 0).unwrap()).collect()
    }

    fn values(objects: &[Object]) -> BTreeMap<ObjectKey, Value> {
        objects.iter().map(|object| (object.key.clone(), object.value.clone())).collect()
    }

    #[test]
    fn what_is_made_up_stays_as_it_is_or_is_all_made_anew() {
        let (one, two) = (objects("MQ=="), objects("Mg=="));
        let made = between(&one, &two).unwrap();
        let pointers: Vec<&str> = made.0.iter().flat_map(|(_, pointers)| pointers.iter().map(String::as_str)).collect();
        assert_eq!(pointers, ["/data/tls.crt", "/webhooks/0/clientConfig/caBundle"]);

        let mut kept = one.clone();
        assert_eq!(made.take(&mut kept, &values(&two)), Taken::All);
        assert_eq!(values(&kept), values(&two));

        let mut half = values(&two);
        half.retain(|key, _| key.kind != "Secret");
        let mut fresh = one.clone();
        assert_eq!(made.take(&mut fresh, &half), Taken::Nothing);
        assert_eq!(values(&fresh), values(&one), "a certificate of one rendering does not fit the authority of another");
    }

    #[test]
    fn a_plan_holds_none_of_it() {
        let mut one = objects("c2VjcmV0LWtleQ==");
        let made = between(&one, &objects("Mg==")).unwrap();
        made.blank(&mut one);
        let text = serde_json::to_string(&one).unwrap();
        assert!(!text.contains("c2VjcmV0LWtleQ==") && text.contains("eA==") && text.contains(PLACE), "{text}");
        assert_eq!(redact::mask("it was secret-key"), "it was [secret]");
    }

    #[test]
    fn a_name_that_is_made_up_is_refused() {
        let (one, mut two) = (objects("MQ=="), objects("MQ=="));
        two[2].key.name = "other".into();
        assert_eq!(between(&one, &two).unwrap_err().kind, FailureKind::Policy);
    }
}
