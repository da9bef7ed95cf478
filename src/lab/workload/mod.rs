//! The requests that are sent, as a pure function of their sequence number.
//!
//! Order `n` of a lane has a trace id, a caller's span id and a user of its own that can be computed both ways, so the
//! sink's view of a trace can be held against what was sent without remembering a million requests. What the requests are
//! made of, a [`Payload`], is drawn by number too: the same seed gives every lane the same requests but for their ids.

mod draw;

use crate::experiment::payload::{Entry, Payload};
use crate::experiment::request_header::RequestHeader;
use crate::generator::{Kind, Requests};
use crate::sink::Caller;

use self::draw::{Deck, Users};

/// Above every trace id shifted right by one.
const ALL_RECORDED: u64 = 1 << 63;
/// Fewest digits of a user's name.
const USER_DIGITS: u32 = 4;
/// Prefix of every card number: valid for a scheme, and assigned to no bank.
const CARD_PREFIX: &str = "40000";
/// Digits of a card number.
const CARD_DIGITS: usize = 16;
/// Distance of two items in a body: `"sku-00",`.
const ITEM_STRIDE: usize = 9;

/// The caller's side of one lane's requests: their bytes for the generator, their callers for the sink.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Upper half of every trace id of this lane; tells its traces from any other's.
    nonce: u64,
    /// Seeds what is drawn.
    seed: u64,
    /// Traces are recorded whose low id, shifted right by one, is below this.
    recorded_below: u64,
    deck: Deck,
    users: Users,
    user_digits: usize,
    /// One for each entry of the mix.
    templates: Vec<Template>,
}

/// A request in which the fields that differ are yet to be written.
#[derive(Clone, Debug)]
struct Template {
    bytes: Vec<u8>,
    /// `None` where there is nothing to write.
    order: Option<OrderFields>,
}

/// Where the fields of an order begin. Each has a fixed width, and is written in its place.
#[derive(Clone, Copy, Debug)]
struct OrderFields {
    trace_id: usize,
    baggage_user: usize,
    user: usize,
    first_item: usize,
    items: usize,
    quantity: usize,
    amount: usize,
    personal: Option<PersonalFields>,
}

/// Where card number and user of the e-mail address begin.
#[derive(Clone, Copy, Debug)]
struct PersonalFields {
    card: usize,
    email_user: usize,
}

impl Workload {
    /// The workload of one lane: `nonce`, made non-zero, begins its trace ids, and `seed` decides what is drawn.
    pub fn new(nonce: u64, seed: u64, payload: &Payload) -> Self {
        Self::with_headers(nonce, seed, payload, &[])
    }

    /// The same with these headers in every request.
    pub fn with_headers(nonce: u64, seed: u64, payload: &Payload, headers: &[RequestHeader]) -> Self {
        let lines: Vec<String> = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let headers = lines.concat();
        let user_digits = (payload.users.get() - 1).checked_ilog10().map_or(1, |log| log + 1).max(USER_DIGITS) as usize;
        Self {
            nonce: nonce | 1,
            seed,
            recorded_below: ALL_RECORDED,
            deck: Deck::of(payload),
            users: Users::new(payload.users, payload.user_ids),
            user_digits,
            templates: payload
                .mix
                .entries()
                .iter()
                .map(|entry| Template::new(*entry, user_digits, payload.personal, &headers))
                .collect(),
        }
    }

    /// The same from a caller who has this share of the traces recorded, from 0 to 1, and says so to the service. Which
    /// they are follows from their ids, as OpenTelemetry's `TraceIdRatioBased` has it.
    #[must_use]
    pub fn recording(self, share: f64) -> Self {
        // Within range by the clamp.
        Self { recorded_below: (share.clamp(0.0, 1.0) * ALL_RECORDED as f64) as u64, ..self }
    }

    /// Whether the caller has order `seq` recorded.
    fn is_recorded(&self, seq: u64) -> bool {
        mixed(seq) >> 1 < self.recorded_below
    }

    /// The trace id that order `seq` carries.
    pub fn trace_id(&self, seq: u64) -> u128 {
        u128::from(self.nonce) << 64 | u128::from(mixed(seq))
    }

    /// The id of the caller's span, the parent of the service's root span.
    pub fn caller_span(&self, seq: u64) -> u64 {
        mixed(seq ^ self.nonce) | 1
    }

    /// The user of order `seq`, in the body and as baggage `user_id`; `None` where request `seq` is no order.
    pub fn user(&self, seq: u64) -> Option<String> {
        let (template, _) = self.template(seq);
        let user = self.users.draw(seq, self.user_seed());
        template.order.map(|_| format!("user-{user:0width$}", width = self.user_digits))
    }

    /// Card number and e-mail address of each of the first `users` users, where orders carry them.
    pub fn secrets(&self, users: u32) -> Vec<String> {
        let secrets = |user: u64| {
            let mut card = [0; CARD_DIGITS];
            write_card(&mut card, user);
            let card = String::from_utf8_lossy(&card).into_owned();
            [card, format!("user-{user:0width$}@example.com", width = self.user_digits)]
        };
        (0..u64::from(users)).flat_map(secrets).collect()
    }

    /// The template of request `seq`, and whether the service must refuse it.
    fn template(&self, seq: u64) -> (&Template, bool) {
        let card = self.deck.draw(seq, self.seed);
        (&self.templates[card / 2], card % 2 == 1)
    }

    /// Unlike the seed of the deck, so that users and kinds are independent.
    fn user_seed(&self) -> u64 {
        mixed(self.seed)
    }
}

