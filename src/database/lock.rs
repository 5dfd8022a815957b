//! The lock that keeps two migrators apart, Flyway among them: it is Flyway's own.
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::{history, migrate::MigrateError};

/// `Flyway` in ASCII, as Flyway's PostgreSQLAdvisoryLockTemplate has it.
const FLYWAY: i64 = 0x466c_7977_6179;

/// Flyway's number for the history table in this schema: `Flyway` plus Java's hash of the table's quoted name.
fn number(schema: &str) -> i64 {
    let name = format!("\"{schema}\".\"{}\"", history::TABLE);
    let hash = name.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    FLYWAY + i64::from(hash)
}

/// Holds the lock until [`Held::release`], or until its session ends.
pub struct Held(i64);

impl Held {
    /// Polls instead of waiting inside PostgreSQL: a session that waits holds a snapshot, and CREATE INDEX CONCURRENTLY waits for
    /// every snapshot, which deadlocks the two.
    pub async fn acquire(client: &Client, patience: Duration) -> Result<Self, MigrateError> {
        let schema: String = client.query_one("SELECT coalesce(current_schema(), 'public')::text", &[]).await?.get(0);
        let number = number(&schema);
        let started = Instant::now();
        while !client.query_one("SELECT pg_try_advisory_lock($1)", &[&number]).await?.get::<_, bool>(0) {
            if started.elapsed() > patience {
                return Err(MigrateError::Locked(patience));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(Self(number))
    }

    /// Lets the next migrator in sooner than the session's end does.
    pub async fn release(self, client: &Client) -> Result<(), tokio_postgres::Error> {
        client.execute("SELECT pg_advisory_unlock($1)", &[&self.0]).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_number_is_flyways() {
        // Java: "\"public\".\"flyway_schema_history\"".hashCode() + 77431708279161L
        assert_eq!(super::FLYWAY, 77_431_708_279_161);
        assert_eq!(super::number("public") - super::FLYWAY, i64::from(java_hash("\"public\".\"flyway_schema_history\"")));
    }

    /// Java's definition: s[0]*31^(n-1) + … + s[n-1], in 32 bits.
    fn java_hash(text: &str) -> i32 {
        let units: Vec<u16> = text.encode_utf16().collect();
        let power = |exponent: usize| (0..exponent).fold(1_i32, |product, _| product.wrapping_mul(31));
        units.iter().enumerate().fold(0_i32, |sum, (at, unit)| sum.wrapping_add(i32::from(*unit).wrapping_mul(power(units.len() - 1 - at))))
    }
}
