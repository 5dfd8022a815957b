//! The load balancers' addresses: one each, remembered over a restart, put on the interface that fits the scheme, and named in DNS. EC2
//! (`emulator/load_balancers.py`) reads the same file: a load balancer has network interfaces in the VPC, and they outlive it for a while.
use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;

/// Who can reach a load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// Inside the sandbox only.
    Internal,
    /// The host too.
    InternetFacing,
}

impl Scheme {
    fn interface(self) -> &'static str {
        match self {
            Self::Internal => Layout::INTERNAL_INTERFACE,
            Self::InternetFacing => Layout::NODE_INTERFACE,
        }
    }
}

/// A load balancer's place in the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub address: Ipv4Addr,
    pub hostname: String,
    pub scheme: Scheme,
}

/// How long a deleted load balancer's network interfaces are still there. On AWS it is some seconds to some minutes.
const LINGER: jiff::SignedDuration = jiff::SignedDuration::from_secs(4);

/// A load balancer that was deleted a moment ago.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Leaving {
    hostname: String,
    scheme: Scheme,
    /// Seconds since 1970 until which its network interfaces are there.
    until: i64,
}

#[derive(Default, Serialize, Deserialize)]
struct Saved {
    places: BTreeMap<String, Place>,
    leaving: Vec<Leaving>,
}

/// All load balancers by `NAMESPACE/NAME`.
pub struct Addresses {
    layout: Layout,
    file: PathBuf,
    places: BTreeMap<String, Place>,
    leaving: Vec<Leaving>,
}

impl Addresses {
    /// Reads what an earlier run had.
    pub fn open(layout: &Layout) -> Result<Self> {
        let file = layout.load_balancers();
        let Saved { places, leaving } = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{}", file.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Saved::default(),
            Err(error) => return Err(error).with_context(|| format!("{}", file.display())),
        };
        Ok(Self { layout: layout.clone(), file, places, leaving })
    }

    /// Those that have a place.
    pub fn known(&self) -> Vec<String> {
        self.places.keys().cloned().collect()
    }

    /// The place of a load balancer; made, and its address put up, when it has none. A changed scheme is a new place, as on AWS.
    pub async fn ensure(&mut self, key: &str, hostname: String, scheme: Scheme) -> Result<Place> {
        if let Some(known) = self.places.get(key).cloned() {
            if known.scheme == scheme {
                put_up(&known).await?;
                return Ok(known);
            }
            self.remove(key).await?;
        }
        let taken: Vec<Ipv4Addr> = self.places.values().map(|place| place.address).collect();
        let free = match scheme {
            Scheme::Internal => self.layout.internal_addresses().find(|address| !taken.contains(address)),
            Scheme::InternetFacing => self.layout.public_addresses().find(|address| !taken.contains(address)),
        };
        let Some(address) = free else { bail!("all {} load balancer addresses of the sandbox are taken", taken.len()) };
        let place = Place { address, hostname, scheme };
        self.places.insert(key.to_owned(), place.clone());
        self.save()?;
        put_up(&place).await?;
        Ok(place)
    }

    /// Takes the address down and the name out.
    pub async fn remove(&mut self, key: &str) -> Result<()> {
        let Some(place) = self.places.remove(key) else { return Ok(()) };
        let now = jiff::Timestamp::now();
        self.leaving.retain(|found| found.until > now.as_second());
        let until = now.as_second() + LINGER.as_secs();
        self.leaving.push(Leaving { hostname: place.hostname.clone(), scheme: place.scheme, until });
        self.save()?;
        ip(&["addr", "del", &format!("{}/32", place.address), "dev", place.scheme.interface()], "Cannot assign requested address").await
    }

    fn save(&self) -> Result<()> {
        let saved = Saved { places: self.places.clone(), leaving: self.leaving.clone() };
        write(&self.file, &serde_json::to_vec_pretty(&saved)?)?;
        let lines: String = self.places.values().map(|place| format!("{} {}\n", place.address, place.hostname)).collect();
        let records = self.layout.dns_records("alb");
        if let Some(folder) = records.parent() {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        write(&records, lines.as_bytes())
    }
}

fn write(file: &Path, content: &[u8]) -> Result<()> {
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, content).and_then(|()| std::fs::rename(&fresh, file)).with_context(|| file.display().to_string())
}

async fn put_up(place: &Place) -> Result<()> {
    ip(&["addr", "add", &format!("{}/32", place.address), "dev", place.scheme.interface()], "File exists").await
}

/// Runs `ip`; `harmless` is the complaint that means it is done already.
async fn ip(arguments: &[&str], harmless: &str) -> Result<()> {
    let run = tokio::process::Command::new("ip").args(arguments).output();
    let output = tokio::time::timeout(std::time::Duration::from_secs(5), run)
        .await
        .context("`ip` did not end in 5 s")?
        .context("`ip` cannot be run")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    // iproute2 words the same complaint in two ways, by version.
    let done = complaint.contains(harmless) || complaint.contains("Address already assigned") || complaint.contains("Address not found");
    if !output.status.success() && !done {
        bail!("ip {}: {complaint}", arguments.join(" "));
    }
    Ok(())
}
