//! RebootDBInstance, StopDBInstance, StartDBInstance.
use super::{
    fault::Fault,
    ids::{InstanceId, Region},
    instances::draw_instance,
    model::{Instance, Status},
    query::Params,
    service::Rds,
    xml::Body,
};

/// What is done to the server.
#[derive(Clone, Copy, Debug)]
pub enum Power {
    /// Stopped and started.
    Reboot,
    /// Stopped until it is started.
    Stop,
    /// Started again.
    Start,
}

impl Rds {
    /// One of the three actions.
    pub(super) fn change_power(&self, region: &Region, params: &Params, power: Power) -> Result<Body, Fault> {
        let id = InstanceId::from_name_or_arn(region, params.need("DBInstanceIdentifier")?)?;
        let (from, to) = match power {
            Power::Reboot => (Status::Available, Status::Rebooting),
            Power::Stop => (Status::Available, Status::Stopping),
            Power::Start => (Status::Stopped, Status::Starting),
        };
        let instance = self.claim(region, &id, &[from], to)?;
        let (rds, work) = (self.clone(), instance.clone());
        tokio::spawn(async move { rds.finish_power(work, power).await });
        Ok(Body::default().nested("DBInstance", draw_instance(self, &instance)))
    }

    async fn finish_power(&self, instance: Instance, power: Power) {
        let lock = self.work_lock(&instance.resource);
        let _working = lock.lock().await;
        let done = async {
            if !matches!(power, Power::Start) {
                self.halt(&instance).await?;
                self.instance_event(&instance, "availability", "DB instance shutdown");
            }
            if !matches!(power, Power::Stop) {
                self.launch(&instance).await?;
                self.instance_event(&instance, "availability", "DB instance restarted");
            }
            let next = if matches!(power, Power::Stop) { Status::Stopped } else { Status::Available };
            self.update_instance(&instance.region, &instance.resource, |instance| {
                instance.status = next;
                instance.parameters_pending_reboot &= matches!(power, Power::Stop);
            })?;
            self.publish()
        };
        let done: anyhow::Result<()> = done.await;
        if let Err(error) = done {
            self.instance_failed(&instance.region, &instance.resource, "The DB instance could not be stopped or started", &error);
        }
    }
}
