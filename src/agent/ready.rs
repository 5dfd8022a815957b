//! Says that the agent can run here: its image was pulled, and AWS has given it its role.
use clap::Args;
use serde_json::{Value, json};

use super::account::AccountArgs;
use crate::failure::Failure;

/// `deployctl agent ready`.
#[derive(Args, Clone, Debug)]
pub struct ReadyArgs {
    #[command(flatten)]
    account: AccountArgs,
}

/// Says as whom it runs.
pub async fn run(args: &ReadyArgs) -> Result<Value, Failure> {
    let aws = args.account.connect().await?;
    Ok(json!({ "principal": aws.principal() }))
}
