//! Says that the agent can run here: its image was pulled, and AWS has given it its role.
use clap::Args;
use serde_json::{Value, json};

use crate::{
    aws::Aws,
    failure::Failure,
    ids::{AccountId, Region},
};

/// `deployctl agent ready`.
#[derive(Args, Clone, Debug)]
pub struct ReadyArgs {
    /// The account, checked before any other call
    #[arg(long, value_parser = |text: &str| AccountId::parse(text))]
    account: AccountId,
    /// The region that it runs in
    #[arg(long, value_parser = |text: &str| Region::parse(text))]
    region: Region,
}

/// Says as whom it runs.
pub async fn run(args: &ReadyArgs) -> Result<Value, Failure> {
    let aws = Aws::connect(&args.region, None, &args.account).await?;
    Ok(json!({ "principal": aws.principal() }))
}
