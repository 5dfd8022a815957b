//! Keeps records in memory and on disk: one JSON file a record, replaced atomically, so a crash leaves the old or the new one.
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    ids::Region,
    model::{AutomatedBackup, Event, Instance, ParameterGroup, Snapshot, SubnetGroup},
};

/// Something that is stored under a key in a region.
pub trait Record: Serialize + DeserializeOwned + Clone {
    /// The folder of its files.
    const FOLDER: &'static str;
    /// Unique among its kind in a region.
    fn key(&self) -> &str;
    /// Where it is kept in memory.
    fn table(region: &RegionRecords) -> &BTreeMap<String, Self>;
    /// The same, to change.
    fn table_mut(region: &mut RegionRecords) -> &mut BTreeMap<String, Self>;
}

/// All records of a region.
#[derive(Debug, Default)]
pub struct RegionRecords {
    instances: BTreeMap<String, Instance>,
    snapshots: BTreeMap<String, Snapshot>,
    backups: BTreeMap<String, AutomatedBackup>,
    subnet_groups: BTreeMap<String, SubnetGroup>,
    parameter_groups: BTreeMap<String, ParameterGroup>,
    events: Vec<Event>,
}

macro_rules! record {
    ($kind:ty, $folder:literal, $table:ident, $key:expr) => {
        impl Record for $kind {
            const FOLDER: &'static str = $folder;
            fn key(&self) -> &str {
                let key: fn(&$kind) -> &str = $key;
                key(self)
            }
            fn table(region: &RegionRecords) -> &BTreeMap<String, Self> {
                &region.$table
            }
            fn table_mut(region: &mut RegionRecords) -> &mut BTreeMap<String, Self> {
                &mut region.$table
            }
        }
    };
}

record!(Instance, "instances", instances, |record| record.id.as_str());
record!(Snapshot, "snapshots", snapshots, |record| record.id.as_str());
record!(AutomatedBackup, "backups", backups, |record| record.resource.as_str());
record!(SubnetGroup, "subnet-groups", subnet_groups, |record| &record.name);
record!(ParameterGroup, "parameter-groups", parameter_groups, |record| &record.name);

/// Events older than the newest of this many are forgotten.
const EVENTS: usize = 500;

/// Every record of every region.
#[derive(Debug)]
pub struct Records {
    folder: PathBuf,
    regions: BTreeMap<Region, RegionRecords>,
}

impl Records {
    /// Reads what an earlier daemon wrote.
    pub fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let mut records = Self { folder: folder.to_owned(), regions: BTreeMap::new() };
        for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
            let entry = entry?;
            let Ok(region) = Region::parse(&entry.file_name().to_string_lossy()) else { continue };
            let path = entry.path();
            if !path.is_dir() {
                continue;
            }
            let mut found = RegionRecords::default();
            read_table::<Instance>(&path, &mut found)?;
            read_table::<Snapshot>(&path, &mut found)?;
            read_table::<AutomatedBackup>(&path, &mut found)?;
            read_table::<SubnetGroup>(&path, &mut found)?;
            read_table::<ParameterGroup>(&path, &mut found)?;
            found.events = read_json(&path.join("events.json"))?.unwrap_or_default();
            records.regions.insert(region, found);
        }
        Ok(records)
    }

    /// The regions that have anything.
    pub fn regions(&self) -> Vec<Region> {
        self.regions.keys().cloned().collect()
    }

    /// One record.
    pub fn get<R: Record>(&self, region: &Region, key: &str) -> Option<R> {
        R::table(self.regions.get(region)?).get(key).cloned()
    }

    /// All of a kind, by key.
    pub fn list<R: Record>(&self, region: &Region) -> Vec<R> {
        self.regions.get(region).map(|records| R::table(records).values().cloned().collect()).unwrap_or_default()
    }

    /// Writes a record; in memory only once it is on disk.
    pub fn put<R: Record>(&mut self, region: &Region, record: R) -> Result<()> {
        write_json(&self.file::<R>(region, record.key()), &record)?;
        R::table_mut(self.regions.entry(region.clone()).or_default()).insert(record.key().to_owned(), record);
        Ok(())
    }

    /// Forgets a record.
    pub fn remove<R: Record>(&mut self, region: &Region, key: &str) -> Result<Option<R>> {
        let path = self.file::<R>(region, key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).with_context(|| format!("removing {}", path.display())),
            _ => Ok(self.regions.get_mut(region).and_then(|records| R::table_mut(records).remove(key))),
        }
    }

    /// Adds an event.
    pub fn add_event(&mut self, region: &Region, event: Event) -> Result<()> {
        let path = self.folder.join(region.as_str()).join("events.json");
        let events = &mut self.regions.entry(region.clone()).or_default().events;
        events.push(event);
        let surplus = events.len().saturating_sub(EVENTS);
        events.drain(..surplus);
        write_json(&path, events)
    }

    /// Events, oldest first.
    pub fn events(&self, region: &Region) -> Vec<Event> {
        self.regions.get(region).map(|records| records.events.clone()).unwrap_or_default()
    }

    fn file<R: Record>(&self, region: &Region, key: &str) -> PathBuf {
        self.folder.join(region.as_str()).join(R::FOLDER).join(format!("{key}.json"))
    }
}

fn read_table<R: Record>(region: &Path, into: &mut RegionRecords) -> Result<()> {
    let entries = match fs::read_dir(region.join(R::FOLDER)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("reading the {} of {}", R::FOLDER, region.display())),
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json")
            && let Some(record) = read_json::<R>(&path)?
        {
            R::table_mut(into).insert(record.key().to_owned(), record);
        }
    }
    Ok(())
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).with_context(|| format!("reading {}", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Replaces a file with JSON in one step.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_vec_pretty(value)?;
    write_whole(path, &text)
}

/// Replaces a file in one step.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file has a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    io::Write::write_all(&mut file, bytes)?;
    file.as_file().sync_data()?;
    file.persist(path).with_context(|| format!("writing {}", path.display()))?;
    Ok(())
}
