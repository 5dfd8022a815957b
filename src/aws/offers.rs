//! What a region offers: zones, instance types, classes of databases, versions of Kubernetes. Not every region has what another has.
use super::Aws;
use crate::failure::Failure;

impl Aws {
    /// Zones that can be used without opting in; local zones have neither NAT gateways nor RDS.
    pub async fn availability_zones(&self) -> Result<Vec<String>, Failure> {
        let wanted = [("opt-in-status", "opt-in-not-required"), ("state", "available")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let found = self.ec2_objects("DescribeAvailabilityZones", "availabilityZoneInfo/item", &wanted).await?;
        Ok(found.iter().filter_map(|zone| zone.text("zoneName")).map(String::from).collect())
    }

    /// Whether the region has this type of instance in at least one zone.
    pub async fn offers_instance_type(&self, kind: &str) -> Result<bool, Failure> {
        let wanted = [("instance-type".to_owned(), kind.to_owned())];
        let found = self.ec2_objects("DescribeInstanceTypeOfferings", "instanceTypeOfferingSet/item", &wanted).await?;
        Ok(found.iter().any(|offer| offer.text("instanceType") == Some(kind)))
    }

    /// Virtual processors of a type of instance; none if EC2 knows no such type.
    pub async fn virtual_processors(&self, kind: &str) -> Result<Option<u64>, Failure> {
        let wanted = [("instance-type".to_owned(), kind.to_owned())];
        let found = self.ec2_objects("DescribeInstanceTypes", "instanceTypeSet/item", &wanted).await?;
        let found = found.iter().find(|found| found.text("instanceType") == Some(kind));
        Ok(found.and_then(|found| found.text("vCpuInfo/defaultVCpus")?.parse().ok()))
    }

    /// Whether RDS offers this class for a major version of PostgreSQL here, and with a standby in another zone.
    pub async fn offers_db_class(&self, class: &str, major: &str) -> Result<(bool, bool), Failure> {
        let request = self.rds().describe_orderable_db_instance_options().engine("postgres").db_instance_class(class);
        let found: Result<Vec<_>, _> = request.into_paginator().items().send().collect().await;
        let found = found.map_err(|e| self.failed("rds:DescribeOrderableDBInstanceOptions", class, e))?;
        let of_major = |version: Option<&str>| version.is_some_and(|version| version.split('.').next() == Some(major));
        let mut found = found.iter().filter(|option| of_major(option.engine_version())).peekable();
        Ok((found.peek().is_some(), found.any(|option| option.multi_az_capable() == Some(true))))
    }

    /// Whether EKS offers this version of Kubernetes: whether it has the network plugin for it.
    pub async fn offers_kubernetes(&self, version: &str) -> Result<bool, Failure> {
        let request = self.eks().describe_addon_versions().addon_name("vpc-cni").kubernetes_version(version);
        let found: Result<Vec<_>, _> = request.into_paginator().items().send().collect().await;
        let found = found.map_err(|e| self.failed("eks:DescribeAddonVersions", version, e))?;
        Ok(found.iter().any(|addon| !addon.addon_versions().is_empty()))
    }

    /// Seconds by which this machine's clock is ahead of AWS'; a signature is refused beyond 300.
    pub async fn clock_ahead(&self) -> Result<i64, Failure> {
        let url = self.endpoint_url_of("sts").unwrap_or_else(|| format!("https://sts.{}.amazonaws.com", self.region()));
        let broken = |e: reqwest::Error| Failure::step(format!("{url} does not say what time it is")).because(e);
        let client = reqwest::Client::builder().timeout(std::time::Duration::from_secs(10)).build().map_err(broken)?;
        // Any answer carries the time, a refusal too.
        let answer = client.get(&url).send().await.map_err(broken)?;
        let date = answer.headers().get(reqwest::header::DATE).and_then(|date| date.to_str().ok()).unwrap_or_default();
        let theirs = jiff::fmt::rfc2822::parse(date).map_err(|e| Failure::step(format!("{url} gave no time: {date:?}")).because(e))?;
        Ok(jiff::Timestamp::now().as_second() - theirs.timestamp().as_second())
    }
}
