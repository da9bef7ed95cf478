//! Costs of telemetry calls in isolation, as stored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The measured costs of telemetry calls in isolation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Isolated {
    /// Rounds, in each of which every estimator was launched once.
    pub rounds: u32,
    /// By estimator, nanoseconds of CPU per operation: one value for each round, in the order of the rounds.
    pub readings: BTreeMap<String, Vec<f64>>,
}

impl Isolated {
    /// The values of an estimator, in ns, in the order of the rounds; `None` where it was not measured.
    pub fn of(&self, name: &str) -> Option<&[f64]> {
        self.readings.get(name).map(Vec::as_slice)
    }

    /// How much more `a` takes than `b`, in ns, in each round; `None` where one of them was not measured in every round.
    pub fn difference(&self, a: &str, b: &str) -> Option<Vec<f64>> {
        let (a, b) = (self.of(a)?, self.of(b)?);
        let whole = |values: &[f64]| values.len() == self.rounds as usize;
        (whole(a) && whole(b)).then(|| a.iter().zip(b).map(|(a, b)| a - b).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_taken_within_a_round() {
        let readings = [("a", vec![10.0, 20.0, 40.0]), ("b", vec![1.0, 5.0, 2.0]), ("cut", vec![1.0])];
        let readings = readings.into_iter().map(|(name, values)| (name.to_owned(), values)).collect();
        let isolated = Isolated { rounds: 3, readings };
        assert_eq!(isolated.difference("a", "b"), Some(vec![9.0, 15.0, 38.0]));
        assert_eq!(isolated.difference("b", "a"), Some(vec![-9.0, -15.0, -38.0]));
        assert_eq!(isolated.difference("a", "missing"), None);
        // Where rounds are missing, nothing says which round a value belongs to.
        assert_eq!(isolated.difference("a", "cut"), None);
        let stored = serde_json::to_string(&isolated).unwrap();
        assert_eq!(serde_json::from_str::<Isolated>(&stored).unwrap(), isolated);
    }
}
