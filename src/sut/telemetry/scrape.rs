//! Scrapes the Prometheus recorder once per interval, on its own thread.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use metrics_exporter_prometheus::PrometheusHandle;

use super::PERIODIC_EXPORT_THREADS;

/// Name of the order counter in the Prometheus text format.
const ORDERS: &str = "orders_total";

/// Renders the recorder's metrics once per interval and on request.
pub(super) struct Scraper {
    handle: PrometheusHandle,
    requests: Sender<Sender<()>>,
    scrapes: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl fmt::Debug for Scraper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scraper").field("scrapes", &self.scrapes).finish_non_exhaustive()
    }
}

impl Scraper {
    pub(super) fn start(handle: PrometheusHandle, interval: Duration) -> io::Result<Self> {
        let (requests, inbox) = channel();
        let scrapes = Arc::new(AtomicU64::new(0));
        let (rendered, count) = (handle.clone(), Arc::clone(&scrapes));
        let thread = thread::Builder::new()
            .name(PERIODIC_EXPORT_THREADS[2].into())
            .spawn(move || scrape_until_closed(&rendered, &inbox, &count, interval))?;
        Ok(Self { handle, requests, scrapes, thread })
    }

    /// Scrapes now, on the scraper's thread, and waits for the result.
    pub(super) fn scrape_now(&self) {
        let (done, finished) = channel();
        if self.requests.send(done).is_ok() {
            // An error means that the thread has ended, so there is nothing to wait for.
            let _ = finished.recv();
        }
    }

    /// Number of scrapes so far.
    pub(super) fn scrapes(&self) -> u64 {
        self.scrapes.load(Relaxed)
    }

    /// A function that renders the metrics on any thread.
    pub(super) fn render(&self) -> Arc<dyn Fn() -> String + Send + Sync> {
        let handle = self.handle.clone();
        Arc::new(move || handle.render())
    }

    /// Ends the thread. Returns the value of the order counter in a last scrape.
    pub(super) fn finish(self) -> Option<u64> {
        drop(self.requests);
        let joined = self.thread.join();
        joined.ok().and_then(|()| counter(&self.handle.render(), ORDERS))
    }
}

fn scrape_until_closed(
    handle: &PrometheusHandle,
    inbox: &Receiver<Sender<()>>,
    scrapes: &AtomicU64,
    interval: Duration,
) {
    let mut due = Instant::now() + interval;
    loop {
        let asked = inbox.recv_timeout(due.saturating_duration_since(Instant::now()));
        if matches!(asked, Err(RecvTimeoutError::Disconnected)) {
            return;
        }
        std::hint::black_box(handle.render());
        scrapes.fetch_add(1, Relaxed);
        match asked {
            // The requester may have stopped waiting.
            Ok(done) => drop(done.send(())),
            Err(_) => due += interval,
        }
    }
}

/// The value of a counter without labels in a text exposition.
fn counter(exposition: &str, name: &str) -> Option<u64> {
    exposition.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_not_confused_with_one_whose_name_it_prefixes() {
        let text = "# TYPE orders_total counter\norders_total_other 9\norders_total 41\n";
        assert_eq!(counter(text, "orders_total"), Some(41));
        assert_eq!(counter("", "orders_total"), None);
    }
}
