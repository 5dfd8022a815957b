//! Finds a sandbox's layout, or claims a name and a slot for a new one while no other `up` can.
use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::layout::{Layout, Site};

const SLOTS: u8 = 64;
/// `$XDG_STATE_HOME/deployctl/sandbox/NAME`.
pub fn state_folder(name: &str) -> Result<PathBuf> {
    Ok(base("XDG_STATE_HOME", ".local/state")?.join("deployctl/sandbox").join(name))
}

/// `$XDG_CACHE_HOME/deployctl`.
pub fn cache_folder() -> Result<PathBuf> {
    Ok(base("XDG_CACHE_HOME", ".cache")?.join("deployctl"))
}

/// The sandbox of that name, if it was brought up.
pub fn find(name: &str) -> Result<Option<Layout>> {
    let file = state_folder(name)?.join("sandbox.json");
    match fs::read(&file) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).with_context(|| format!("reading {}", file.display()))?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", file.display())),
    }
}

/// The sandbox of that name; an error with the next command when there is none.
pub fn existing(name: &str) -> Result<Layout> {
    match find(name)? {
        Some(layout) => Ok(layout),
        None => bail!("there is no sandbox named {name}; next: deployctl-sandbox up --name {name}"),
    }
}

/// Held while slots and namespaces are given out or taken back, by one process of the machine at a time.
pub struct SlotLock {
    _file: File,
}

impl SlotLock {
    /// Waits for it; whoever holds it only makes or removes interfaces, which takes a moment.
    pub async fn take() -> Result<Self> {
        // A folder that every machine has can be locked like a file, and leaves no lock file behind.
        let file = File::open("/run").context("opening /run to lock it")?;
        let end = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(fs::TryLockError::WouldBlock) if tokio::time::Instant::now() < end => {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                Err(fs::TryLockError::WouldBlock) => bail!("another deployctl-sandbox has held the lock on /run for a minute"),
                Err(fs::TryLockError::Error(error)) => return Err(error).context("locking /run"),
            }
        }
    }
}

/// The sandbox of that name, claimed now if it is new. The lock must be held until its interfaces exist.
pub fn claim(name: &str, _lock: &SlotLock) -> Result<Layout> {
    if let Some(layout) = find(name)? {
        return Ok(layout);
    }
    let state = state_folder(name)?;
    let mut layout = Layout { name: name.to_owned(), slot: 0, state, cache: cache_folder()?, project: project()?, site: Site::Home };
    if Path::new("/run/netns").join(layout.namespace()).exists() {
        bail!(
            "a namespace {} exists that {} knows nothing of; next: take it down with the XDG_STATE_HOME it was made with, or use another --name",
            layout.namespace(),
            layout.state.display()
        );
    }
    // A sandbox that is still installing has a file and no interface yet.
    let taken = claimed_slots(&layout.state)?;
    let free = (0..SLOTS).find(|slot| {
        layout.slot = *slot;
        !taken.contains(slot) && !Path::new("/sys/class/net").join(layout.host_interface()).exists()
    });
    layout.slot = free.with_context(|| format!("all {SLOTS} slots are taken; next: deployctl-sandbox down --name OTHER"))?;
    fs::create_dir_all(&layout.state).with_context(|| format!("making {}", layout.state.display()))?;
    fs::set_permissions(&layout.state, fs::Permissions::from_mode(0o711))?;
    write_private(&layout.file("sandbox.json"), &serde_json::to_vec_pretty(&layout)?)?;
    Ok(layout)
}

/// Writes a file that only its owner can read, whole or not at all.
pub fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file needs a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let mut file = tempfile::NamedTempFile::new_in(folder).with_context(|| format!("writing in {}", folder.display()))?;
    io::Write::write_all(&mut file, content)?;
    file.persist(path).with_context(|| format!("writing {}", path.display()))?;
    Ok(())
}

fn claimed_slots(state: &Path) -> Result<Vec<u8>> {
    let Ok(siblings) = fs::read_dir(state.parent().context("a state folder has a parent")?) else { return Ok(Vec::new()) };
    let mut slots = Vec::new();
    for sibling in siblings {
        if let Ok(bytes) = fs::read(sibling?.path().join("sandbox.json")) {
            slots.push(serde_json::from_slice::<Layout>(&bytes).context("reading another sandbox's sandbox.json")?.slot);
        }
    }
    Ok(slots)
}

fn base(variable: &str, below_home: &str) -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os(variable).map(PathBuf::from).filter(|folder| folder.is_absolute()) {
        return Ok(folder);
    }
    let home = std::env::var_os("HOME").with_context(|| format!("neither {variable} nor HOME is set"))?;
    Ok(PathBuf::from(home).join(below_home))
}

/// The checkout that the command is called in, else the one it was built from.
pub fn project() -> Result<PathBuf> {
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR"));
    let here = std::env::current_dir().context("finding the current folder")?;
    let found = here.ancestors().chain(built_from.ancestors()).find(|folder| folder.join("tests/sandbox/kube-node/go.mod").is_file());
    found.map(Path::to_owned).context("no checkout of deployctl found; next: run this inside one")
}
