//! What an environment costs a month, as far as plans/prices.yaml knows: every price in it has a source and a date, and none is made up.
use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{
    environment::{Environment, NatGateways, Standby},
    problem::{self, Problem},
};
use crate::{failure::Failure, ids::Region};

/// The price table, from the project's root.
pub const PRICE_TABLE: &str = "plans/prices.yaml";
/// As AWS' own calculator counts.
const HOURS_A_MONTH: f64 = 730.0;
/// What depends on use, and so is in no estimate.
const NOT_COUNTED: &str = "traffic (NAT gateway, load balancer, between zones and regions), S3, SQS, ECR, CloudWatch, backups beyond the database's \
                           size, snapshots, secrets, the DR region's copies, Kafka";

/// plans/prices.yaml.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// Format of the file; 1.
    version: u32,
    prices: Vec<Price>,
}

/// One list price.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    item: String,
    region: Region,
    per: Per,
    usd: f64,
    /// The page that it was read on.
    source: String,
    /// The day that the page speaks of.
    date: Date,
}

/// What a price is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Per {
    /// An hour of one.
    Hour,
    /// A month of one.
    Month,
    /// A gibibyte for a month.
    GibMonth,
}

/// What an environment has, and what each costs.
#[derive(Clone, Debug, Serialize)]
pub struct Estimate {
    region: Region,
    lines: Vec<Line>,
    /// The sum of what is known.
    known_usd_a_month: f64,
    /// How many have no price.
    unknown: usize,
    not_counted: &'static str,
}

/// One kind of thing.
#[derive(Clone, Debug, Serialize)]
struct Line {
    item: String,
    /// How many, or how many gibibytes.
    quantity: u64,
    usd_a_month: Option<f64>,
    price: Option<Price>,
}

/// The host of a page on the web.
fn host(source: &str) -> Option<String> {
    let page = url::Url::parse(source).ok().filter(|page| page.scheme() == "https")?;
    page.host_str().map(str::to_owned)
}

impl Prices {
    /// The project's table; one that is not there knows nothing.
    pub fn read(project: &Path) -> Result<Self, Failure> {
        let path = project.join(PRICE_TABLE);
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::from_text(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failure::usage(format!("cannot read {}", path.display())).because(error)),
        }
    }

    fn from_text(text: &str) -> Result<Self, Failure> {
        let shown = PathBuf::from(PRICE_TABLE);
        let prices: Self = serde_saphyr::from_str(text).map_err(|error| problem::failure(&shown, text, vec![Problem::of_yaml(&error)]))?;
        let wrong = |what: String| Failure::usage(format!("{PRICE_TABLE}: {what}"));
        if prices.version != 1 {
            return Err(wrong(format!("version {} is not known; this deployctl reads version 1", prices.version)));
        }
        let bad = |price: &&Price| !price.usd.is_finite() || price.usd < 0.0 || host(&price.source).is_none();
        if let Some(price) = prices.prices.iter().find(bad) {
            return Err(wrong(format!("{} in {}: a price is no less than 0, and its source an https:// page", price.item, price.region)));
        }
        Ok(prices)
    }

    fn find(&self, item: &str, region: &Region) -> Option<&Price> {
        self.prices.iter().find(|price| price.item == item && price.region == *region)
    }
}

/// What the environment file asks for, by the names that the price table uses.
fn items(environment: &Environment) -> Vec<(String, u64)> {
    let gateways = match environment.network.nat_gateways {
        NatGateways::Single => 1,
        NatGateways::PerZone => environment.network.availability_zones.into(),
    };
    let nodes = u64::from(environment.cluster.nodes.desired);
    let kind = environment.cluster.instance_types.first().map_or("unknown", String::as_str);
    let database = &environment.database;
    let standby = if database.multi_az { "-multi-az" } else { "" };
    vec![
        ("eks-cluster".into(), 1),
        ("nat-gateway".into(), gateways),
        ("public-ipv4-address".into(), gateways),
        (format!("instance {kind}"), nodes),
        ("volume gp3".into(), nodes * u64::from(environment.cluster.disk_gib)),
        (format!("postgres{standby} {}", database.instance_class), 1),
        (format!("postgres-storage{standby} gp3"), database.storage_gib.initial.into()),
        ("load-balancer application".into(), 1),
        // Of the cluster, of the data, and of the copies in the other region.
        ("kms-key".into(), 3),
    ]
}

/// What a warm standby has in the DR region, all the time; a pilot light costs nothing by the hour.
fn standby_items(environment: &Environment) -> Vec<(String, u64)> {
    if environment.recovery.standby != Standby::Warm {
        return Vec::new();
    }
    let nodes = u64::from(environment.cluster.nodes.min);
    let kind = environment.cluster.instance_types.first().map_or("unknown", String::as_str);
    vec![
        ("eks-cluster".into(), 1),
        ("nat-gateway".into(), 1),
        ("public-ipv4-address".into(), 1),
        (format!("instance {kind}"), nodes),
        ("volume gp3".into(), nodes * u64::from(environment.cluster.disk_gib)),
        ("kms-key".into(), 1),
    ]
}

