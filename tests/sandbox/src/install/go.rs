//! One way to call go: other flags would compile what our programs share, the standard library first, once more for each of them.
use std::path::Path;

use tokio::process::Command;

/// Static, because images hold a program and nothing else. Nobody debugs these programs, and leaving out what a debugger needs saves a tenth of the
/// compiling. tests/test.sh tests the provider with the same two.
const ENVIRONMENT: [(&str, &str); 2] = [("CGO_ENABLED", "0"), ("GOFLAGS", "-trimpath -buildvcs=false -gcflags=all=-dwarf=false")];

/// `go` with one of its subcommands, in a folder.
pub fn go(folder: &Path, subcommand: &str) -> Command {
    let mut go = Command::new("go");
    go.current_dir(folder).envs(ENVIRONMENT).arg(subcommand);
    go
}
