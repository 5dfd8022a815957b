//! A hash over everything that an image is made of, so that a second plan knows without compiling that nothing has changed.
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Builder, Package, Profile, Source};
use crate::failure::{Failure, FailureKind};

/// Changes when the layout of images does, so that old ones are not taken for new ones.
const LAYOUT: &str = "deployctl image layout 1";
/// The workspace's own files that every package depends on.
const SHARED: [&str; 4] = ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", ".cargo/config.toml"];
/// Never part of a program.
const SKIPPED: [&str; 4] = ["target", ".git", "tests", "benches"];

/// 24 hexadecimal digits over the package's folder, the workspace's manifests and lock, and how it is built.
pub fn source_hash(project: &Path, package: &Package, builder: Builder, profile: Profile) -> Result<String, Failure> {
    let folder = match &package.from {
        Source::Cargo(folder) => folder,
        Source::Program(path) => return program_hash(&package.name, path),
    };
    let mut files: Vec<PathBuf> = SHARED.iter().map(PathBuf::from).filter(|path| project.join(path).is_file()).collect();
    // The project's own package is everything at its root but the other members' folders.
    let root = folder.as_os_str().is_empty() || folder == Path::new(".");
    if root {
        walk(project, Path::new("src"), &mut files)?;
        files.extend(["build.rs"].iter().map(PathBuf::from).filter(|path| project.join(path).is_file()));
    } else {
        for folder in with_path_dependencies(project, folder)? {
            walk(project, &folder, &mut files)?;
        }
    }
    files.sort();
    files.dedup();
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(format!("{LAYOUT} {} {builder:?} {profile:?} {}", package.name, std::env::consts::ARCH).as_bytes());
    for path in &files {
        let bytes =
            std::fs::read(project.join(path)).map_err(|e| Failure::usage(format!("{} cannot be read", path.display())).because(e))?;
        add(path.to_string_lossy().as_bytes());
        add(&bytes);
    }
    Ok(hex::encode(hash.finalize())[..24].to_owned())
}

/// A program that is there already is its own source.
fn program_hash(name: &str, path: &Path) -> Result<String, Failure> {
    let bytes = std::fs::read(path).map_err(|e| {
        let missing = format!("the program {} for image {name} cannot be read", path.display());
        Failure::new(FailureKind::Preflight, missing).because(e)
    })?;
    let mut hash = Sha256::new();
    hash.update(format!("{LAYOUT} {name} {}", std::env::consts::ARCH));
    hash.update(&bytes);
    Ok(hex::encode(hash.finalize())[..24].to_owned())
}

/// The package's folder and those of the workspace's other packages that it is built with: `NAME = { path = "../NAME" }`.
fn with_path_dependencies(project: &Path, folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let (mut found, mut todo) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = todo.pop() {
        if found.contains(&folder) {
            continue;
        }
        let manifest = project.join(&folder).join("Cargo.toml");
        let text = match std::fs::read_to_string(&manifest) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(Failure::usage(format!("{} cannot be read", manifest.display())).because(e)),
        };
        for line in text.lines() {
            let path = line.split_once("path = \"").and_then(|(_, rest)| rest.split_once('"')).map(|(path, _)| path);
            // Only folders count; `[[bin]] path = "src/x.rs"` is inside the package anyway.
            if let Some(path) = path.filter(|path| !path.ends_with(".rs")) {
                todo.push(normal(&folder.join(path)));
            }
        }
        found.push(folder);
    }
    Ok(found)
}

fn normal(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => drop(parts.pop()),
            std::path::Component::CurDir => {}
            part => parts.push(part),
        }
    }
    parts
}

fn walk(project: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let unreadable = |e: std::io::Error| Failure::usage(format!("the folder {} cannot be read", folder.display())).because(e);
    for entry in std::fs::read_dir(project.join(folder)).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = folder.join(entry.file_name());
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() {
            if !SKIPPED.iter().any(|skipped| entry.file_name() == *skipped) {
                walk(project, &path, files)?;
            }
        } else if kind.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_what_is_built_counts() {
        let project = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = project.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("Cargo.lock", "1");
        write("services/a/src/main.rs", "fn main() {}");
        write("services/b/src/main.rs", "fn main() {}");
        let package = Package { name: "a".into(), from: Source::Cargo("services/a".into()) };
        let hash = || source_hash(project.path(), &package, Builder::Native, Profile::Release).unwrap();
        let first = hash();
        write("services/b/src/main.rs", "fn main() { }");
        write("services/a/target/x", "x");
        write("services/a/tests/x.rs", "x");
        write("services/a/Cargo.toml", "[dependencies]\nshared = { path = \"../shared\" }\n");
        write("services/shared/src/lib.rs", "");
        let first = {
            assert_ne!(hash(), first);
            hash()
        };
        write("services/shared/src/lib.rs", "// changed");
        assert_ne!(hash(), first);
        let first = hash();
        assert_eq!(hash(), first);
        write("Cargo.lock", "2");
        let second = hash();
        assert_ne!(second, first);
        write("services/a/src/main.rs", "fn main() { }");
        assert_ne!(hash(), second);
        assert_ne!(source_hash(project.path(), &package, Builder::Native, Profile::Dev).unwrap(), hash());
    }
}
