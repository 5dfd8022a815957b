//! Every command that a runbook or the workflow of drills shows is one that deployctl takes. End to end they are run, too.
use clap::Parser as _;
use deployctl::cli::Cli;

/// Words that stand for something of the reader's.
const PLACEHOLDERS: [(&str, &str); 6] = [
    ("ENV", "production"),
    ("REGION", "eu-west-1"),
    ("TIME", "2026-11-29T03:00:00Z"),
    ("ID", "deployctl-production-parser-v1"),
    ("SNAPSHOT", "deployctl-production-parser-v1"),
    ("VERSION", "12"),
];

fn commands(text: &str) -> Vec<String> {
    let shown = text.lines().filter_map(|line| line.trim().trim_start_matches("run: ").strip_prefix("deployctl ").map(str::to_owned));
    // In sentences they stand between backticks.
    let named = text.split('`').skip(1).step_by(2).filter_map(|code| code.strip_prefix("deployctl ").map(str::to_owned));
    shown.chain(named).collect()
}

#[test]
fn show_commands_that_exist() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = std::fs::read_dir(root.join("plans/runbooks")).unwrap().map(|entry| entry.unwrap().path());
    let mut seen = 0;
    for page in pages.chain([root.join(".github/workflows/dr-drill.yaml")]) {
        let text = std::fs::read_to_string(&page).unwrap();
        for command in commands(&text) {
            let words =
                command.split_whitespace().map(|word| PLACEHOLDERS.iter().find(|(name, _)| *name == word).map_or(word, |(_, value)| value));
            let parsed = Cli::try_parse_from(std::iter::once("deployctl").chain(words));
            assert!(parsed.is_ok(), "{}: deployctl {command}: {}", page.display(), parsed.unwrap_err());
            seen += 1;
        }
    }
    assert!(seen >= 5, "{seen}");
}
