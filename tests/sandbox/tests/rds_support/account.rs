//! The account's other services, in memory: secrets, keys whose region is in their ARN, two subnets.
use std::{collections::BTreeMap, sync::Mutex};

use anyhow::Result;
use deployctl_sandbox::rds::{Platform, Region, Subnet};
use futures::future::BoxFuture;

#[derive(Default)]
pub struct Account {
    pub secrets: Mutex<BTreeMap<String, String>>,
}

impl Account {
    pub fn secret(&self, arn: &str) -> serde_json::Value {
        serde_json::from_str(&self.secrets.lock().unwrap()[arn]).unwrap()
    }
}

impl Platform for Account {
    fn create_secret<'a>(
        &'a self,
        region: &'a Region,
        name: &'a str,
        text: String,
        _: Option<&'a str>,
        _: &'a str,
    ) -> BoxFuture<'a, Result<String>> {
        Box::pin(async move {
            let arn = format!("arn:aws:secretsmanager:{region}:111122223333:secret:{name}-abcdef");
            self.secrets.lock().unwrap().insert(arn.clone(), text);
            Ok(arn)
        })
    }
    fn put_secret<'a>(&'a self, _: &'a Region, arn: &'a str, text: String) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.secrets.lock().unwrap().insert(arn.to_owned(), text);
            Ok(())
        })
    }
    fn delete_secret<'a>(&'a self, _: &'a Region, arn: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.secrets.lock().unwrap().remove(arn);
            Ok(())
        })
    }
    fn key_arn<'a>(&'a self, region: &'a Region, key: &'a str) -> BoxFuture<'a, Result<Option<String>>> {
        Box::pin(async move { Ok(key.starts_with(&format!("arn:aws:kms:{region}:")).then(|| key.to_owned())) })
    }
    fn subnets<'a>(&'a self, region: &'a Region, ids: &'a [String]) -> BoxFuture<'a, Result<Vec<Subnet>>> {
        Box::pin(async move {
            let zone = |id: &String| format!("{region}{}", id.chars().last().unwrap());
            Ok(ids.iter().map(|id| Subnet { id: id.clone(), zone: zone(id), vpc: "vpc-1".into() }).collect())
        })
    }
}
