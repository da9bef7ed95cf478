//! The claims that a run tests: published ones by their ids, or a scenario's own `[[claims]]` tables.

use serde::{Deserialize, Deserializer, Serialize};

use crate::experiment::metric::Metric;
use crate::experiment::mode::ModeName;

/// The claims that a run tests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ClaimSelection {
    /// The published ones with these ids.
    Published(Vec<String>),
    /// The scenario's own.
    Own(Vec<OwnClaim>),
}

/// A claim of a scenario's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OwnClaim {
    /// Its name.
    pub id: String,
    /// The claim, in a sentence.
    pub statement: String,
    /// The metric that is compared.
    pub metric: Metric,
    /// The arm it is about.
    pub arm: String,
    /// The arm that it is compared with; null for the run's baseline.
    #[serde(default)]
    pub baseline: Option<String>,
    /// The difference between arm and baseline is claimed to be below this.
    pub limit: f64,
    /// Unit of the limit.
    pub unit: LimitUnit,
}

/// The unit of a claim's limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum LimitUnit {
    /// Microseconds, for times.
    #[serde(rename = "us")]
    Microseconds,
    /// Bytes, for memory and what is allocated.
    #[serde(rename = "bytes")]
    Bytes,
    /// A number, for allocations.
    #[serde(rename = "allocations")]
    Allocations,
    /// Percent of the baseline's value.
    #[serde(rename = "%")]
    Percent,
    /// Percent of one core at the rate of the run, for CPU time.
    #[serde(rename = "% of a core")]
    PercentOfCore,
    /// Percent of all cores at the rate of the run, for CPU time.
    #[serde(rename = "% of the machine")]
    PercentOfMachine,
}

impl LimitUnit {
    /// Whether a metric can be expressed in it.
    fn fits(self, metric: Metric) -> bool {
        match self {
            Self::Percent => true,
            Self::PercentOfCore | Self::PercentOfMachine => metric.is_cpu(),
            Self::Bytes => matches!(metric, Metric::AllocatedBytes | Metric::Rss),
            Self::Allocations => metric == Metric::Allocations,
            Self::Microseconds => {
                !matches!(metric, Metric::AllocatedBytes | Metric::Rss | Metric::Allocations | Metric::Capacity)
            }
        }
    }
}

/// The `[[claims]]` tables of a scenario file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClaimTables(Vec<ClaimTable>);

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimTable {
    id: String,
    statement: String,
    metric: Metric,
    arm: ModeName,
    baseline: Option<ModeName>,
    limit: f64,
    unit: LimitUnit,
    #[serde(default, rename = "estimator")]
    _estimator: OwnEstimator,
}

/// How a claim of a scenario's own is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OwnEstimator {
    #[default]
    EndToEnd,
}

impl<'de> Deserialize<'de> for ClaimTables {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let tables = Vec::<CheckedTable>::deserialize(deserializer)?;
        let tables: Vec<ClaimTable> = tables.into_iter().map(|CheckedTable(table)| table).collect();
        let twice = tables.iter().enumerate().find(|(place, table)| tables[..*place].iter().any(|t| t.id == table.id));
        match twice {
            Some((_, table)) => {
                let why = format!("`claims.id`: two claims are called `{}`; give each its own name", table.id);
                Err(serde::de::Error::custom(why))
            }
            None => Ok(Self(tables)),
        }
    }
}

/// A table whose keys fit together.
struct CheckedTable(ClaimTable);

impl<'de> Deserialize<'de> for CheckedTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = ClaimTable::deserialize(deserializer)?;
        let refused = |why: String| Err(serde::de::Error::custom(why));
        if table.id.trim().is_empty() {
            return refused("`claims.id` must not be empty: it is what --only asks for".into());
        }
        if !table.limit.is_finite() {
            return refused(format!("claim `{}`: `claims.limit` must be a number, such as 20", table.id));
        }
        if table.metric == Metric::Capacity {
            return refused(format!(
                "claim `{}`: `claims.metric`: only `otelbench capacity` searches for a capacity; compare by \
                 another metric, such as cpu_us_per_request",
                table.id
            ));
        }
        if !table.unit.fits(table.metric) {
            let fitting = match table.metric {
                metric if metric.is_cpu() => "us, %, % of a core or % of the machine",
                Metric::AllocatedBytes | Metric::Rss => "bytes or %",
                Metric::Allocations => "allocations or %",
                _ => "us or %",
            };
            return refused(format!(
                "claim `{}`: `claims.unit` does not go with its metric; write {fitting}",
                table.id
            ));
        }
        Ok(Self(table))
    }
}

impl ClaimTables {
    /// The modes that the claims name, each with its key.
    pub(crate) fn mode_names(&self) -> impl Iterator<Item = (&'static str, &ModeName)> {
        self.0.iter().flat_map(|table| {
            [Some(("claims.arm", &table.arm)), table.baseline.as_ref().map(|name| ("claims.baseline", name))]
                .into_iter()
                .flatten()
        })
    }

    /// The claims.
    pub fn claims(&self) -> Vec<OwnClaim> {
        let claim = |table: &ClaimTable| OwnClaim {
            id: table.id.clone(),
            statement: table.statement.clone(),
            metric: table.metric,
            arm: table.arm.as_str().to_owned(),
            baseline: table.baseline.as_ref().map(|name| name.as_str().to_owned()),
            limit: table.limit,
            unit: table.unit,
        };
        self.0.iter().map(claim).collect()
    }
}
