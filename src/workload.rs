//! The orders that are sent, as a pure function of their sequence number.
//!
//! Order `n` of a lane has a trace id, a caller's span id and a user of its own that can be computed both ways, so the
//! sink's view of a trace can be held against what was sent without remembering a million requests.

use crate::generator::Requests;
use crate::sink::Caller;

/// Distinct users among the orders.
const USERS: u64 = 1_000;

/// The caller's side of one lane's orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Upper half of every trace id of this lane; tells its traces from any other's.
    nonce: u64,
}

impl Workload {
    /// A workload whose trace ids begin with `nonce`, made non-zero.
    pub fn new(nonce: u64) -> Self {
        Self { nonce: nonce | 1 }
    }

    /// The trace id that order `seq` carries.
    pub fn trace_id(self, seq: u64) -> u128 {
        u128::from(self.nonce) << 64 | u128::from(mix(seq))
    }

    /// The id of the caller's span, the parent of the service's root span.
    pub fn caller_span(self, seq: u64) -> u64 {
        mix(seq ^ self.nonce) | 1
    }

    /// The user of order `seq`; in the body, and as baggage `user_id`.
    pub fn user(self, seq: u64) -> String {
        format!("user-{:04}", seq % USERS)
    }

    /// The requests that carry these orders.
    pub fn requests(self) -> OrderRequests {
        let body = r#"{"user":"user-0000","items":["sku-00"],"quantity":1,"amount":10.5}"#;
        let template = format!(
            "POST /order HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             traceparent: 00-{:032x}-{:016x}-01\r\nbaggage: user_id=user-0000\r\ncontent-length: {}\r\n\r\n{body}",
            0,
            0,
            body.len()
        );
        let after = |mark: &str| template.rfind(mark).map_or(0, |at| at + mark.len());
        OrderRequests {
            workload: self,
            trace_id: after("traceparent: 00-"),
            baggage_user: after("user_id=user-"),
            user: after("\"user\":\"user-"),
            item: after("sku-"),
            quantity: after("\"quantity\":"),
            amount: after("\"amount\":"),
            template: template.into_bytes(),
        }
    }
}

/// Orders as HTTP requests: every field that differs has a fixed width, and is written in its place.
#[derive(Clone, Debug)]
pub struct OrderRequests {
    workload: Workload,
    template: Vec<u8>,
    /// Where the fields begin.
    trace_id: usize,
    baggage_user: usize,
    user: usize,
    item: usize,
    quantity: usize,
    amount: usize,
}

impl Requests for OrderRequests {
    fn template(&self) -> Vec<u8> {
        self.template.clone()
    }

    fn number(&self, seq: u64, request: &mut [u8]) {
        let user = seq % USERS;
        write_digits::<10>(&mut request[self.user..][..4], user);
        write_digits::<10>(&mut request[self.baggage_user..][..4], user);
        write_digits::<10>(&mut request[self.item..][..2], seq % 97);
        write_digits::<10>(&mut request[self.quantity..][..1], 1 + seq % 5);
        write_digits::<10>(&mut request[self.amount..][..2], 10 + seq % 90);
        let trace_id = self.workload.trace_id(seq);
        // The halves of the trace id, a dash, and the caller's span.
        write_digits::<16>(&mut request[self.trace_id..][..16], (trace_id >> 64) as u64);
        write_digits::<16>(&mut request[self.trace_id + 16..][..16], trace_id as u64);
        write_digits::<16>(&mut request[self.trace_id + 33..][..16], self.workload.caller_span(seq));
    }
}

/// Writes a number in so many digits as there is room for, with leading zeros.
fn write_digits<const BASE: u64>(room: &mut [u8], mut number: u64) {
    for digit in room.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number % BASE) as usize];
        number /= BASE;
    }
}

impl Caller for Workload {
    fn user_of(&self, trace_id: u128, parent_span: u64) -> Option<String> {
        if (trace_id >> 64) as u64 != self.nonce {
            return None;
        }
        let seq = unmix(trace_id as u64);
        (self.caller_span(seq) == parent_span).then(|| self.user(seq))
    }
}

/// `SplitMix64`'s finaliser (Steele, Lea and Flood 2014): a bijection, so that ids look random to a ratio sampler and can
/// still be turned back into sequence numbers.
fn mix(seq: u64) -> u64 {
    let mut z = seq.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn unmix(mixed: u64) -> u64 {
    let mut z = mixed;
    z = (z ^ (z >> 31) ^ (z >> 62)).wrapping_mul(0x3196_42b2_d24d_8ec3);
    z = (z ^ (z >> 27) ^ (z >> 54)).wrapping_mul(0x96de_1b17_3f11_9089);
    z = z ^ (z >> 30) ^ (z >> 60);
    z.wrapping_sub(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_caller_of_a_trace_is_found_from_its_ids_alone(nonce: u64, seq: u64) {
            let workload = Workload::new(nonce);
            let user = workload.user_of(workload.trace_id(seq), workload.caller_span(seq));
            prop_assert_eq!(user, Some(workload.user(seq)));
        }

        #[test]
        fn a_foreign_trace_or_parent_has_no_caller(nonce: u64, seq: u64) {
            let workload = Workload::new(nonce);
            let id = workload.trace_id(seq);
            prop_assert_eq!(workload.user_of(id ^ (1 << 100), workload.caller_span(seq)), None);
            prop_assert_eq!(workload.user_of(id, workload.caller_span(seq) ^ 2), None);
        }
    }

    proptest! {
        #[test]
        fn every_request_is_whole_and_carries_the_ids_of_its_number(nonce: u64, seqs in prop::collection::vec(any::<u64>(), 1..5)) {
            let workload = Workload::new(nonce);
            let requests = workload.requests();
            let mut bytes = requests.template();
            for seq in seqs {
                requests.number(seq, &mut bytes);
                let mut headers = [httparse::EMPTY_HEADER; 8];
                let mut head = httparse::Request::new(&mut headers);
                let length = head.parse(&bytes).unwrap().unwrap();
                let header = |name| head.headers.iter().find(|h| h.name == name).map(|h| std::str::from_utf8(h.value).unwrap());
                let traceparent = format!("00-{:032x}-{:016x}-01", workload.trace_id(seq), workload.caller_span(seq));
                prop_assert_eq!(header("traceparent"), Some(traceparent.as_str()));
                prop_assert_eq!(header("baggage").map(str::to_owned), Some(format!("user_id={}", workload.user(seq))));
                prop_assert_eq!(header("content-length").map(str::parse), Some(Ok(bytes.len() - length)));
                let body: serde_json::Value = serde_json::from_slice(&bytes[length..]).unwrap();
                prop_assert_eq!(&body["user"], &serde_json::Value::from(workload.user(seq)));
                prop_assert!(body["quantity"].as_u64().unwrap() >= 1 && body["amount"].as_f64().unwrap() > 0.0);
            }
        }
    }
}
