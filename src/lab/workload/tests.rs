use std::num::NonZeroU32;

use super::*;
use proptest::prelude::*;

pub(super) fn payloads() -> impl Strategy<Value = Payload> {
    let user_ids = prop_oneof![
        Just("in-turn".to_owned()),
        Just("uniform".to_owned()),
        (0.001..=10.0_f64).prop_map(|exponent| format!("zipf:{exponent}")),
    ];
    let entry = prop_oneof![
        (1..20_u32, 1..60_u32).prop_map(|(weight, items)| Entry::Order { weight, items }),
        (1..20_u32).prop_map(|weight| Entry::Healthz { weight }),
    ];
    let share = prop_oneof![Just(0.0), Just(1.0), 0.000_001..1.0];
    let entries = prop::collection::vec(entry, 1..6);
    (1..=u32::MAX, user_ids, share, any::<bool>(), entries).prop_map(|(users, ids, share, personal, entries)| Payload {
        users: NonZeroU32::new(users).unwrap(),
        user_ids: ids.parse().unwrap(),
        error_share: share.try_into().unwrap(),
        personal,
        mix: entries.try_into().unwrap(),
    })
}

fn written(workload: &Workload, seq: u64) -> (Vec<u8>, Kind) {
    let mut request = Vec::new();
    let kind = workload.write(seq, &mut request);
    (request, kind)
}

/// Settings as a scenario file has them, resolved.
fn payload(settings: &str) -> Payload {
    crate::experiment::scenario::Scenario::resolve(toml::from_str(settings).unwrap()).unwrap().generator.payload
}

