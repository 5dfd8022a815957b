//! The "only" lines of the design, enforced on the source text: who may use AWS, Kubernetes, processes and the terminal.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic and say why")]
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Soft limit of the design; longer files are listed, not refused.
const LINES: usize = 400;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every file of these folders: its path from the root and its text without comments.
fn sources(folders: &[&str]) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for folder in folders {
        rust_files(&root().join(folder), &mut files);
    }
    files.sort();
    let name = |path: &Path| path.strip_prefix(root()).unwrap().display().to_string();
    files.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

fn code(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

fn only(words: &[&str], allowed: &[&str]) {
    let mut broken = Vec::new();
    for (path, text) in sources(&["src"]) {
        if allowed.iter().any(|folder| path.starts_with(folder)) {
            continue;
        }
        let code = code(&text);
        broken.extend(words.iter().filter(|word| code.contains(**word)).map(|word| format!("{path}: {word}")));
    }
    assert!(broken.is_empty(), "only {allowed:?} may do this:\n{}", broken.join("\n"));
}

#[test]
fn only_aws_uses_the_sdk() {
    only(&["aws_sdk_", "aws_config::", "aws_sigv4"], &["src/aws/"]);
}

#[test]
fn only_cluster_uses_kube() {
    only(&["kube::", "k8s_openapi::"], &["src/cluster/"]);
}

#[test]
fn only_tools_spawn_processes() {
    only(&["process::Command", "Command::new("], &["src/tools/"]);
}

#[test]
fn only_ui_prints() {
    // The agent's standard output is its result: it has no terminal, a Job's log is read by machines.
    only(
        &["println!", "print!(", "eprintln!", "stdout()", "stderr()"],
        &["src/ui/", "src/agent/", "src/tools/watchdog.rs", "src/tools/process.rs"],
    );
}

#[test]
fn only_the_clock_asks_what_time_it_is() {
    // Signatures must carry the real time whatever a test says it is.
    only(&["SystemTime::now", "Timestamp::now()", "Zoned::now"], &["src/clock.rs", "src/aws/", "src/tools/watchdog.rs"]);
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<String> = sources(&["src", "tests", "services"])
        .into_iter()
        .filter(|(path, text)| !path.contains("/target/") && !text.trim_start().starts_with("//!"))
        .map(|(path, _)| path)
        .collect();
    assert!(silent.is_empty(), "no `//!` line at the top:\n{}", silent.join("\n"));
}

#[test]
fn no_module_is_named_after_nothing() {
    const EMPTY: [&str; 4] = ["utils", "helpers", "common", "manager"];
    let named: Vec<String> = sources(&["src", "tests", "services"])
        .into_iter()
        .filter(|(path, _)| {
            Path::new(path)
                .components()
                .any(|part| EMPTY.iter().any(|word| part.as_os_str().to_str().is_some_and(|p| p.trim_end_matches(".rs") == *word)))
        })
        .map(|(path, _)| path)
        .collect();
    assert!(named.is_empty(), "{}", named.join("\n"));
}

#[test]
fn long_files_are_listed() {
    for (path, text) in sources(&["src", "services"]) {
        let lines = text.lines().count();
        if lines > LINES {
            println!("{path}: {lines} lines; the limit is {LINES}: one idea a file");
        }
    }
}

/// Libraries with other features are other libraries: cargo would compile them, and all that are built on them, a second time for the sandbox's images.
#[test]
fn images_are_made_of_the_libraries_that_tests_compile() {
    let tree = |packages: &[&str]| -> BTreeSet<String> {
        let mut cargo = std::process::Command::new(env!("CARGO"));
        cargo.args(["tree", "--locked", "--offline", "--edges", "normal,build", "--format", "{p}|{f}", "--prefix", "none", "--no-dedupe"]);
        let output = cargo.args(packages).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).unwrap();
        lines.lines().map(|line| line.replace(" (proc-macro)", "").trim_end_matches(" (*)").to_owned()).collect()
    };
    let workspace = tree(&["--workspace"]);
    let images = tree(&["-p", "parser", "-p", "uploader", "-p", "deployctl"]);
    let others: Vec<&String> = images.difference(&workspace).collect();
    assert!(!images.is_empty() && others.is_empty(), "add the missing features to deployctl's dependencies: {others:#?}");
}