impl Template {
    /// `headers` are whole lines.
    fn new(entry: Entry, user_digits: usize, personal: bool, headers: &str) -> Self {
        let items = match entry {
            Entry::Order { items, .. } => items as usize,
            Entry::Healthz { .. } => {
                let request = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
                return Self { bytes: request.into_bytes(), order: None };
            }
        };
        let user = "0".repeat(user_digits);
        let list = vec![r#""sku-00""#; items].join(",");
        let more = if personal {
            format!(r#","card":"{:0CARD_DIGITS$}","email":"user-{user}@example.com""#, 0)
        } else {
            String::new()
        };
        let body = format!(r#"{{"user":"user-{user}","items":[{list}],"quantity":1,"amount":10.5{more}}}"#);
        let head = format!(
            "POST /order HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             traceparent: 00-{:032x}-{:016x}-01\r\nbaggage: user_id=user-{user}\r\ncontent-length: {}\r\n{headers}\r\n",
            0,
            0,
            body.len()
        );
        let after = |text: &str, mark: &str| text.find(mark).map_or(0, |at| at + mark.len());
        // The first of its kind is the workload's own: other headers come after it.
        let in_head = |mark| after(&head, mark);
        // Whatever stands in a header, the body is looked at alone.
        let in_body = |mark| head.len() + after(&body, mark);
        let order = OrderFields {
            trace_id: in_head("traceparent: 00-"),
            baggage_user: in_head("user_id=user-"),
            user: in_body("\"user\":\"user-"),
            first_item: in_body("sku-"),
            items,
            quantity: in_body("\"quantity\":"),
            amount: in_body("\"amount\":"),
            personal: personal
                .then(|| PersonalFields { card: in_body("\"card\":\""), email_user: in_body("\"email\":\"user-") }),
        };
        Self { bytes: (head + &body).into_bytes(), order: Some(order) }
    }
}

impl Requests for Workload {
    fn write(&self, seq: u64, request: &mut Vec<u8>) -> Kind {
        let (template, refused) = self.template(seq);
        request.clear();
        request.extend_from_slice(&template.bytes);
        let Some(order) = template.order else { return Kind::Probe };
        let user = self.users.draw(seq, self.user_seed());
        write_digits::<10>(&mut request[order.user..][..self.user_digits], user);
        write_digits::<10>(&mut request[order.baggage_user..][..self.user_digits], user);
        for item in 0..order.items {
            let number = (seq % 97 + item as u64) % 97;
            write_digits::<10>(&mut request[order.first_item + item * ITEM_STRIDE..][..2], number);
        }
        write_digits::<10>(&mut request[order.quantity..][..1], 1 + seq % 5);
        if let Some(personal) = order.personal {
            write_card(&mut request[personal.card..][..CARD_DIGITS], user);
            write_digits::<10>(&mut request[personal.email_user..][..self.user_digits], user);
        }
        let trace_id = self.trace_id(seq);
        // The halves of the trace id, a dash, and the caller's span.
        write_digits::<16>(&mut request[order.trace_id..][..16], (trace_id >> 64) as u64);
        write_digits::<16>(&mut request[order.trace_id + 16..][..16], trace_id as u64);
        write_digits::<16>(&mut request[order.trace_id + 33..][..16], self.caller_span(seq));
        // The last digit of the flags.
        request[order.trace_id + 51] = b'0' + u8::from(self.is_recorded(seq));
        if refused {
            // An amount of nothing is what the payment refuses, after everything else is done.
            request[order.amount..][..4].copy_from_slice(b"0.00");
            return Kind::Faulty;
        }
        write_digits::<10>(&mut request[order.amount..][..2], 10 + seq % 90);
        Kind::Work
    }
}

/// Writes a number in so many digits as there is room for, with leading zeros.
fn write_digits<const BASE: u64>(room: &mut [u8], mut number: u64) {
    for digit in room.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number % BASE) as usize];
        number /= BASE;
    }
}

/// Writes the card number of a user: the prefix, the user and the digit that checks them. Source: ISO/IEC 7812-1, annex B.
fn write_card(room: &mut [u8], user: u64) {
    let (checked, check) = room.split_at_mut(CARD_DIGITS - 1);
    let (prefix, number) = checked.split_at_mut(CARD_PREFIX.len());
    prefix.copy_from_slice(CARD_PREFIX.as_bytes());
    write_digits::<10>(number, user);
    // From the right, every other digit counts twice, and a two-digit product by the sum of its digits.
    let weighed = |(place, digit): (usize, &u8)| match u64::from(digit - b'0') << ((place + 1) % 2) {
        sum @ 10.. => sum - 9,
        sum => sum,
    };
    let sum: u64 = checked.iter().rev().enumerate().map(weighed).sum();
    write_digits::<10>(check, (10 - sum % 10) % 10);
}

impl Caller for Workload {
    fn user_of(&self, trace_id: u128, parent_span: u64) -> Option<String> {
        if (trace_id >> 64) as u64 != self.nonce {
            return None;
        }
        let seq = unmixed(trace_id as u64);
        (self.caller_span(seq) == parent_span).then(|| self.user(seq))?
    }
}

/// `SplitMix64`'s finaliser (Steele, Lea and Flood 2014): a bijection, so that ids look random to a ratio sampler and can
/// still be turned back into sequence numbers.
fn mixed(seq: u64) -> u64 {
    let mut z = seq.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn unmixed(mixed: u64) -> u64 {
    let mut z = mixed;
    z = (z ^ (z >> 31) ^ (z >> 62)).wrapping_mul(0x3196_42b2_d24d_8ec3);
    z = (z ^ (z >> 27) ^ (z >> 54)).wrapping_mul(0x96de_1b17_3f11_9089);
    z = z ^ (z >> 30) ^ (z >> 60);
    z.wrapping_sub(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests;
