//! Where this machine keeps what it built or downloaded, for every checkout on it. All of it may be deleted at any time.
use std::path::PathBuf;

use crate::failure::Failure;

/// `$XDG_CACHE_HOME/deployctl`, by default `~/.cache/deployctl`.
pub fn folder() -> Result<PathBuf, Failure> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    root.map(|root| root.join("deployctl")).ok_or_else(|| Failure::usage("neither XDG_CACHE_HOME nor HOME is set"))
}

/// Where staged sources are compiled.
pub fn sources() -> Result<PathBuf, Failure> {
    Ok(folder()?.join("image-source"))
}