/// Stored results can be compared with new ones only while the default is what has always been sent.
#[test]
fn the_default_payload_never_changes() {
    let workload = Workload::new(0x0123_4567_89ab_cdee, 9, &Payload::default());
    let order = "POST /order HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
                 traceparent: 00-0123456789abcdef599ed017fb08fc85-bb4b35579cd033f5-01\r\nbaggage: user_id=user-0567\r\n\
                 content-length: 66\r\n\r\n{\"user\":\"user-0567\",\"items\":[\"sku-48\"],\"quantity\":3,\"amount\":47.5}";
    let (bytes, kind) = written(&workload, 1_234_567);
    assert_eq!((std::str::from_utf8(&bytes).unwrap(), kind), (order, Kind::Work));
    let all = (0..10_000).flat_map(|seq| written(&workload, seq).0);
    let digest =
        all.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    assert_eq!(digest, 0x1e8f_ed60_4d23_2708);
}

proptest! {
    #[test]
    fn the_caller_of_a_trace_is_found_from_its_ids_alone(nonce: u64, seed: u64, payload in payloads(), seq: u64) {
        let workload = Workload::new(nonce, seed, &payload);
        let user = workload.user_of(workload.trace_id(seq), workload.caller_span(seq));
        prop_assert_eq!(&user, &workload.user(seq));
        // A health check makes no trace, so a trace with its ids is nobody's.
        prop_assert_eq!(user.is_none(), written(&workload, seq).1 == Kind::Probe);
    }

    #[test]
    fn a_foreign_trace_or_parent_has_no_caller(nonce: u64, seq: u64) {
        let workload = Workload::new(nonce, 1, &Payload::default());
        let id = workload.trace_id(seq);
        prop_assert!(workload.user_of(id, workload.caller_span(seq)).is_some());
        prop_assert_eq!(workload.user_of(id ^ (1 << 100), workload.caller_span(seq)), None);
        prop_assert_eq!(workload.user_of(id, workload.caller_span(seq) ^ 2), None);
    }

    #[test]
    fn every_request_is_whole_and_carries_the_ids_of_its_number(
        nonce: u64, seed: u64, payload in payloads(), seqs in prop::collection::vec(any::<u64>(), 1..8),
    ) {
        let workload = Workload::new(nonce, seed, &payload);
        let mut bytes = Vec::new();
        for seq in seqs {
            // What the buffer held before, another kind of request perhaps, leaves no trace.
            let kind = workload.write(seq, &mut bytes);
            prop_assert_eq!((&bytes, kind), (&written(&workload, seq).0, kind));
            let mut headers = [httparse::EMPTY_HEADER; 8];
            let mut head = httparse::Request::new(&mut headers);
            let length = head.parse(&bytes).unwrap().unwrap();
            let header = |name| head.headers.iter().find(|h| h.name == name).map(|h| std::str::from_utf8(h.value).unwrap());
            if kind == Kind::Probe {
                prop_assert_eq!((head.method, head.path, length), (Some("GET"), Some("/healthz"), bytes.len()));
                prop_assert_eq!(header("traceparent"), None);
                continue;
            }
            prop_assert_eq!((head.method, head.path), (Some("POST"), Some("/order")));
            let traceparent = format!("00-{:032x}-{:016x}-01", workload.trace_id(seq), workload.caller_span(seq));
            prop_assert_eq!(header("traceparent"), Some(traceparent.as_str()));
            let user = workload.user(seq).unwrap();
            prop_assert_eq!(header("baggage").map(str::to_owned), Some(format!("user_id={user}")));
            prop_assert_eq!(header("content-length").map(str::parse), Some(Ok(bytes.len() - length)));
            let order = crate::sut::service::Order::parse(&bytes[length..]).unwrap();
            prop_assert_eq!(&order.user, &user);
            // The service takes what is right, and the payment refuses what is not.
            prop_assert_eq!(order.charge().is_err(), kind == Kind::Faulty);
            let number: u32 = user.strip_prefix("user-").unwrap().parse().unwrap();
            prop_assert!(number < payload.users.get());
            prop_assert_eq!(order.email.clone(), payload.personal.then(|| format!("{user}@example.com")));
            prop_assert_eq!(order.card.is_some(), payload.personal);
            if let Some(card) = order.card {
                // Another way to the same digit: that of the number without it, by table.
                let doubled = [0, 2, 4, 6, 8, 1, 3, 5, 7, 9];
                let digits = card.bytes().map(|digit| usize::from(digit - b'0'));
                let sum: usize = digits.enumerate().map(|(i, d)| if i % 2 == 0 { doubled[d] } else { d }).sum();
                prop_assert!(card.len() == 16 && card.starts_with("40000") && sum.is_multiple_of(10), "{}", card);
                prop_assert_eq!(card[5..15].parse::<u32>(), Ok(number));
                let secrets = workload.secrets(payload.users.get().min(20));
                let known = secrets.iter().position(|secret| *secret == card);
                prop_assert_eq!(known, (number < 20).then_some(2 * number as usize));
                prop_assert!(known.is_none_or(|at| secrets.get(at + 1) == order.email.as_ref()));
            }
        }
    }

    #[test]
    fn lanes_of_one_seed_are_sent_the_same_but_for_the_ids(a: u64, b: u64, seed: u64, payload in payloads(), seq: u64) {
        let (one, other) = (Workload::new(a, seed, &payload), Workload::new(b, seed, &payload));
        let ((bytes, kind), (others, others_kind)) = (written(&one, seq), written(&other, seq));
        prop_assert_eq!((one.user(seq), kind, bytes.len()), (other.user(seq), others_kind, others.len()));
    }

    #[test]
    fn a_payload_survives_being_stored(payload in payloads()) {
        let json = serde_json::to_string(&payload).unwrap();
        prop_assert_eq!(serde_json::from_str::<Payload>(&json).unwrap(), payload);
    }
}

#[test]
fn every_kind_of_request_has_exactly_its_share() {
    let settings = "error_share = 0.05\nmix = [{ endpoint = \"order\", weight = 6, items = 3 }, \
                    { endpoint = \"healthz\", weight = 2 }, { endpoint = \"order\", items = 50, weight = 2 }]";
    let workload = Workload::new(1, 5, &payload(settings));
    // The smallest deck that holds these shares has 100 cards.
    for deck in 0..50 {
        let mut counts = std::collections::BTreeMap::new();
        for seq in deck * 100..(deck + 1) * 100 {
            let (bytes, kind) = written(&workload, seq);
            *counts.entry((bytes.len() / 200, format!("{kind:?}"))).or_insert(0) += 1;
        }
        let counts: Vec<(&str, i32)> = counts.iter().map(|((_, kind), n)| (kind.as_str(), *n)).collect();
        assert_eq!(counts, [("Probe", 20), ("Faulty", 3), ("Work", 57), ("Faulty", 1), ("Work", 19)]);
    }
}

#[test]
fn other_seeds_draw_other_requests() {
    let payload = payload("user_ids = \"uniform\"\nerror_share = 0.5");
    let drawn = |seed| {
        let workload = Workload::new(1, seed, &payload);
        (0..64).map(|seq| (workload.user(seq), written(&workload, seq).1 == Kind::Faulty)).unzip()
    };
    let (users, faulty): (Vec<Option<String>>, Vec<bool>) = drawn(1);
    let (others, others_faulty): (Vec<Option<String>>, Vec<bool>) = drawn(2);
    assert!(users != others && faulty != others_faulty);
}

#[test]
fn the_length_of_a_body_follows_from_its_items() {
    let length = |items| {
        let mix = format!("mix = [{{ endpoint = \"order\", items = {items} }}]");
        let (bytes, _) = written(&Workload::new(1, 1, &payload(&mix)), 95);
        let head = bytes.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
        let body: serde_json::Value = serde_json::from_slice(&bytes[head..]).unwrap();
        (bytes.len() - head, body["items"].clone())
    };
    assert_eq!(length(3), (66 + 2 * 9, serde_json::json!(["sku-95", "sku-96", "sku-00"])));
    assert_eq!(length(50).0, 66 + 49 * 9);
}

#[test]
fn user_names_are_wide_enough_for_the_last_user() {
    for (users, name) in [(1, "user-0000"), (10_000, "user-9999"), (10_001, "user-10000"), (100_000, "user-99999")] {
        let workload = Workload::new(1, 1, &payload(&format!("users = {users}")));
        assert_eq!(workload.user(users - 1).unwrap(), name);
    }
}

#[test]
fn invalid_payloads_are_rejected_with_an_example() {
    for (settings, says) in [
        ("users = 0", "users"),
        ("user_ids = \"zipf\"", "write in-turn, uniform or zipf:EXPONENT"),
        ("user_ids = \"zipf:0\"", "above 0 and up to 10, such as zipf:1.1"),
        ("user_ids = \"zipf:10.1\"", "above 0 and up to 10"),
        ("user_ids = \"zipf:-1\"", "above 0 and up to 10"),
        ("user_ids = \"zipf:nan\"", "above 0 and up to 10"),
        ("user_ids = \"uniform:3\"", "`uniform:3`"),
        ("error_share = 1.5", "from 0 to 1"),
        ("error_share = -0.1", "from 0 to 1"),
        ("error_share = 0.0000001", "0.000001 or more"),
        ("error_share = nan", "such as 0.01"),
        ("mix = []", "from 1 to 1000 entries"),
        ("[[mix]]\nweight = 3", "endpoint"),
        ("[[mix]]\nendpoint = \"orders\"", "expected `order` or `healthz`"),
        ("[[mix]]\nendpoint = \"order\"\nweight = 0", "weight must be a whole number from 1 to 1000000; got 0"),
        ("[[mix]]\nendpoint = \"order\"\nitems = 10001", "items must be a whole number from 1 to 10000; got 10001"),
        ("[[mix]]\nendpoint = \"order\"\nitmes = 3", "unknown field `itmes`"),
        ("[[mix]]\nendpoint = \"healthz\"\nitems = 1", "items belong to endpoint = \"order\""),
    ] {
        let error = toml::from_str::<crate::experiment::scenario::Settings>(settings).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("error at line "), "{settings}: {error}");
    }
}

