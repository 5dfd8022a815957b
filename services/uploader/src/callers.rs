//! Who may ask: bearer tokens, known only by their hashes, and how often each caller may.
use std::{
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
    time::SystemTime,
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::refusal::Refusal;

/// A caller's name, from the tokens file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Caller(String);

impl Caller {
    /// The name: lower-case letters, digits and dashes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The tokens file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum CallersError {
    /// It can't be read.
    #[error("can't read {0}")]
    Read(PathBuf, #[source] std::io::Error),
    /// A line is not `CALLER:SHA256HEX`; the line itself is not shown.
    #[error("{0}:{1}: not CALLER:SHA256HEX (a name of lower-case letters, digits and dashes, a colon, 64 hexadecimal digits)")]
    Line(PathBuf, usize),
    /// Nobody could ever ask.
    #[error("{0} names no caller")]
    Empty(PathBuf),
}

struct Known {
    callers: Vec<(Caller, [u8; 32])>,
    modified: Option<SystemTime>,
}

/// The callers, read again when their file changes, so that a rotated token needs no restart.
pub struct Callers {
    file: PathBuf,
    known: RwLock<Known>,
    limiter: DefaultKeyedRateLimiter<String>,
}

impl Callers {
    /// Reads the file.
    pub fn read(file: &Path, per_minute: NonZeroU32) -> Result<Self, CallersError> {
        let known = Known { callers: read(file)?, modified: modified(file) };
        Ok(Self { file: file.to_owned(), known: RwLock::new(known), limiter: RateLimiter::keyed(Quota::per_minute(per_minute)) })
    }

    /// The caller behind an Authorization header, within its limit.
    pub fn admit(&self, authorization: Option<&str>) -> Result<Caller, Refusal> {
        self.refresh();
        let token = authorization.and_then(|value| value.strip_prefix("Bearer ")).ok_or(Refusal::NoToken)?;
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        // Every entry is compared, in constant time each: the time taken tells nothing about how near a guess was.
        let mut found = None;
        for (caller, expected) in &known.callers {
            if bool::from(expected.ct_eq(&hash)) {
                found = Some(caller.clone());
            }
        }
        let caller = found.ok_or(Refusal::WrongToken)?;
        self.limiter.check_key(&caller.0).map_err(|_not_until| Refusal::TooManyRequests)?;
        Ok(caller)
    }

    fn refresh(&self) {
        let now = modified(&self.file);
        if self.known.read().unwrap_or_else(PoisonError::into_inner).modified == now {
            return;
        }
        match read(&self.file) {
            Ok(callers) => *self.known.write().unwrap_or_else(PoisonError::into_inner) = Known { callers, modified: now },
            // A secret that is being rotated may be half there: the callers known so far stay until it can be read.
            Err(error) => tracing::warn!(%error, "the tokens file changed and can't be used; the old tokens stay valid"),
        }
    }
}

fn modified(file: &Path) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}

fn read(file: &Path) -> Result<Vec<(Caller, [u8; 32])>, CallersError> {
    let text = std::fs::read_to_string(file).map_err(|error| CallersError::Read(file.to_owned(), error))?;
    let mut callers = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let entry = line.trim().split_once(':').and_then(|(name, hash)| {
            let mut expected = [0; 32];
            hex::decode_to_slice(hash, &mut expected).ok()?;
            let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
            plain.then(|| (Caller(name.to_owned()), expected))
        });
        callers.push(entry.ok_or_else(|| CallersError::Line(file.to_owned(), number + 1))?);
    }
    if callers.is_empty() { Err(CallersError::Empty(file.to_owned())) } else { Ok(callers) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(content: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file
    }

    fn line(name: &str, token: &str) -> String {
        format!("{name}:{}\n", hex::encode(Sha256::digest(token)))
    }

    #[test]
    fn only_the_right_token_is_admitted_and_only_so_often() {
        let tokens = file(&(line("smoke", "s3cret") + &line("shop", "other")));
        let callers = Callers::read(tokens.path(), NonZeroU32::new(2).unwrap()).unwrap();
        assert_eq!(callers.admit(None).unwrap_err(), Refusal::NoToken);
        assert_eq!(callers.admit(Some("Basic s3cret")).unwrap_err(), Refusal::NoToken);
        assert_eq!(callers.admit(Some("Bearer wrong")).unwrap_err(), Refusal::WrongToken);
        assert_eq!(callers.admit(Some("Bearer s3cret")).unwrap().as_str(), "smoke");
        assert_eq!(callers.admit(Some("Bearer s3cret")).unwrap().as_str(), "smoke");
        assert_eq!(callers.admit(Some("Bearer s3cret")).unwrap_err(), Refusal::TooManyRequests);
        assert_eq!(callers.admit(Some("Bearer other")).unwrap().as_str(), "shop", "one caller's limit is not another's");
    }

    #[test]
    fn a_rotated_token_needs_no_restart_and_a_broken_file_changes_nothing() {
        let mut tokens = file(&line("smoke", "old"));
        let callers = Callers::read(tokens.path(), NonZeroU32::new(100).unwrap()).unwrap();
        let mut replace = |content: &str, seconds: u64| {
            tokens.as_file_mut().set_len(0).unwrap();
            std::fs::write(tokens.path(), content).unwrap();
            tokens.as_file().set_modified(SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
        };
        replace("not a line", 1000);
        assert!(callers.admit(Some("Bearer old")).is_ok());
        replace(&line("smoke", "new"), 2000);
        assert!(callers.admit(Some("Bearer new")).is_ok());
        assert_eq!(callers.admit(Some("Bearer old")).unwrap_err(), Refusal::WrongToken);
    }

    #[test]
    fn a_bad_line_is_named_by_number_and_not_shown() {
        let tokens = file("smoke:abc\n");
        let error = Callers::read(tokens.path(), NonZeroU32::MIN).err().unwrap().to_string();
        assert!(error.contains(":1:") && !error.contains("smoke:abc"), "{error}");
    }
}
