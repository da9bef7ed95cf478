//! The orders that are sent, as a pure function of their sequence number.
//!
//! Order `n` of a lane has a trace id, a caller's span id and a user of its own that can be computed both ways, so the
//! sink's view of a trace can be held against what was sent without remembering a million requests.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::Full;

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
        format!("user-{}", seq % USERS)
    }

    /// The body of order `seq`.
    pub fn body(self, seq: u64) -> String {
        format!(
            r#"{{"user":"user-{}","items":["sku-{}"],"quantity":{},"amount":{}.5}}"#,
            seq % USERS,
            seq % 97,
            1 + seq % 5,
            10 + seq % 90,
        )
    }

    /// Order `seq` as an HTTP request.
    pub fn request(self, seq: u64) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::from(self.body(seq))));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static("/order");
        let traceparent = format!("00-{:032x}-{:016x}-01", self.trace_id(seq), self.caller_span(seq));
        let headers = request.headers_mut();
        headers.insert("host", HeaderValue::from_static("localhost"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(HeaderName::from_static("traceparent"), ascii(traceparent));
        headers.insert(HeaderName::from_static("baggage"), ascii(format!("user_id={}", self.user(seq))));
        request
    }
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("hexadecimal digits and user names are valid header values")
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

    #[test]
    fn the_body_is_json_that_names_the_user() {
        let body: serde_json::Value = serde_json::from_str(&Workload::new(1).body(1_234)).unwrap();
        assert_eq!(body["user"], "user-234");
    }
}
