//! A lost region: while `regions-down/REGION` exists in the state folder, requests for it hang and then fail, as they do in an outage.
use std::{path::Path, path::PathBuf, time::Duration};

/// Looks at the folder for each request, so that it needs no restart.
#[derive(Clone)]
pub struct RegionSwitch {
    folder: PathBuf,
    hang: Duration,
}

impl RegionSwitch {
    /// The switch of a sandbox's state folder.
    pub fn new(state: &Path) -> Self {
        let hang = std::fs::read_to_string(state.join("regions-down.seconds")).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(5);
        Self { folder: state.join("regions-down"), hang: Duration::from_secs(hang) }
    }

    /// Region names are short words; anything else cannot be down and must not become a path.
    pub fn is_down(&self, region: &str) -> bool {
        let plain = !region.is_empty() && region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        plain && self.folder.join(region).exists()
    }

    /// Waits as long as a caller waits for a region that does not answer, or until it is back.
    pub async fn hang(&self, region: &str) {
        let end = tokio::time::Instant::now() + self.hang;
        while tokio::time::Instant::now() < end && self.is_down(region) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
