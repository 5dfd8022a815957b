//! Stands in every client: a call that changes something is made only with the permit's leave, at every attempt anew, and every call says
//! that it is waited for.
use std::{fmt, sync::Arc};

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{Intercept, context::BeforeSerializationInterceptorContextRef, context::BeforeTransmitInterceptorContextRef},
        orchestrator::Metadata,
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};

use super::patience;
use crate::{
    permit::{Permit, UnderWay},
    waiting,
};

/// Beginnings of the names of operations that change nothing. What is not listed counts as a change.
const READING: [&str; 10] = ["Get", "List", "Describe", "Head", "BatchGet", "BatchCheck", "Lookup", "Simulate", "Assume", "Receive"];

/// See the module.
pub(super) struct Gate(pub Arc<Permit>);

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

/// Lives in the call's own configuration, so that it ends with the call.
#[derive(Debug)]
struct Call {
    /// Of a call that changes something.
    _under_way: Option<UnderWay>,
    _waiting: waiting::UnderWay,
}

impl Storable for Call {
    type Storer = StoreReplace<Self>;
}

fn changes(operation: &Metadata) -> bool {
    !READING.iter().any(|start| operation.name().starts_with(start))
}

impl Intercept for Gate {
    fn name(&self) -> &'static str {
        "Gate"
    }

    // Not `read_before_execution`: there, a client's interceptor does not know yet which operation it is about.
    fn read_before_serialization(
        &self,
        _context: &BeforeSerializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(operation) = cfg.load::<Metadata>() else { return Ok(()) };
        let call = format!("{}:{}", operation.service(), operation.name());
        let under_way = changes(operation).then(|| self.0.begin(call.clone())).transpose()?;
        let waiting = waiting::call(call, patience::CALL);
        cfg.interceptor_state().store_put(Call { _under_way: under_way, _waiting: waiting });
        Ok(())
    }

    fn read_before_attempt(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        cfg: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if cfg.load::<Metadata>().is_some_and(changes) {
            self.0.held()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use std::path::Path;

    use super::*;
    use crate::{
        aws::{Aws, s3::Condition},
        failure::{Failure, FailureKind},
        ids::BucketName,
        plan::read,
    };

    /// A write and a read with this permit, by clients that have no credentials and reach nothing.
    async fn attempts(permit: Arc<Permit>) -> (Failure, Failure) {
        let environment = include_str!("../../plans/environments/sandbox.yaml");
        let environment = read::environment_from(Path::new("sandbox.yaml"), environment).unwrap();
        let aws = Aws::unconnected(&environment).with_permit(permit);
        let bucket = BucketName::parse("a-bucket").unwrap();
        let written = aws.put_object(&bucket, "key", "text", Condition::None).await.unwrap_err();
        (written, aws.get_object(&bucket, "key").await.unwrap_err())
    }

    #[tokio::test]
    async fn who_only_looks_sends_nothing_that_changes() {
        let (written, read) = attempts(Permit::to_look()).await;
        assert_eq!(written.kind, FailureKind::Internal);
        assert!(written.message.starts_with("s3:PutObject on s3://a-bucket/key was not sent: planning changes nothing"), "{written:?}");
        assert_eq!(read.kind, FailureKind::Preflight, "a read gets as far as the network that is not there: {read:?}");
        let (written, _) = attempts(Permit::unleased()).await;
        assert_eq!(written.kind, FailureKind::Preflight, "{written:?}");
    }

    #[tokio::test]
    async fn who_lost_the_lease_sends_nothing_that_changes() {
        let permit = Permit::unleased();
        permit.lease(Arc::new(crate::engine::lease::Lost));
        let (written, read) = attempts(permit.clone()).await;
        assert_eq!(written.kind, FailureKind::Locked);
        assert!(written.message.contains("was not sent: the lease was lost"), "{written:?}");
        assert_eq!(read.kind, FailureKind::Preflight, "{read:?}");
        assert!(permit.under_way().is_empty(), "a call that was not sent is not under way");
    }
}
