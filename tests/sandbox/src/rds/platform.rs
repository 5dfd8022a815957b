//! What RDS asks of the other services of its account: secrets, keys, subnets.
use anyhow::Result;
use futures::future::BoxFuture;

use super::{ids::Region, model::Subnet};

/// A database user's name and password, as Secrets Manager keeps them.
pub struct Credentials {
    /// The user.
    pub username: String,
    /// Never written anywhere but to Secrets Manager and, hashed, to PostgreSQL.
    pub password: String,
}

impl Credentials {
    /// The secret's text.
    pub fn to_secret(&self) -> String {
        serde_json::json!({ "username": self.username, "password": self.password }).to_string()
    }
}

/// The services beside RDS.
pub trait Platform: Send + Sync + 'static {
    /// Creates a secret (or, if it is there, gives it this value) and returns its ARN.
    fn create_secret<'a>(
        &'a self,
        region: &'a Region,
        name: &'a str,
        text: String,
        kms_key: Option<&'a str>,
        owner: &'a str,
    ) -> BoxFuture<'a, Result<String>>;
    /// Gives a secret a new value.
    fn put_secret<'a>(&'a self, region: &'a Region, arn: &'a str, text: String) -> BoxFuture<'a, Result<()>>;
    /// Deletes a secret at once; an absent one is fine.
    fn delete_secret<'a>(&'a self, region: &'a Region, arn: &'a str) -> BoxFuture<'a, Result<()>>;
    /// The ARN of a usable key of this region, or `None`.
    fn key_arn<'a>(&'a self, region: &'a Region, key: &'a str) -> BoxFuture<'a, Result<Option<String>>>;
    /// The subnets that exist among these.
    fn subnets<'a>(&'a self, region: &'a Region, ids: &'a [String]) -> BoxFuture<'a, Result<Vec<Subnet>>>;
}
