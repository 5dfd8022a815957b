//! The parser's configuration: PARSER_* variables, checked at the start.
use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use serving::settings::{Settings, SettingsError};

/// SASL/PLAIN over TLS, or over plain text in the sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KafkaSecurity {
    /// Confluent Cloud.
    #[default]
    SaslSsl,
    /// A broker that nobody else can reach.
    SaslPlaintext,
}

impl FromStr for KafkaSecurity {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "sasl-ssl" => Ok(Self::SaslSsl),
            "sasl-plaintext" => Ok(Self::SaslPlaintext),
            _ => Err("sasl-ssl or sasl-plaintext"),
        }
    }
}

/// What a file may be at most; beyond it the whole file is refused.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Bytes as stored.
    pub stored_bytes: u64,
    /// Bytes once decompressed.
    pub content_bytes: u64,
    /// Decompressed bytes for each stored byte, once a mebibyte has come out.
    pub ratio: u64,
    /// Rows.
    pub rows: u64,
    /// Bytes of one line.
    pub line_bytes: usize,
    /// Fields of a CSV record.
    pub columns: usize,
    /// Rejected rows that are kept with their reason; beyond it they are only counted.
    pub kept_rejections: u64,
}

/// The database.
#[derive(Clone, Debug)]
pub struct Database {
    /// Host name; the server's certificate must carry it.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub name: String,
    /// A mounted secret: files `username` and `password`, read at every connection so that a rotation needs no restart.
    pub credentials: PathBuf,
    /// The authorities that may have signed the server's certificate, PEM.
    pub ca_file: PathBuf,
}

/// The broker.
#[derive(Clone, Debug)]
pub struct Kafka {
    /// `host:port`, separated by commas.
    pub bootstrap: String,
    /// A mounted secret: files `api_key` and `api_secret`.
    pub credentials: PathBuf,
    /// TLS or not.
    pub security: KafkaSecurity,
    /// Where `file.parsed` goes.
    pub topic: String,
}

/// What the parser was told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Health and metrics.
    pub listen: SocketAddr,
    /// S3's notifications.
    pub queue_url: String,
    /// Where messages of files go that can't be taken.
    pub dead_letter_queue_url: String,
    /// Messages for any other bucket are refused.
    pub bucket: String,
    /// As in `uploads/`.
    pub key_prefix: String,
    /// Files at the same time.
    pub concurrency: usize,
    /// How long a received message stays hidden; renewed at half of it.
    pub visibility: Duration,
    /// How long a receive waits for messages; a drain waits for the last one, so it must be shorter than `finish`.
    pub poll: Duration,
    /// Limits of a file.
    pub caps: Caps,
    /// The database.
    pub database: Database,
    /// The broker.
    pub kafka: Kafka,
    /// For files in flight after SIGTERM.
    pub finish: Duration,
}

impl Config {
    /// Reads the environment.
    pub fn read() -> Result<Self, SettingsError> {
        let mut settings = Settings::default();
        let listen: String = settings.or("PARSER_LISTEN", "0.0.0.0:8081".to_owned());
        let listen = listen.parse().unwrap_or_else(|error| {
            settings.refuse(format!("PARSER_LISTEN: {listen:?}: {error}"));
            SocketAddr::from(([127, 0, 0, 1], 0))
        });
        let mebibyte = 1024 * 1024;
        let caps = Caps {
            stored_bytes: settings.or("PARSER_CAP_STORED_BYTES", 5 * 1024 * mebibyte),
            content_bytes: settings.or("PARSER_CAP_CONTENT_BYTES", 20 * 1024 * mebibyte),
            ratio: settings.or("PARSER_CAP_RATIO", 200),
            rows: settings.or("PARSER_CAP_ROWS", 100_000_000),
            line_bytes: settings.or("PARSER_CAP_LINE_BYTES", 1024 * 1024),
            columns: settings.or("PARSER_CAP_COLUMNS", 10_000),
            kept_rejections: settings.or("PARSER_KEPT_REJECTIONS", 10_000),
        };
        let config = Self {
            listen,
            queue_url: settings.required("PARSER_QUEUE_URL"),
            dead_letter_queue_url: settings.required("PARSER_DEAD_LETTER_QUEUE_URL"),
            bucket: settings.required("PARSER_BUCKET"),
            key_prefix: settings.or("PARSER_KEY_PREFIX", "uploads/".to_owned()),
            concurrency: settings.or("PARSER_CONCURRENCY", 4_usize).clamp(1, 64),
            visibility: Duration::from_secs(settings.or("PARSER_VISIBILITY_SECONDS", 60_u64).clamp(2, 43_200)),
            poll: Duration::from_secs(settings.or("PARSER_POLL_SECONDS", 20_u64).clamp(1, 20)),
            caps,
            database: Database {
                host: settings.required("PARSER_DATABASE_HOST"),
                port: settings.or("PARSER_DATABASE_PORT", 5432),
                name: settings.required("PARSER_DATABASE_NAME"),
                credentials: settings.path("PARSER_DATABASE_CREDENTIALS_DIR"),
                ca_file: settings.path("PARSER_DATABASE_CA_FILE"),
            },
            kafka: Kafka {
                bootstrap: settings.required("PARSER_KAFKA_BOOTSTRAP"),
                credentials: settings.path("PARSER_KAFKA_CREDENTIALS_DIR"),
                security: settings.or("PARSER_KAFKA_SECURITY", KafkaSecurity::SaslSsl),
                topic: settings.or("PARSER_KAFKA_TOPIC", "file.parsed".to_owned()),
            },
            finish: Duration::from_secs(settings.or("PARSER_FINISH_SECONDS", 25_u64)),
        };
        settings.finish()?;
        Ok(config)
    }
}
