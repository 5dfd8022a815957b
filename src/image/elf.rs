//! The shared libraries that a program needs, read from its ELF header: running `ldd` would run the program's loader.
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::failure::{Failure, FailureKind};

/// Where the loader looks, in its order.
const FOLDERS: [&str; 6] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/lib64", "/usr/lib"];
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_LOAD: u32 = 1;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;

/// What one ELF file asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The loader's path; none for a library or a static program.
    pub interpreter: Option<String>,
    /// Names of libraries.
    pub libraries: Vec<String>,
}

/// A reader that answers None instead of reading past the end.
struct Elf<'a>(&'a [u8]);

impl Elf<'_> {
    fn bytes<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        let start = usize::try_from(at).ok()?;
        self.0.get(start..start.checked_add(N)?)?.try_into().ok()
    }
    fn half(&self, at: u64) -> Option<u64> {
        self.bytes(at).map(|b| u64::from(u16::from_le_bytes(b)))
    }
    fn word(&self, at: u64) -> Option<u32> {
        self.bytes(at).map(u32::from_le_bytes)
    }
    fn long(&self, at: u64) -> Option<u64> {
        self.bytes(at).map(u64::from_le_bytes)
    }
    fn text(&self, at: u64) -> Option<String> {
        let rest = self.0.get(usize::try_from(at).ok()?..)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        String::from_utf8(rest[..end].to_vec()).ok()
    }
}

/// Reads what a 64-bit little-endian ELF file needs.
pub fn needs(file: &[u8]) -> Option<Needs> {
    let elf = Elf(file);
    if elf.bytes::<6>(0)? != *b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, size, count) = (elf.long(0x20)?, elf.half(0x36)?, elf.half(0x38)?);
    let (mut needs, mut loads, mut dynamic) = (Needs::default(), Vec::new(), None);
    for index in 0..count {
        let header = table.checked_add(index * size)?;
        let (offset, address, length) = (elf.long(header + 8)?, elf.long(header + 16)?, elf.long(header + 32)?);
        match elf.word(header)? {
            PT_INTERP => needs.interpreter = elf.text(offset),
            PT_DYNAMIC => dynamic = Some((offset, length)),
            PT_LOAD => loads.push((address, offset, length)),
            _ => {}
        }
    }
    let Some((offset, length)) = dynamic else { return Some(needs) };
    let (mut names, mut strings) = (Vec::new(), None);
    for entry in (offset..offset.checked_add(length)?).step_by(16) {
        match (elf.long(entry)?, elf.long(entry + 8)?) {
            (0, _) => break,
            (DT_NEEDED, name) => names.push(name),
            (DT_STRTAB, address) => strings = Some(address),
            _ => {}
        }
    }
    // The table's address is where it is once loaded; the file's offset follows from the segment that holds it.
    let address = strings?;
    let (start, offset, _) = loads.into_iter().find(|(start, _, length)| address >= *start && address - start < *length)?;
    let table = address - start + offset;
    needs.libraries = names.into_iter().filter_map(|name| elf.text(table.checked_add(name)?)).collect();
    Some(needs)
}

/// Every file that `program` needs at run time: path in the image -> file here. Its loader is among them.
pub fn closure(program: &Path) -> Result<BTreeMap<PathBuf, PathBuf>, Failure> {
    let mut found = BTreeMap::new();
    let mut todo = vec![program.to_owned()];
    while let Some(path) = todo.pop() {
        let bytes = std::fs::read(&path).map_err(|e| Failure::step(format!("{} cannot be read", path.display())).because(e))?;
        let needs = needs(&bytes).ok_or_else(|| Failure::step(format!("{} is no 64-bit ELF program", path.display())))?;
        if let Some(interpreter) = needs.interpreter.map(PathBuf::from)
            && !found.contains_key(&interpreter)
        {
            found.insert(interpreter.clone(), interpreter);
        }
        for name in needs.libraries {
            let candidates = || FOLDERS.iter().map(|folder| Path::new(folder).join(&name));
            if candidates().any(|path| found.contains_key(&path)) || found.keys().any(|path| path.file_name().is_some_and(|f| *f == *name))
            {
                continue;
            }
            let library = candidates().find(|path| path.exists()).ok_or_else(|| {
                Failure::new(FailureKind::Preflight, format!("{} needs {name}, which is in none of {}", path.display(), FOLDERS.join(", ")))
            })?;
            found.insert(library.clone(), library.clone());
            todo.push(library);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn our_own_test_program_needs_libc_and_a_loader() {
        let bytes = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let needs = needs(&bytes).unwrap();
        assert!(needs.libraries.iter().any(|name| name.starts_with("libc.so")), "{needs:?}");
        assert!(needs.interpreter.unwrap().contains("ld-linux"));
    }

    #[test]
    fn the_closure_is_complete() {
        let files = closure(&std::env::current_exe().unwrap()).unwrap();
        assert!(files.keys().any(|path| path.ends_with("libc.so.6")), "{files:?}");
    }

    #[test]
    fn a_static_program_needs_nothing() {
        // Go's, without cgo: a header and one segment to load, neither a loader nor a dynamic section.
        let mut file = vec![0; 0x40 + 0x38];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[0x20] = 0x40;
        file[0x36] = 0x38;
        file[0x38] = 1;
        file[0x40] = 1;
        assert_eq!(needs(&file), Some(Needs::default()));
        let program = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(program.path(), &file).unwrap();
        assert_eq!(closure(program.path()).unwrap(), BTreeMap::new());
    }

    #[test]
    fn what_is_no_program_is_refused() {
        assert_eq!(needs(b"#!/bin/sh\n"), None);
        assert_eq!(needs(b"\x7fELF\x02\x01 cut off"), None);
    }
}