/// The estimate for an environment with its nodes as they are at first.
pub fn of(environment: &Environment, prices: &Prices) -> Estimate {
    let (region, dr_region) = (environment.aws.region.clone(), &environment.aws.dr_region);
    let here = items(environment).into_iter().map(|(item, quantity)| (item.clone(), item, quantity, &region));
    let there = standby_items(environment).into_iter();
    let there = there.map(|(item, quantity)| (format!("{item} in {dr_region}"), item, quantity, dr_region));
    let lines: Vec<Line> = here
        .chain(there)
        .map(|(shown, item, quantity, region)| {
            let price = prices.find(&item, region).cloned();
            #[allow(clippy::cast_precision_loss, reason = "counts of machines and gibibytes")]
            let usd_a_month =
                price.as_ref().map(|price| quantity as f64 * price.usd * if price.per == Per::Hour { HOURS_A_MONTH } else { 1.0 });
            Line { item: shown, quantity, usd_a_month, price }
        })
        .collect();
    // Not sum(): that of nothing is -0.
    let known_usd_a_month = lines.iter().filter_map(|line| line.usd_a_month).fold(0.0, |sum, usd| sum + usd);
    let unknown = lines.iter().filter(|line| line.price.is_none()).count();
    Estimate { region, lines, known_usd_a_month, unknown, not_counted: NOT_COUNTED }
}

/// As people read it.
pub fn human(estimate: &Estimate) -> String {
    let mut text = format!("A month in {}, at the list prices in {PRICE_TABLE}:\n\n", estimate.region);
    let widest = estimate.lines.iter().map(|line| line.item.len()).max().unwrap_or_default();
    for Line { item, quantity, usd_a_month, price } in &estimate.lines {
        let cost = match (usd_a_month, price) {
            (Some(usd), Some(price)) => {
                format!("{usd:>9.2} USD  ({}, {})", host(&price.source).unwrap_or_default(), price.date)
            }
            _ => format!("{:>9}", "unknown"),
        };
        // Writing into a String cannot fail.
        writeln!(text, "  {quantity:>5} {item:widest$}  {cost}").unwrap_or_default();
    }
    let unknown = match estimate.unknown {
        0 => String::new(),
        1 => ", and one price is unknown".to_owned(),
        more => format!(", and {more} prices are unknown"),
    };
    writeln!(text, "\nEstimate: {:.2} USD a month are known{unknown}.", estimate.known_usd_a_month).unwrap_or_default();
    writeln!(text, "Not counted: {}.", estimate.not_counted).unwrap_or_default();
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::plan::read;

    fn staging() -> Environment {
        let text = include_str!("../../plans/environments/staging.yaml");
        read::environment_from(Path::new("staging.yaml"), text).unwrap()
    }

    #[test]
    fn the_committed_table_is_sound_and_every_item_of_it_is_used() {
        let prices = Prices::from_text(include_str!("../../plans/prices.yaml")).unwrap();
        let known: Vec<String> = items(&staging()).into_iter().map(|(item, _)| item).collect();
        assert!(prices.prices.iter().all(|price| known.contains(&price.item)), "{:?}", prices.prices);
    }

    #[test]
    fn what_has_no_price_is_unknown() {
        let estimate = of(&staging(), &Prices::default());
        assert!(estimate.known_usd_a_month == 0.0 && estimate.unknown == estimate.lines.len());
        insta::assert_snapshot!(human(&estimate));
    }

    #[test]
    fn known_prices_are_added_up() {
        let table = "version: 1\nprices:\n\
            - { item: eks-cluster, region: us-east-1, per: hour, usd: 0.1, source: 'https://example.com/a', date: 2026-01-02 }\n\
            - { item: volume gp3, region: us-east-1, per: gib-month, usd: 0.5, source: 'https://example.com/b', date: 2026-01-02 }\n\
            - { item: nat-gateway, region: eu-west-1, per: hour, usd: 9, source: 'https://example.com/c', date: 2026-01-02 }\n";
        let estimate = of(&staging(), &Prices::from_text(table).unwrap());
        // 730 hours, and two nodes with 50 GiB each; another region's price is no price.
        assert!((estimate.known_usd_a_month - 123.0).abs() < 0.001, "{estimate:?}");
        assert_eq!(estimate.unknown, estimate.lines.len() - 2);
    }

    #[test]
    fn a_warm_standby_costs_at_its_own_regions_prices() {
        let table = "version: 1\nprices:\n\
            - { item: eks-cluster, region: us-east-1, per: month, usd: 70, source: 'https://example.com/a', date: 2026-01-02 }\n\
            - { item: eks-cluster, region: eu-west-1, per: month, usd: 80, source: 'https://example.com/b', date: 2026-01-02 }\n";
        let prices = Prices::from_text(table).unwrap();
        let mut warm = staging();
        let pilot_light = of(&warm, &prices);
        warm.recovery.standby = Standby::Warm;
        let estimate = of(&warm, &prices);
        assert!((pilot_light.known_usd_a_month - 70.0).abs() < 0.001 && (estimate.known_usd_a_month - 150.0).abs() < 0.001, "{estimate:?}");
        assert!(human(&estimate).contains("2 instance m7i.large in eu-west-1 "), "{}", human(&estimate));
    }

    #[test]
    fn a_price_without_source_or_date_is_refused() {
        let without = |what: &str| {
            let line = "{ item: eks-cluster, region: us-east-1, per: hour, usd: 0.1, source: 'https://example.com/a', date: 2026-01-02 }";
            Prices::from_text(&format!("version: 1\nprices:\n- {}\n", line.replace(what, "")))
        };
        without("nothing").unwrap();
        for what in [", source: 'https://example.com/a'", ", date: 2026-01-02", "s://example.com"] {
            assert!(without(what).is_err(), "{what}");
        }
    }
}
