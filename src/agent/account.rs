//! Which account and region the agent works in, and AWS under the role of its own service account.
use clap::Args;

use crate::{
    aws::Aws,
    failure::Failure,
    ids::{AccountId, Region},
};

/// Arguments of everything that asks AWS.
#[derive(Args, Clone, Debug)]
pub struct AccountArgs {
    /// The account, checked before any other call
    #[arg(long)]
    account: AccountId,
    /// The region of what is asked about
    #[arg(long)]
    region: Region,
}

impl AccountArgs {
    /// AWS; refused (12) if the role is another account's.
    pub async fn connect(&self) -> Result<Aws, Failure> {
        Aws::connect(&self.region, None, &self.account).await
    }
}
