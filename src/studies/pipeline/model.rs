//! The theory of a batch pipeline, and the settings it recommends.
//!
//! Source: `span_processor.rs` of `opentelemetry_sdk` 0.33.1. The queue is a bounded channel; the worker takes up to a batch
//! out of it, exports it, waits for the answer, and takes the next. `otelbench-slim` does the same.

use std::time::Duration;

use thiserror::Error;

use crate::experiment::units::{Rate, grouped};
use crate::record::pipeline::{Batching, ExportTime};

/// Factor by which a recommended pipeline can exceed the target: after a stall it must send the backlog beside new spans.
const HEADROOM: f64 = 2.0;
/// The SDK's default batch; a smaller one gains nothing.
const SMALLEST_BATCH: usize = 512;
/// Number of spans of 1 KB, attributes included, that fit into 4 MB, the default limit of a gRPC server.
const LARGEST_BATCH: usize = 4_096;
/// The SDK's default delay.
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// Most spans a second that go out, one export of `batch` after the other, each taking `export_ms`.
pub fn bound(batch: usize, export_ms: f64) -> f64 {
    batch as f64 / (export_ms / 1e3)
}

/// By how many spans a second a step may exceed the [`bound`]: the queue at its end, and the batch under way.
pub fn lent(batching: Batching, step: Duration) -> f64 {
    (batching.queue + batching.batch) as f64 / step.as_secs_f64()
}

/// Time until an empty queue is full when nothing goes out.
pub fn absorbed(queue: usize, rate: Rate) -> Duration {
    Duration::from_secs_f64(queue as f64 / rate.as_f64())
}

/// The duration of exports as the line through measurements of two batch sizes, in spans and milliseconds. A single point is
/// read as a cost per span, which a larger batch does not reduce: the cautious reading. `None` without any.
pub fn export_time(points: &[(usize, f64)]) -> Option<ExportTime> {
    let per_span = |(batch, ms): (usize, f64)| ms * 1e3 / batch as f64;
    let dearest = points.iter().copied().map(per_span).reduce(f64::max)?;
    let all_per_span = ExportTime { fixed_ms: 0.0, per_span_us: dearest };
    let (Some(small), Some(large)) =
        (points.iter().min_by_key(|(batch, _)| *batch), points.iter().max_by_key(|(batch, _)| *batch))
    else {
        return None;
    };
    if small.0 == large.0 {
        return Some(all_per_span);
    }
    // A larger batch that took less time met a better moment.
    let per_span_us = ((large.1 - small.1) * 1e3 / (large.0 - small.0) as f64).max(0.0);
    let fixed_ms = small.1 - per_span_us * small.0 as f64 / 1e3;
    Some(if fixed_ms < 0.0 { all_per_span } else { ExportTime { fixed_ms, per_span_us } })
}

/// No batch is large enough.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
#[error(
    "no batch of up to {} spans sends {HEADROOM} times {target} spans/s: an export costs {fixed_ms:.2} ms and {per_span_us:.1} µs \
     a span; sample, use several processes, or make exports cheaper",
    grouped(LARGEST_BATCH as u64)
)]
pub struct Unreachable {
    target: Rate,
    fixed_ms: f64,
    per_span_us: f64,
}

