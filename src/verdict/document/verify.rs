//! Whether a stored result agrees with itself. Answers are always computed from the records, so this looks for changes made
//! after a result was written: a summary that its records do not give, and records that no run could have left.

use serde_json::Value;

use crate::experiment::scenario::Scenario;
use crate::record::load::decode;
use crate::record::records::{Header, Records, SliceRecord};
use crate::record::result::Document;

/// Relative difference up to which two numbers are the same: processors and versions of the mathematical library round
/// differently in the last digits.
const ROUNDING: f64 = 1e-9;

/// Whether the records are those of one run of their scenario.
///
/// # Errors
/// When they contradict each other; in words.
pub(super) fn records(records: &Records) -> Result<(), String> {
    let Header { scenario, plan, .. } = &records.header;
    if plan.rounds != scenario.rounds || plan.order.len() != plan.rounds as usize {
        let orders = plan.order.len();
        return Err(format!(
            "the scenario has {} rounds, the plan {}, in {orders} orders of play",
            scenario.rounds, plan.rounds
        ));
    }
    let stray = |round: u32, arm: &str| {
        let known = scenario.arms.iter().any(|other| other.name == arm) && round < plan.rounds;
        (!known).then(|| format!("it holds a record of arm {arm} in round {round}, which is not in its plan"))
    };
    let places = records.slices.iter().map(|slice| (slice.round, slice.arm.as_str()));
    let lanes = records.lanes.iter().map(|lane| (lane.round, lane.arm.as_str()));
    if let Some(stray) = places.chain(lanes).find_map(|(round, arm)| stray(round, arm)) {
        return Err(stray);
    }
    for (round, order) in (0..).zip(&plan.order) {
        let played: Vec<&str> =
            records.slices.iter().filter(|slice| slice.round == round).map(|slice| slice.arm.as_str()).collect();
        // A search takes as many steps as it needs.
        if scenario.slo.is_none() && !order.iter().map(String::as_str).take(played.len()).eq(played.iter().copied()) {
            return Err(format!("the slices of round {round} are not those of its plan"));
        }
    }
    records.slices.iter().try_for_each(|record| slice(record, scenario))
}

/// Whether the parts of a slice add up, and the histogram that its round needs is there.
fn slice(record: &SliceRecord, scenario: &Scenario) -> Result<(), String> {
    let SliceRecord { round, slice, arm, played, spent } = record;
    let wrong = |what: String| Err(format!("round {round}, slice {slice} of {arm}: {what}"));
    if !played.load.adds_up() {
        return wrong(format!(
            "{} requests were scheduled, and the rest does not add up to that",
            played.load.scheduled
        ));
    }
    let response = &played.hdr.response_ns;
    if scenario.adds_up_slices() || !response.is_empty() {
        let counted = decode(response).map(|histogram| histogram.len());
        if counted != Some(played.load.completed) {
            let counted = counted.map_or("cannot be read".into(), |n| format!("holds {n}"));
            return wrong(format!("{} requests were completed, and the histogram {counted}", played.load.completed));
        }
    }
    let cpu = &spent.cpu_us;
    let roles = cpu.request + cpu.exporter + cpu.generator + cpu.other + cpu.unaccounted;
    if !close(roles, cpu.process) {
        return wrong(format!("the process spent {} µs of CPU, and the roles of its threads {roles} µs", cpu.process));
    }
    Ok(())
}

/// Whether the summary that was stored is what the records give. Keys that only one of them has belong to another version.
///
/// # Errors
/// When a value differs; in words.
pub(super) fn summary(stored: &Value, computed: &Document) -> Result<(), String> {
    let computed = serde_json::to_value(computed).map_err(|error| error.to_string())?;
    for key in ["partial", "validity", "rounds", "arms", "deltas"] {
        if let (Some(stored), Some(computed)) = (stored.get(key), computed.get(key)) {
            agree(key, stored, computed)?;
        }
    }
    Ok(())
}

fn agree(path: &str, stored: &Value, computed: &Value) -> Result<(), String> {
    let same = match (stored, computed) {
        (Value::Object(stored), Value::Object(computed)) => {
            return stored
                .iter()
                .filter_map(|(key, value)| Some((key, value, computed.get(key)?)))
                .try_for_each(|(key, stored, computed)| agree(&format!("{path}.{key}"), stored, computed));
        }
        (Value::Array(stored), Value::Array(computed)) if stored.len() == computed.len() => {
            return stored
                .iter()
                .zip(computed)
                .enumerate()
                .try_for_each(|(index, (stored, computed))| agree(&format!("{path}[{index}]"), stored, computed));
        }
        (Value::Number(stored), Value::Number(computed)) => {
            stored.as_f64().zip(computed.as_f64()).is_some_and(|(stored, computed)| close(stored, computed))
        }
        (stored, computed) => stored == computed,
    };
    if same { Ok(()) } else { Err(format!("{path} is {stored}, and its records give {computed}")) }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= ROUNDING * a.abs().max(b.abs())
}