#[test]
fn the_sampled_flag_of_each_request_follows_the_recorded_share() {
    let flags = |share: f64| {
        let workload = Workload::new(1, 1, &Payload::default()).recording(share);
        let flag = |seq| {
            let (bytes, _) = written(&workload, seq);
            let text = String::from_utf8(bytes).unwrap();
            let header = text.lines().find_map(|line| line.strip_prefix("traceparent: ")).unwrap().to_owned();
            header.rsplit('-').next().unwrap().to_owned()
        };
        (0..10_000).map(flag).filter(|flag| flag == "01").count()
    };
    assert_eq!((flags(0.0), flags(1.0)), (0, 10_000));
    // Six standard deviations of the binomial distribution.
    assert!((820..=1_180).contains(&flags(0.1)), "{}", flags(0.1));
}

#[test]
fn request_headers_stand_in_every_request_and_change_nothing_else() {
    // One of them looks like the places where the fields of an order are written.
    let lines = "x-tenant: blue\r\nx-trap: sku-99 \"user\":\"user- user_id=user- traceparent: 00- \"amount\":\r\n";
    let headers: Vec<RequestHeader> = lines.lines().map(|line| line.parse().unwrap()).collect();
    let payload = payload("personal = true\nmix = [{ endpoint = \"order\", items = 2 }, { endpoint = \"healthz\" }]");
    let (with, without) = (Workload::with_headers(1, 5, &payload, &headers), Workload::new(1, 5, &payload));
    for seq in 0..50 {
        let (bytes, kind) = written(&with, seq);
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.matches(lines).count(), 1, "{text}");
        assert_eq!((text.replacen(lines, "", 1).into_bytes(), kind), written(&without, seq));
    }
}