/// Settings that lose no span at `target` spans a second when the collector stalls for `stall`: a batch so large that twice
/// the target can go out, and a queue that holds the spans of a stall on top of a waiting batch. No span waits longer for its
/// batch than the stall, so that a crash of the process loses no more than such a stall holds back.
///
/// # Errors
/// When no batch is large enough.
pub fn recommend(target: Rate, stall: Duration, export: ExportTime) -> Result<Batching, Unreachable> {
    let ExportTime { fixed_ms, per_span_us } = export;
    let per_second = HEADROOM * target.as_f64();
    // batch / (fixed + batch · per span) ≥ per second, solved for the batch.
    let left = 1.0 - per_second * per_span_us / 1e6;
    let needed = (per_second * fixed_ms / 1e3 / left).ceil();
    if left <= 0.0 || needed > LARGEST_BATCH as f64 {
        return Err(Unreachable { target, fixed_ms, per_span_us });
    }
    // At most the largest batch by the check above.
    let batch = (needed as usize).max(SMALLEST_BATCH).next_power_of_two();
    let stalled = (target.as_f64() * stall.as_secs_f64()).ceil() as usize;
    Ok(Batching { queue: stalled + batch, batch, delay: stall.min(LONGEST_DELAY) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(per_second: f64) -> Rate {
        Rate::per_second(per_second).unwrap()
    }

    #[test]
    fn the_bound_is_batch_over_export_time() {
        // 512 spans in 51.2 ms are 10 000 a second; at 10 000 a second a queue of 2048 absorbs 205 ms.
        assert_eq!(bound(512, 51.2), 10_000.0);
        assert_eq!(absorbed(2_048, rate(10_000.0)), Duration::from_micros(204_800));
        let batching = Batching { queue: 1_024, batch: 512, delay: Duration::from_secs(1) };
        assert_eq!(lent(batching, Duration::from_secs(2)), 768.0);
    }

    #[test]
    fn export_time_is_the_line_through_two_batches() {
        let line = export_time(&[(512, 2.512), (2_048, 4.048)]).unwrap();
        assert!((line.fixed_ms - 2.0).abs() < 1e-9 && (line.per_span_us - 1.0).abs() < 1e-9, "{line:?}");
        // A constant time, a time per span alone, and what no line explains.
        let cases = [
            (vec![(512, 50.0), (2_048, 50.0)], (50.0, 0.0)),
            (vec![(512, 50.0), (2_048, 48.0)], (50.0, 0.0)),
            (vec![(500, 1.0), (2_000, 8.0)], (0.0, 4.0)),
            (vec![(500, 1.0)], (0.0, 2.0)),
        ];
        for (points, (fixed_ms, per_span_us)) in cases {
            assert_eq!(export_time(&points), Some(ExportTime { fixed_ms, per_span_us }), "{points:?}");
        }
        assert_eq!(export_time(&[]), None);
    }

    #[test]
    fn recommended_settings_grow_with_the_rate() {
        let export = ExportTime { fixed_ms: 50.0, per_span_us: 0.0 };
        // 2 × 10 000 a second at 50 ms each take batches of 1000; the next power of two is chosen.
        let settings = recommend(rate(10_000.0), Duration::from_secs(1), export).unwrap();
        assert_eq!(settings, Batching { queue: 11_024, batch: 1_024, delay: Duration::from_secs(1) });
        // A slow rate takes no smaller batch than usual, and a long stall no longer delay.
        let settings = recommend(rate(100.0), Duration::from_mins(1), export).unwrap();
        assert_eq!(settings, Batching { queue: 6_512, batch: 512, delay: Duration::from_secs(5) });
        // 4096 at 50 ms each are 81 920 a second, which is twice 40 960 and no more.
        assert_eq!(recommend(rate(40_960.0), Duration::from_secs(1), export).unwrap().batch, 4_096);
        let message = recommend(rate(41_000.0), Duration::from_secs(1), export).unwrap_err().to_string();
        assert!(message.contains("up to 4 096 spans") && message.contains("41 000 spans/s"), "{message}");
        // Where each span costs 10 µs, no batch sends 100 000 a second.
        let export = ExportTime { fixed_ms: 1.0, per_span_us: 10.0 };
        assert!(recommend(rate(50_000.0), Duration::from_secs(1), export).is_err());
        assert!(recommend(rate(40_000.0), Duration::from_secs(1), export).is_ok());
    }

    proptest! {
        #[test]
        fn recommended_settings_send_twice_the_target_and_absorb_the_stall(
            target in 10.0..200_000.0_f64, fixed_ms in 0.0..100.0_f64, per_span_us in 0.0..20.0_f64, stall_ms in 1_u64..5_000
        ) {
            let (target, stall) = (rate(target), Duration::from_millis(stall_ms));
            if let Ok(settings) = recommend(target, stall, ExportTime { fixed_ms, per_span_us }) {
                let export_ms = fixed_ms + settings.batch as f64 * per_span_us / 1e3;
                prop_assert!(export_ms == 0.0 || bound(settings.batch, export_ms) >= 2.0 * target.as_f64() * 0.999_999);
                prop_assert!(absorbed(settings.queue - settings.batch, target) >= stall);
                prop_assert!((512..=4_096).contains(&settings.batch));
            }
        }
    }
}
