//! Random ids.
//!
//! Ids must differ, not be secret: a small generator for each thread, seeded with what the operating system gave the
//! standard library for its hash maps, costs a few nanoseconds a draw and no dependency.

use std::cell::Cell;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

thread_local! {
    static STATE: Cell<[u64; 4]> = Cell::new(seed());
}

/// Hashes of four numbers, under keys of which each thread has its own.
fn seed() -> [u64; 4] {
    // The generator only stands still on four zeros, which is one draw in 2^256.
    std::array::from_fn(|nth| RandomState::new().hash_one(nth))
}

/// 64 random bits, not all zero: that is no id.
pub(crate) fn u64() -> u64 {
    loop {
        let drawn = STATE.with(|state| {
            let (drawn, after) = xoshiro256_plus_plus(state.get());
            state.set(after);
            drawn
        });
        if drawn != 0 {
            return drawn;
        }
    }
}

/// 128 random bits, not all zero.
pub(crate) fn u128() -> u128 {
    u128::from(u64()) << 64 | u128::from(u64())
}

/// Blackman and Vigna's generator, as OpenTelemetry's SDK uses it for its ids: <https://prng.di.unimi.it>.
fn xoshiro256_plus_plus([mut a, mut b, mut c, mut d]: [u64; 4]) -> (u64, [u64; 4]) {
    let drawn = a.wrapping_add(d).rotate_left(23).wrapping_add(a);
    let shifted = b << 17;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = d.rotate_left(45);
    (drawn, [a, b, c, d])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        // The first draws of the reference implementation from the state 1, 2, 3, 4.
        let mut state = [1, 2, 3, 4];
        for expected in [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386] {
            let (drawn, after) = xoshiro256_plus_plus(state);
            assert_eq!(drawn, expected);
            state = after;
        }
    }

    #[test]
    fn ids_differ_within_a_thread_and_between_threads() {
        let drawn = || (0..10_000).map(|_| u64()).collect::<Vec<_>>();
        let other = std::thread::spawn(drawn);
        let all: HashSet<u64> = drawn().into_iter().chain(other.join().unwrap()).collect();
        assert_eq!(all.len(), 20_000);
        assert_ne!(u128() >> 64, u128() & u128::from(u64::MAX));
    }
}
