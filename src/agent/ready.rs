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
    #[arg(long)]
    account: String,
    /// The region that it runs in
    #[arg(long)]
    region: String,
}

/// Says as whom it runs.
pub async fn run(args: &ReadyArgs) -> Result<Value, Failure> {
    let parse = |error: crate::ids::InvalidId| Failure::usage("the agent's arguments").because(error);
    let (region, account) = (Region::parse(&args.region).map_err(parse)?, AccountId::parse(&args.account).map_err(parse)?);
    let aws = Aws::connect(&region, None, &account).await?;
    Ok(json!({ "principal": aws.principal() }))
}
