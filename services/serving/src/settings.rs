//! Configuration by environment variables and mounted files. Every mistake is reported at once, at the start.
use std::{fmt::Display, path::PathBuf, str::FromStr};

/// Everything that is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
#[error("the configuration is wrong: {}", .0.join("; "))]
pub struct SettingsError(Vec<String>);

/// Reads variables and collects what is wrong with them.
#[derive(Debug, Default)]
pub struct Settings {
    wrong: Vec<String>,
}

impl Settings {
    /// A variable that must be there.
    pub fn required<T: FromStr + Default>(&mut self, name: &str) -> T
    where
        T::Err: Display,
    {
        match std::env::var(name) {
            Ok(text) => self.parse(name, &text),
            Err(_) => {
                self.wrong.push(format!("{name} is not set"));
                T::default()
            }
        }
    }

    /// A variable with a default.
    pub fn or<T: FromStr + Default>(&mut self, name: &str, default: T) -> T
    where
        T::Err: Display,
    {
        match std::env::var(name) {
            Ok(text) => self.parse(name, &text),
            Err(_) => default,
        }
    }

    /// A variable that may be missing or empty.
    pub fn optional(&mut self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|text| !text.is_empty())
    }

    /// A path that must exist.
    pub fn path(&mut self, name: &str) -> PathBuf {
        let path: PathBuf = self.required::<String>(name).into();
        if !path.as_os_str().is_empty() && !path.exists() {
            self.wrong.push(format!("{name}: {} does not exist", path.display()));
        }
        path
    }

    /// Takes note of a mistake that only the caller can see.
    pub fn refuse(&mut self, what: impl Into<String>) {
        self.wrong.push(what.into());
    }

    /// Ok if nothing was wrong.
    pub fn finish(self) -> Result<(), SettingsError> {
        if self.wrong.is_empty() { Ok(()) } else { Err(SettingsError(self.wrong)) }
    }

    fn parse<T: FromStr + Default>(&mut self, name: &str, text: &str) -> T
    where
        T::Err: Display,
    {
        text.parse().unwrap_or_else(|error| {
            self.wrong.push(format!("{name}: {text:?}: {error}"));
            T::default()
        })
    }
}
