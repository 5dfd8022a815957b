//! PostgreSQL's own list of settings: which exist, which need a restart, what they accept.
use std::{collections::BTreeMap, path::Path, process::Command, sync::OnceLock};

use anyhow::{Context as _, Result, bail};

use super::place::PROGRAMS;

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Whether it takes effect without a restart.
    pub apply: Apply,
    /// RDS' word for its type: boolean, integer, float, string.
    pub data_type: &'static str,
    /// `MIN-MAX` of a number, or the values of a choice.
    pub allowed: Option<String>,
    /// PostgreSQL's sentence about it.
    pub description: String,
}

/// When a change of a setting takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apply {
    /// At the next reboot.
    Static,
    /// At once.
    Dynamic,
}

/// All settings by name; asked of the server program once.
pub fn settings() -> Result<&'static BTreeMap<String, Setting>> {
    static SETTINGS: OnceLock<BTreeMap<String, Setting>> = OnceLock::new();
    if let Some(known) = SETTINGS.get() {
        return Ok(known);
    }
    let output = Command::new(Path::new(PROGRAMS).join("postgres")).arg("--describe-config").output().context("running postgres")?;
    if !output.status.success() {
        bail!("postgres --describe-config ended with {}", output.status);
    }
    let mut found: BTreeMap<String, Setting> = String::from_utf8_lossy(&output.stdout).lines().filter_map(read_line).collect();
    found.insert(
        "rds.force_ssl".into(),
        Setting { apply: Apply::Dynamic, data_type: "boolean", allowed: Some("0,1".into()), description: "Force SSL connections.".into() },
    );
    found.insert(
        "rds.logical_replication".into(),
        Setting {
            apply: Apply::Static,
            data_type: "boolean",
            allowed: Some("0,1".into()),
            description: "Enables logical decoding.".into(),
        },
    );
    Ok(SETTINGS.get_or_init(|| found))
}

/// name, context, group, type, default, min, max, short, long; tab-separated.
fn read_line(line: &str) -> Option<(String, Setting)> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [name, context, _, kind, _, min, max, description, ..] = fields.as_slice() else { return None };
    let apply = match *context {
        "internal" => return None,
        "postmaster" => Apply::Static,
        _ => Apply::Dynamic,
    };
    let (data_type, allowed) = match *kind {
        "BOOLEAN" => ("boolean", Some("0,1".to_owned())),
        "INTEGER" => ("integer", Some(format!("{min}-{max}"))),
        "REAL" => ("float", Some(format!("{min}-{max}"))),
        _ => ("string", None),
    };
    let setting = Setting { apply, data_type, allowed, description: (*description).to_owned() };
    Some(((*name).to_owned(), setting))
}

/// Whether a setting accepts a value; RDS' formulas like `{DBInstanceClassMemory/32768}` are not among what it accepts here.
pub fn accepts(setting: &Setting, value: &str) -> bool {
    match (setting.data_type, setting.allowed.as_deref()) {
        ("boolean", _) => matches!(value, "0" | "1" | "on" | "off" | "true" | "false"),
        ("integer" | "float", Some(range)) => {
            let split = range.char_indices().skip(1).find(|(_, letter)| *letter == '-').map(|(index, _)| index);
            let bounds = split.map(|index| (range[..index].parse::<f64>(), range[index + 1..].parse::<f64>()));
            match (value.parse::<f64>(), bounds) {
                (Ok(number), Some((Ok(min), Ok(max)))) => (min..=max).contains(&number),
                _ => false,
            }
        }
        _ => !value.contains('\n'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_names_its_settings_and_their_bounds() {
        let known = settings().unwrap();
        assert_eq!(known["max_connections"].apply, Apply::Static);
        assert_eq!(known["work_mem"].apply, Apply::Dynamic);
        assert!(accepts(&known["max_connections"], "50"));
        assert!(!accepts(&known["max_connections"], "0"));
        assert!(accepts(&known["log_min_duration_statement"], "-1"));
        assert!(!accepts(&known["autovacuum"], "maybe"));
    }
}
