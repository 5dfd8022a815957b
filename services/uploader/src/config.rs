//! The uploader's configuration: UPLOADER_* variables, checked at the start.
use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serving::settings::{Settings, SettingsError};

/// S3 refuses a pre-signed URL that lives longer than a week; ours live minutes.
const LONGEST_URL: u64 = 900;

/// What the uploader was told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The bucket for uploads.
    pub bucket: String,
    /// As in `uploads/`.
    pub key_prefix: String,
    /// A mounted secret: lines `CALLER:SHA256HEX` of their bearer tokens.
    pub tokens_file: PathBuf,
    /// Encrypts with this key instead of S3's own.
    pub kms_key_id: Option<String>,
    /// Bytes of the largest file.
    pub largest: u64,
    /// Requests a minute of one caller.
    pub requests_per_minute: std::num::NonZeroU32,
    /// How long a URL lives, at most 15 minutes.
    pub url_lifetime: Duration,
    /// How long it answers after SIGTERM.
    pub drain_delay: Duration,
}

impl Config {
    /// Reads the environment.
    pub fn read() -> Result<Self, SettingsError> {
        let mut settings = Settings::default();
        let listen: String = settings.or("UPLOADER_LISTEN", "0.0.0.0:8080".to_owned());
        let listen = listen.parse().unwrap_or_else(|error| {
            settings.refuse(format!("UPLOADER_LISTEN: {listen:?}: {error}"));
            SocketAddr::from(([127, 0, 0, 1], 0))
        });
        let lifetime = settings.or("UPLOADER_URL_SECONDS", 600_u64);
        if lifetime == 0 || lifetime > LONGEST_URL {
            settings.refuse(format!("UPLOADER_URL_SECONDS: {lifetime} is not between 1 and {LONGEST_URL}"));
        }
        let per_minute = settings.or("UPLOADER_REQUESTS_PER_MINUTE", 600_u32);
        let key_prefix: String = settings.or("UPLOADER_KEY_PREFIX", "uploads/".to_owned());
        if !key_prefix.ends_with('/') {
            settings.refuse("UPLOADER_KEY_PREFIX must end with /");
        }
        let config = Self {
            listen,
            bucket: settings.required("UPLOADER_BUCKET"),
            key_prefix,
            tokens_file: settings.path("UPLOADER_TOKENS_FILE"),
            kms_key_id: settings.optional("UPLOADER_KMS_KEY_ID"),
            largest: settings.or("UPLOADER_LARGEST_BYTES", 5 * 1024 * 1024 * 1024),
            requests_per_minute: std::num::NonZeroU32::new(per_minute).unwrap_or(std::num::NonZeroU32::MIN),
            url_lifetime: Duration::from_secs(lifetime),
            drain_delay: Duration::from_secs(settings.or("UPLOADER_DRAIN_SECONDS", 10_u64)),
        };
        settings.finish()?;
        Ok(config)
    }
}
