//! Commands that the README shows with what they print: run as they stand there.
use super::project::Project;

#[test]
fn what_the_readme_shows_is_what_is_printed() {
    let readme = include_str!("../../README.md");
    let blocks: Vec<&str> =
        readme.split("runs this block. -->\n```console\n").skip(1).filter_map(|rest| rest.split("\n```").next()).collect();
    assert!(!blocks.is_empty(), "no block of the README is marked");
    for block in blocks {
        let (command, shown) = block.split_once('\n').unwrap_or((block, ""));
        let args: Vec<&str> = command.strip_prefix("$ deployctl ").unwrap().split(' ').collect();
        let output = Project::new().command(&args).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(said.trim_end(), shown.trim_end(), "{command}");
    }
}
