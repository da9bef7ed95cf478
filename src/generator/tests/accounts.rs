//! Property test: every arrival is accounted for, whatever the server does and whatever the load.

use futures_util::future::try_join_all;
use h2::Reason;
use http::StatusCode;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::http2::{self, Act, ServerCounts};
use super::*;

/// A generator, its server, and the loads played on it one after the other.
#[derive(Clone, Debug)]
struct Configuration {
    carrier: Carrier,
    /// Number of the first request that finds the server gone.
    vanishes_at: Option<u64>,
    connections: usize,
    shards: usize,
    timeout_ms: u64,
    plays: Vec<Play>,
}

/// A client, and how its server treats the requests, in turn.
#[derive(Clone, Debug)]
enum Carrier {
    Raw(Vec<Deed>),
    Hyper(Vec<Deed>),
    Http2 { acts: Vec<Act>, streams: usize, most_streams: u32 },
    Direct(Vec<Deed>),
}

#[derive(Clone, Debug)]
struct Play {
    /// The arrival process; `None` is a closed loop.
    arrivals: Option<Arrivals>,
    per_second: f64,
    ms: u64,
    cut_after_ms: Option<u64>,
}

fn configurations() -> impl Strategy<Value = Configuration> {
    let vanishes_at = prop_oneof![3 => Just(None), 1 => (1_u64..60).prop_map(Some)];
    // Each shard allocates histograms, which is slow without optimisation.
    let shards = prop_oneof![3 => Just(1_usize), 1 => 2_usize..4];
    (carriers(), vanishes_at, 1_usize..7, shards, 20_u64..60, prop::collection::vec(plays(), 1..3)).prop_map(
        |(carrier, vanishes_at, connections, shards, timeout_ms, plays)| Configuration {
            carrier,
            vanishes_at,
            connections,
            shards,
            timeout_ms,
            plays,
        },
    )
}

fn carriers() -> impl Strategy<Value = Carrier> {
    // Some delays exceed some time-outs, so some responses arrive after their request was given up.
    let delay = || (0_u64..80).prop_map(Duration::from_millis);
    let deed = prop_oneof![
        4 => Just(Deed::Answer),
        2 => delay().prop_map(Deed::AnswerAfter),
        9 => prop::sample::select(vec![
            Deed::Status500, Deed::Refuse, Deed::Close, Deed::Garbage, Deed::Silence, Deed::HalfAHead, Deed::TooShort,
            Deed::TooLong, Deed::Twice,
        ]),
    ];
    let act = prop_oneof![
        4 => Just(Act::Answer(200)),
        2 => delay().prop_map(Act::AnswerAfter),
        9 => prop::sample::select(vec![
            Act::Answer(500), Act::Close, Act::Garbage, Act::Silence, Act::Reset(Reason::CANCEL),
            Act::Reset(Reason::REFUSED_STREAM), Act::GoAway(Reason::INTERNAL_ERROR), Act::AnswerAndLeave, Act::TooShort,
        ]),
    ];
    let deeds = prop::collection::vec(deed, 1..8).boxed();
    prop_oneof![
        4 => deeds.clone().prop_map(Carrier::Raw),
        2 => deeds.clone().prop_map(Carrier::Hyper),
        2 => (prop::collection::vec(act, 1..8), 1_usize..6, 1_u32..8)
            .prop_map(|(acts, streams, most_streams)| Carrier::Http2 { acts, streams, most_streams }),
        1 => deeds.prop_map(Carrier::Direct),
    ]
}

fn plays() -> impl Strategy<Value = Play> {
    let rate = || (50.0..2_000.0_f64).prop_map(|per_second| Rate::per_second(per_second).unwrap());
    let arrivals = prop_oneof![
        Just(Arrivals::Constant),
        Just(Arrivals::Poisson),
        (rate(), rate()).prop_map(|(from, to)| Arrivals::Ramp { from, to }),
        prop::collection::vec(rate(), 1..4).prop_map(Arrivals::Steps),
        (1.0..4.0_f64, 5_u64..40).prop_map(|(factor, every)| Arrivals::Bursts {
            factor,
            every: Duration::from_millis(every),
            lasts: Duration::from_millis(every / 4 + 1),
        }),
        (0.0..0.9_f64, 5_u64..80)
            .prop_map(|(depth, period)| Arrivals::Sine { depth, period: Duration::from_millis(period) }),
    ];
    // Sometimes more than the backlog holds.
    let per_second = prop_oneof![63 => 50.0..2_000.0_f64, 1 => Just(1e6)];
    let cut_after_ms = prop_oneof![3 => Just(None), 1 => (0_u64..80).prop_map(Some)];
    (prop::option::weighted(0.9, arrivals), per_second, 20_u64..80, cut_after_ms)
        .prop_map(|(arrivals, per_second, ms, cut_after_ms)| Play { arrivals, per_second, ms, cut_after_ms })
}

