//! Fuzzes scenario files: any text is resolved or refused, without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use otelbench::experiment::scenario::{Scenario, Settings};

fuzz_target!(|text: &str| {
    let Ok(settings) = toml::from_str::<Settings>(text) else { return };
    // Every error has a message.
    for refused in [Scenario::resolve(settings.clone()).err(), Scenario::of_capacity(settings).err()].into_iter().flatten() {
        assert!(!refused.to_string().is_empty());
    }
});
