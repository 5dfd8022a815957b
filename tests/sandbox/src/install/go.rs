//! One way to call go: other flags would compile what our programs share, the standard library first, once more for each of them.
use std::path::Path;

use tokio::process::Command;

/// Static, because images hold a program and nothing else. Nobody debugs these programs, and leaving out what a debugger needs saves a tenth of the
/// compiling; a compiler that collects its garbage later saves another sixth. tests/test.sh tests the provider with the same.
const ENVIRONMENT: [(&str, &str); 3] =
    [("CGO_ENABLED", "0"), ("GOFLAGS", "-trimpath -buildvcs=false -gcflags=all=-dwarf=false"), ("GOGC", "400")];

/// `go` with one of its subcommands, in a folder.
pub fn go(folder: &Path, subcommand: &str) -> Command {
    let mut go = Command::new("go");
    go.current_dir(folder).envs(ENVIRONMENT).arg(subcommand);
    go
}
