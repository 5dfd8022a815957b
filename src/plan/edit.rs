//! Writes one value into a plan file and leaves every other character of it alone. Pure.
use serde_json::Value;

use super::locate::{Key, Located, locate};

/// The text with `key: value` in the map at `path`: in the place of what the key has there, or beside `neighbour`, which must be there. The error
/// says why it cannot be done; then a person has to.
pub fn set(text: &str, path: &[Key], key: &str, value: &str, neighbour: &str) -> Result<String, String> {
    let located = locate(text).map_err(|error| error.to_string())?;
    let at = |name: &str| [path, &[Key::from(name)]].concat();
    let before = value_of(text)?;
    let there = find(&before, &at(key)).is_some_and(|found| !found.is_null());
    if !there && find(&before, &at(neighbour)).is_none() {
        return Err(format!("there is no `{neighbour}` to write `{key}` beside"));
    }
    let changed = if there { replaced(text, &located, &at(key), value) } else { beside(text, &located, &at(neighbour), key, value) };
    let changed = changed.ok_or_else(|| format!("`{key}` cannot be written beside `{neighbour}`"))?;
    // Whatever form the file has, what is written is what was meant and nothing else.
    let mut wanted = value_of(text)?;
    let map = path.iter().try_fold(&mut wanted, |value, step| match step {
        Key::Name(name) => value.get_mut(name),
        Key::At(at) => value.get_mut(*at),
    });
    map.and_then(Value::as_object_mut).ok_or("there is no such map")?.insert(key.to_owned(), value.into());
    if value_of(&changed).ok().as_ref() == Some(&wanted) { Ok(changed) } else { Err(format!("`{key}` would change other keys too")) }
}

fn value_of(text: &str) -> Result<Value, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

fn find<'a>(value: &'a Value, path: &[Key]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, step| match step {
        Key::Name(name) => value.get(name),
        Key::At(at) => value.get(*at),
    })
}

/// The byte at which a line and column (from 1) are.
fn byte(text: &str, line: usize, column: usize) -> Option<usize> {
    let start: usize = text.split_inclusive('\n').take(line.checked_sub(1)?).map(str::len).sum();
    let (within, _) = text[start..].char_indices().nth(column.checked_sub(1)?)?;
    Some(start + within)
}

/// How long the scalar is that begins here.
fn scalar(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    if first == '"' || first == '\'' {
        return text[1..].find(first).map(|end| end + 2);
    }
    let line = text.split('\n').next()?;
    let end = line.find([',', '}']).unwrap_or(line.len()).min(line.find(" #").unwrap_or(line.len()));
    Some(line[..end].trim_end().len()).filter(|length| *length > 0)
}

fn replaced(text: &str, located: &Located, path: &[Key], value: &str) -> Option<String> {
    let spot = located.value(path);
    let start = byte(text, spot.line, spot.column)?;
    let end = start + scalar(&text[start..])?;
    Some(format!("{}{value}{}", &text[..start], &text[end..]))
}

fn beside(text: &str, located: &Located, neighbour: &[Key], key: &str, value: &str) -> Option<String> {
    let (name, content) = (located.key(neighbour), located.value(neighbour));
    let start = byte(text, content.line, content.column)?;
    let end = start + scalar(&text[start..])?;
    let line = byte(text, name.line, 1)?;
    let before = &text[line..byte(text, name.line, name.column)?];
    if before.trim().is_empty() {
        let next = text[end..].find('\n').map_or(text.len(), |newline| end + newline + 1);
        let newline = if text[..next].ends_with('\n') { "" } else { "\n" };
        return Some(format!("{}{newline}{before}{key}: {value}\n{}", &text[..next], &text[next..]));
    }
    Some(format!("{}, {key}: {value}{}", &text[..end], &text[end..]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    fn path() -> [Key; 3] {
        ["steps".into(), 0.into(), "with".into()]
    }

    #[test]
    fn a_new_key_comes_after_its_neighbour() {
        let block = "steps:\n  - id: a\n    with:\n      chart: x\n      version: 1.0.0   # pinned\n      release: r\n";
        let changed = set(block, &path(), "digest", "sha256:1", "version").unwrap();
        assert_eq!(changed, block.replace("# pinned\n", "# pinned\n      digest: sha256:1\n"));
        let flow = "steps:\n  - id: a\n    with: { chart: x, version: \"1.0.0\", release: r } # end\n";
        let changed = set(flow, &path(), "digest", "sha256:1", "version").unwrap();
        assert_eq!(changed, flow.replace("\"1.0.0\",", "\"1.0.0\", digest: sha256:1,"));
        let last = "steps:\n  - with:\n      version: 1.0.0";
        assert_eq!(set(last, &path(), "digest", "d", "version").unwrap(), format!("{last}\n      digest: d\n"));
    }

    #[test]
    fn a_key_that_is_there_gets_another_value() {
        for (before, after) in [
            ("steps:\n  - with:\n      version: 1\n      digest: sha256:1  # of today\n", "sha256:1  #"),
            ("steps:\n  - with: { version: 1, digest: 'sha256:1' }\n", "'sha256:1'"),
            ("steps:\n  - with: { version: 1, digest: sha256:1}\n", "sha256:1"),
        ] {
            let changed = set(before, &path(), "digest", "sha256:2", "version").unwrap();
            assert_eq!(changed, before.replacen(after, &after.replace("'sha256:1'", "sha256:2").replace("sha256:1", "sha256:2"), 1));
        }
    }

    #[test]
    fn what_cannot_be_done_without_harm_is_not_done() {
        assert!(set("steps:\n  - with: { chart: x }\n", &path(), "digest", "d", "version").is_err());
        // What is said once for two places would change in both.
        let shared = "base: &b { version: 1 }\nsteps:\n  - with: *b\n";
        assert!(set(shared, &path(), "digest", "d", "version").is_err());
    }
}
