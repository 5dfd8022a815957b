//! Masks secrets in everything that is shown or kept: each value that was ever read as a secret, in every encoding it may come out in.
use std::sync::{PoisonError, RwLock};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};

use secrecy::SecretString;

/// Variables whose values are secrets: masked wherever they turn up, and no program that we start inherits them.
pub const SECRET_VARIABLES: [&str; 5] = [
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
];

const MASK: &str = "[secret]";
/// Shorter values would mask ordinary words.
const SHORTEST: usize = 4;

static NEEDLES: RwLock<Vec<String>> = RwLock::new(Vec::new());

/// From now on `secret` is masked, raw, in base64 (alone or inside a longer encoded text), hex, URL and JSON escapes, and as Rust's `Debug`
/// prints texts and bytes, of itself and of JSON that holds it.
pub fn register(secret: &str) {
    let mut fresh = encodings(secret);
    // The lines of a multi-line secret, such as a key, may be printed one by one.
    if secret.lines().count() > 1 {
        fresh.extend(secret.lines().map(str::trim).filter(|line| line.len() >= 16).flat_map(encodings));
    }
    fresh.extend(parts(secret).iter().flat_map(|part| encodings(part)));
    let mut needles = NEEDLES.write().unwrap_or_else(PoisonError::into_inner);
    for needle in fresh {
        if !needles.contains(&needle) {
            needles.push(needle);
        }
    }
    // Longest first, so that a secret inside another does not leave the other's ends behind.
    needles.sort_by_key(|needle| std::cmp::Reverse(needle.len()));
}

/// Registers a secret and wraps it, so that neither a message nor `Debug` can show it: how every secret enters the program.
pub fn secret(value: impl Into<String>) -> SecretString {
    let value = value.into();
    register(&value);
    SecretString::from(value)
}

/// The secret parts of a secret that is a JSON object: a password may be printed without what surrounds it.
fn parts(secret: &str) -> Vec<String> {
    let Ok(serde_json::Value::Object(map)) = serde_json::from_str(secret) else { return Vec::new() };
    let sounds_secret = |key: &str| ["password", "secret", "token", "key"].iter().any(|word| key.contains(word));
    map.iter().filter(|(key, _)| sounds_secret(key)).filter_map(|(_, value)| value.as_str().map(str::to_owned)).collect()
}

/// The text with every registered secret masked.
pub fn mask(text: &str) -> String {
    let needles = NEEDLES.read().unwrap_or_else(PoisonError::into_inner);
    let mut masked = text.to_owned();
    for needle in needles.iter() {
        if masked.contains(needle.as_str()) {
            masked = masked.replace(needle.as_str(), MASK);
        }
    }
    masked
}

/// The same for every text inside a JSON value, keys too.
pub fn mask_json(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => *text = mask(text),
        serde_json::Value::Array(items) => items.iter_mut().for_each(mask_json),
        serde_json::Value::Object(map) => {
            map.values_mut().for_each(mask_json);
            if map.keys().any(|key| mask(key) != *key) {
                *map = std::mem::take(map).into_iter().map(|(key, value)| (mask(&key), value)).collect();
            }
        }
        _ => {}
    }
}

fn encodings(secret: &str) -> Vec<String> {
    let secret = secret.trim_end_matches('\n');
    if secret.len() < SHORTEST {
        return Vec::new();
    }
    let bytes = secret.as_bytes();
    let mut all = vec![secret.to_owned(), hex::encode(bytes), hex::encode_upper(bytes)];
    all.push(url::form_urlencoded::byte_serialize(bytes).collect());
    all.push(percent_encoded(bytes));
    let json = inside_json(secret);
    all.extend([inside_json(&json), ascii_only(&json)]);
    for text in [secret, json.as_str()] {
        let debug = format!("{text:?}");
        all.extend([text.as_bytes().escape_ascii().to_string(), debug[1..debug.len() - 1].to_owned()]);
    }
    all.push(json);
    all.push(STANDARD.encode(bytes));
    all.push(URL_SAFE_NO_PAD.encode(bytes));
    // Inside a longer text, base64 depends on where the secret starts modulo 3: the middle part is the same for each start.
    for start in 0..3 {
        let mut shifted = vec![0u8; start];
        shifted.extend_from_slice(bytes);
        let from = if start == 0 { 0 } else { start + 1 };
        let whole = shifted.len() / 3 * 4;
        for encoded in [STANDARD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
            if let Some(middle) = encoded.get(from..whole).filter(|middle| middle.len() >= 8) {
                all.push(middle.to_owned());
            }
        }
    }
    all.sort();
    all.dedup();
    all.retain(|needle| needle.len() >= SHORTEST);
    all
}

/// As it stands between the quotes of a JSON text.
fn inside_json(text: &str) -> String {
    let quoted = serde_json::Value::String(text.to_owned()).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// As JSON writers write that keep to ASCII.
fn ascii_only(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() {
            text.push(c);
        } else {
            text.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    text
}

/// RFC 3986: everything but the unreserved characters, a space as `%20`.
fn percent_encoded(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(*byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_of_it_is_left_in_any_encoding() {
        let secret = "c4n/ry \"p&ss+wörd\"~42";
        register(secret);
        let json = serde_json::to_string(&serde_json::json!({ "password": secret })).unwrap();
        let url = format!("https://user:{}@host/", percent_encoded(secret.as_bytes()));
        let form: String = url::form_urlencoded::Serializer::new(String::new()).append_pair("p", secret).finish();
        let debug = format!("{json:?} {secret:?}");
        let bytes = format!("Once(Some(b\"{}\"))", json.as_bytes().escape_ascii());
        let raw_bytes = secret.as_bytes().escape_ascii().to_string();
        let nested = serde_json::json!({ "body": json }).to_string();
        let python = "{\"password\": \"c4n/ry \\\"p&ss+w\\u00f6rd\\\"~42\"}".to_owned();
        let simple = [secret.to_owned(), json, url, form, hex::encode(secret), hex::encode_upper(secret), STANDARD.encode(secret)];
        for text in simple.into_iter().chain([debug, bytes, raw_bytes, nested, python]) {
            let masked = mask(&text);
            assert!(masked.contains(MASK), "{text} -> {masked}");
            assert!(!masked.contains("c4n") && !masked.contains("p&ss"), "{text} -> {masked}");
        }
        for before in ["", "u", "us", "user:"] {
            let masked = mask(&STANDARD.encode(format!("{before}{secret}!")));
            assert!(masked.contains(MASK), "{masked}");
        }
        assert_eq!(mask("nothing to see"), "nothing to see");
    }

    #[test]
    fn the_password_inside_a_json_secret_is_masked_by_itself() {
        register(r#"{"username":"parser_run","password":"p4rt-0f-JSON"}"#);
        assert_eq!(mask("parser_run logs in with p4rt-0f-JSON"), "parser_run logs in with [secret]");
    }

    proptest! {
        #[test]
        fn masking_leaves_no_registered_value(secret in "[a-z0-9]{12,24}", before in "[A-Z]{0,5}", after in "[A-Z]{0,5}") {
            register(&secret);
            let text = format!("{before}{secret}{after}");
            prop_assert!(!mask(&text).contains(&secret));
        }
    }
}