/// The result of a direct call that is treated with `deed`.
async fn called(deed: Deed) -> io::Result<StatusCode> {
    match deed {
        Deed::Answer | Deed::TooLong | Deed::Twice => Ok(StatusCode::OK),
        Deed::AnswerAfter(delay) => {
            tokio::time::sleep(delay).await;
            Ok(StatusCode::OK)
        }
        Deed::Status500 => Ok(StatusCode::INTERNAL_SERVER_ERROR),
        Deed::Refuse => Ok(StatusCode::UNPROCESSABLE_ENTITY),
        Deed::Close | Deed::TooShort => Err(io::ErrorKind::UnexpectedEof.into()),
        Deed::Garbage => Err(io::ErrorKind::InvalidData.into()),
        Deed::Silence | Deed::HalfAHead => std::future::pending().await,
        Deed::Vanish => Err(io::ErrorKind::ConnectionRefused.into()),
    }
}

/// How request `n` is treated: each of `deeds` in turn, and `vanish` from the request `vanishes_at` on.
fn in_turn<D: Copy + 'static>(deeds: Vec<D>, vanishes_at: Option<u64>, vanish: D) -> impl Fn(u64) -> D {
    move |n| if vanishes_at.is_some_and(|from| n >= from) { vanish } else { deeds[n as usize % deeds.len()] }
}

/// Starts the server on this thread and returns a client for it.
async fn client(carrier: Carrier, vanishes_at: Option<u64>) -> Client {
    // An address that other tests do not use, so that none of them takes the port of a server that has gone.
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let http1 = |listener, deeds| {
        let deed = in_turn(deeds, vanishes_at, Deed::Vanish);
        tokio::task::spawn_local(answer_on(listener, move |n, _| deed(n)));
    };
    match carrier {
        Carrier::Raw(deeds) => {
            http1(listener, deeds);
            Client::Raw(addr)
        }
        Carrier::Hyper(deeds) => {
            http1(listener, deeds);
            Client::Hyper(addr)
        }
        Carrier::Http2 { acts, streams, most_streams } => {
            let act = in_turn(acts, vanishes_at, Act::Vanish);
            tokio::task::spawn_local(http2::answer_on(listener, most_streams, act, Arc::new(ServerCounts::default())));
            Client::Http2 { addr, streams }
        }
        Carrier::Direct(deeds) => {
            let deed = in_turn(deeds, vanishes_at, Deed::Vanish);
            let count = std::sync::atomic::AtomicU64::new(0);
            Client::Direct(Handler::new(move |_| called(deed(count.fetch_add(1, Relaxed)))))
        }
    }
}

/// Plays all loads and checks the counts of each.
async fn check(configuration: Configuration) -> Result<(), TestCaseError> {
    let Configuration { carrier, vanishes_at, connections, shards, timeout_ms, plays } = configuration;
    let client = client(carrier, vanishes_at).await;
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let generator =
        Generator::start(Target { client, shards, ..target(nowhere, connections, timeout_ms) }).await.unwrap();
    for Play { arrivals, per_second, ms, cut_after_ms } in plays {
        let began = Instant::now();
        let played = async {
            let Some(arrivals) = arrivals else {
                return (generator.saturate(Duration::from_millis(ms)).await.unwrap(), None);
            };
            let load = Load { arrivals, ..load(per_second, ms) };
            let due = Schedule::new(load.arrivals.clone(), load.rate, load.duration, load.seed).count() as u64;
            (generator.play(load).await.unwrap(), Some(due))
        };
        let cut = async {
            if let Some(ms) = cut_after_ms {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                generator.cut_short();
            }
        };
        let ((played, due), ()) = tokio::join!(played, cut);
        let counts = &played.load;
        prop_assert!(counts.adds_up(), "{:?}", counts);
        match (due, cut_after_ms) {
            (Some(due), None) => prop_assert_eq!(counts.scheduled, due),
            (Some(due), Some(_)) => prop_assert!(counts.scheduled <= due, "{} are due: {:?}", due, counts),
            // A closed loop has no backlog.
            (None, _) => prop_assert_eq!((counts.missed, counts.unsent), (0, 0)),
        }
        let [response, failure] = [&played.hdr.response_ns, &played.hdr.failure_ns].map(|text| decode(text).unwrap());
        let recorded = [response.len(), failure.len()];
        prop_assert_eq!(recorded, [counts.completed, counts.failures() + counts.timed_out]);
        // No time may be from an earlier play. The histograms are accurate to 0.1 %.
        let longest = response.max().max(failure.max()) as f64;
        prop_assert!(longest <= began.elapsed().as_nanos() as f64 * 1.001, "{} ns is longer than the play", longest);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 128, ..ProptestConfig::default() })]

    /// scheduled = completed + failed + timed_out + missed + unsent + in_flight, in 1 024 configurations, 32 at a time. About
    /// half of the generators play two loads in a row, and the second must not count requests left over from the first.
    #[test]
    fn every_arrival_is_accounted_for(configurations in prop::collection::vec(configurations(), 32)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, try_join_all(configurations.into_iter().map(check)))?;
    }
}
