//! JSON rows: checked without being built up. A mebibyte of `[0,0,0,…` is forty mebibytes as a tree, and a tree's numbers are rounded.
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer as _, MapAccess, SeqAccess, Visitor};

/// The line as COPY may send it to a jsonb column, or the reason against it. PostgreSQL keeps numbers as they are written.
pub fn row(line: &[u8]) -> Result<String, String> {
    let mut nul = false;
    let mut json = serde_json::Deserializer::from_slice(line);
    json.deserialize_any(Checked { nul: &mut nul }).and_then(|()| json.end()).map_err(|error| format!("not JSON: {error}"))?;
    if !line.starts_with(b"{") {
        return Err("not a JSON object".to_owned());
    }
    if nul {
        return Err(NUL.to_owned());
    }
    // Between its tokens JSON may have tabs and carriage returns; inside them they are escaped.
    let text = str::from_utf8(line).map_err(|error| format!("not UTF-8: {error}"))?;
    Ok(text.replace(['\t', '\r'], " "))
}

/// jsonb holds every text but this one.
pub const NUL: &str = "contains U+0000";

/// Walks through a value and keeps nothing of it but whether it holds U+0000.
struct Checked<'a> {
    nul: &'a mut bool,
}

impl<'de> DeserializeSeed<'de> for Checked<'_> {
    type Value = ();
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checked<'_> {
    type Value = ();
    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        *self.nul |= text.contains('\0');
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Checked { nul: self.nul })?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while fields.next_key_seed(Checked { nul: self.nul })?.is_some() {
            fields.next_value_seed(Checked { nul: self.nul })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_stay_as_they_are_written_and_white_space_fits_into_a_line_of_copy() {
        let text = r#"{"big":123456789012345678901234567890,"exact":0.10}"#;
        assert_eq!(row(text.as_bytes()).unwrap(), text);
        assert_eq!(row(b"{\"a\":\t1,\r\"b\\t\":2}").unwrap(), "{\"a\": 1, \"b\\t\":2}");
    }

    #[test]
    fn what_jsonb_can_not_hold_is_refused() {
        for (line, reason) in [
            (&b"{\"a\":[{\"b\":\"x\\u0000\"}]}"[..], "contains U+0000"),
            (b"{\"\\u0000\":1}", "contains U+0000"),
            (b"[1]", "not a JSON object"),
            (b"{\"a\":\"\xff\"}", "not JSON"),
            (b"{\"a\":\"\\ud800\"}", "not JSON"),
            (b"{\"a\":1e400}", "not JSON"),
            (b"{} {}", "not JSON"),
            (b"{\"a\":\"\t\"}", "not JSON"),
        ] {
            let refused = row(line).unwrap_err();
            assert!(refused.starts_with(reason), "{}: {refused}", String::from_utf8_lossy(line));
        }
        assert!(row(&[b"{\"a\":", &b"[".repeat(200)[..], &b"]".repeat(200)[..], b"}"].concat()).is_err(), "too deep");
    }

    proptest! {
        #[test]
        fn it_takes_what_serde_json_takes(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let whole = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&bytes);
            let trimmed = bytes.trim_ascii();
            if row(trimmed).is_ok() { prop_assert!(whole.is_ok()); }
        }
    }
}
