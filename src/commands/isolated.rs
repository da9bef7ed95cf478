//! The hidden `otelbench isolated-launch`.

use super::{Failure, put_json};
use crate::os::subprocess::end_with_parent;
use crate::studies::isolated::{self, Estimator};

/// Measures what `estimator` is about in this process, and prints what came of it; telemetry goes to `endpoint`.
///
/// # Errors
/// When it cannot be measured.
pub fn launch(estimator: &Estimator, endpoint: &str) -> Result<(), Failure> {
    end_with_parent();
    let launched = isolated::launch(estimator, endpoint).map_err(|error| Failure::Invalid(error.to_string()))?;
    put_json(&launched)
}
