//! A scenario file, whatever it holds: read and resolved, or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use otelbench::experiment::scenario::{Scenario, Settings};

fuzz_target!(|text: &str| {
    let Ok(settings) = toml::from_str::<Settings>(text) else { return };
    // What is refused is refused in words.
    for refused in [Scenario::resolve(settings.clone()).err(), Scenario::of_capacity(settings).err()].into_iter().flatten() {
        assert!(!refused.to_string().is_empty());
    }
});
