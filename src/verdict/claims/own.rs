//! Claims that a scenario makes itself, in the words of the report.

use serde::{Deserialize, Deserializer, Serialize};

use super::judge::is_cpu;
use super::question::{Per, Quantity, Question, Stage, Test};
use crate::experiment::metric::Metric;
use crate::experiment::scenario::{ModeName, Role};
use crate::record::records::Records;

/// A claim of a scenario's own, as it is measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OwnClaim {
    /// What it is called.
    pub id: String,
    /// What it says.
    pub statement: String,
    /// What is compared.
    pub metric: Metric,
    /// The arm it is about.
    pub arm: String,
    /// The arm that it is compared with; null for the run's baseline.
    #[serde(default)]
    pub baseline: Option<String>,
    /// What the arm has more than the baseline is claimed to be below this.
    pub limit: f64,
    /// Unit of the limit.
    pub unit: Unit,
}

/// What the limit of a claim is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Unit {
    /// Microseconds, for times.
    #[serde(rename = "us")]
    Microseconds,
    /// Bytes, for memory and what is allocated.
    #[serde(rename = "bytes")]
    Bytes,
    /// A number, for allocations.
    #[serde(rename = "allocations")]
    Allocations,
    /// Percent of what the baseline measured.
    #[serde(rename = "%")]
    Percent,
    /// Percent of one core at the rate of the run, for CPU time.
    #[serde(rename = "% of a core")]
    PercentOfCore,
    /// Percent of all cores at the rate of the run, for CPU time.
    #[serde(rename = "% of the machine")]
    PercentOfMachine,
}

impl Unit {
    /// Whether a metric can be told in it.
    fn fits(self, metric: Metric) -> bool {
        match self {
            Self::Percent => true,
            Self::PercentOfCore | Self::PercentOfMachine => is_cpu(metric),
            Self::Bytes => matches!(metric, Metric::AllocatedBytes | Metric::Rss),
            Self::Allocations => metric == Metric::Allocations,
            Self::Microseconds => {
                !matches!(metric, Metric::AllocatedBytes | Metric::Rss | Metric::Allocations | Metric::Capacity)
            }
        }
    }
}

/// Claims as a scenario file has them, in `[[claims]]` tables.
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
    unit: Unit,
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
                let why = format!("`claims.id`: two claims are called `{}`; give each a name of its own", table.id);
                Err(serde::de::Error::custom(why))
            }
            None => Ok(Self(tables)),
        }
    }
}

/// A table whose keys go together.
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
                "claim `{}`: `claims.metric`: a capacity is searched for by `otelbench capacity` alone; compare by \
                 another metric, such as cpu_us_per_request",
                table.id
            ));
        }
        if !table.unit.fits(table.metric) {
            let fitting = match table.metric {
                metric if is_cpu(metric) => "us, %, % of a core or % of the machine",
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
    pub(super) fn claims(&self) -> Vec<OwnClaim> {
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

/// What the claim comes to.
pub(super) fn question(own: &OwnClaim, records: &Records) -> Question {
    let arms = &records.header.scenario.arms;
    let usual = || arms.iter().find(|arm| arm.role == Role::Baseline).map(|arm| arm.name.clone()).unwrap_or_default();
    let (arm, baseline, metric) = (own.arm.clone(), own.baseline.clone().unwrap_or_else(usual), own.metric);
    let subject = format!("{arm} − {baseline}");
    let per = match own.unit {
        Unit::Microseconds | Unit::Bytes | Unit::Allocations => Some(Per::Order),
        Unit::PercentOfCore => Some(Per::Core),
        Unit::PercentOfMachine => Some(Per::Machine),
        Unit::Percent => None,
    };
    let (unit, denominator) = match own.unit {
        Unit::Microseconds if is_cpu(metric) => ("µs", "per request".to_owned()),
        Unit::Microseconds => ("µs", "of the response time".to_owned()),
        Unit::Bytes if metric == Metric::AllocatedBytes => ("B", "per request".to_owned()),
        Unit::Bytes => ("B", "at the end of the round".to_owned()),
        Unit::Allocations => ("allocations", "per request".to_owned()),
        Unit::Percent => ("%", format!("of {baseline}")),
        Unit::PercentOfCore => ("%", "of one core".to_owned()),
        Unit::PercentOfMachine => ("%", "of the machine".to_owned()),
    };
    let quantity = match per {
        Some(per) => Quantity::Cost { stage: Stage::Run, arm, baseline, metric, per },
        None => Quantity::Relative { arm, baseline, metric },
    };
    let test = Test::Below(own.limit);
    Question { subject, sense: None, denominator, unit: unit.into(), counts: true, test, quantity }
}
