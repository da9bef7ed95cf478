//! Whether two runs can be compared: the conditions under which each was measured.

use serde_json::{Map, Value, json};

use crate::experiment::scenario::{Arm, Role, Scenario};
use crate::record::records::Header;
use crate::record::result::Document;

/// Reasons not to rely on a document.
pub(crate) fn unreliable(which: &str, document: &Document) -> Vec<String> {
    let mut reasons = Vec::new();
    if document.partial {
        let rounds = &document.rounds;
        reasons.push(format!(
            "{which} is partial: {} of {} rounds were played to their end",
            rounds.complete, rounds.planned
        ));
    }
    if document.validity.is_invalid() {
        reasons.push(format!("{which} is invalid: {}", document.validity.causes.join("; ")));
    }
    reasons
}

/// Differences beside the measured code, because of which two runs cannot be compared: the machine, the method, the scenario
/// but for its name, its length and its gates, and the definitions of their common arms. Empty where they can.
pub fn obstacles(a: &Header, b: &Header) -> Vec<String> {
    let mut obstacles = Vec::new();
    collect_differences("", &conditions(a), &conditions(b), &mut obstacles);
    let common: Vec<(&Arm, &Arm)> = common_arms(&a.scenario, &b.scenario).collect();
    for (one, other) in &common {
        collect_differences(&format!("arm {}", one.name), &parts(one), &parts(other), &mut obstacles);
    }
    if common.iter().all(|(arm, _)| arm.role == Role::Baseline) {
        let arms = |scenario: &Scenario| scenario.arm_names().join(", ");
        obstacles.push(format!(
            "they have no arm in common to compare: {} and {}",
            arms(&a.scenario),
            arms(&b.scenario)
        ));
    }
    obstacles
}

/// The conditions of a run, without the code that was measured.
fn conditions(header: &Header) -> Value {
    let Header { schema, tool, machine, scenario, .. } = header;
    let mut resolved = json!(scenario);
    if let Some(keys) = resolved.as_object_mut() {
        // How long it lasts and the gates change how sure an answer is and not what it is; arms are compared one by one.
        for key in ["name", "rounds", "until", "budget", "gates", "keep_histograms", "arms"] {
            keys.remove(key);
        }
    }
    // Patch releases of a kernel come by the week, and the scheduler and the network stack change with minor ones.
    let kernel = machine.kernel.as_ref().map(|kernel| kernel.splitn(3, '.').take(2).collect::<Vec<_>>().join("."));
    json!({
        "schema": schema,
        "tool": { "profile": tool.profile },
        "machine": {
            "cpu_model": machine.cpu_model,
            "cores": machine.cores,
            "kernel": kernel,
            "governor": machine.governor,
            "hypervisor": machine.hypervisor,
        },
        "scenario": resolved,
        "baseline": scenario.arms.iter().find(|arm| arm.role == Role::Baseline).map(|arm| &arm.name),
    })
}

/// The definition of an arm, without its description, and without the code, which is what may have changed: another build
/// and a cost put in on purpose.
fn parts(arm: &Arm) -> Value {
    let mut parts = json!(arm);
    if let Some(keys) = parts.as_object_mut() {
        keys.remove("executable");
        keys.remove("injected_us");
    }
    if let Some(mode) = parts.get_mut("mode").and_then(Value::as_object_mut) {
        mode.remove("summary");
    }
    parts
}

pub(super) fn common_arms<'a>(a: &'a Scenario, b: &'a Scenario) -> impl Iterator<Item = (&'a Arm, &'a Arm)> {
    a.arms.iter().filter_map(|arm| Some((arm, b.arms.iter().find(|other| other.name == arm.name)?)))
}

/// Adds the places where two values differ, each with its path.
fn collect_differences(path: &str, a: &Value, b: &Value, found: &mut Vec<String>) {
    if let (Value::Object(a), Value::Object(b)) = (a, b) {
        let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
        for key in keys {
            let value = |of: &Map<String, Value>| of.get(key).cloned().unwrap_or(Value::Null);
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            collect_differences(&path, &value(a), &value(b), found);
        }
    } else if a != b {
        found.push(format!("{path}: {a} in the base, {b} in the candidate"));
    }
}
