//! The kinds of requests that a generator tells apart.

/// What a request is to whoever counts the answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Work for the service, to be answered with a 2xx status.
    Work,
    /// Work that the service must refuse with a 4xx status.
    Faulty,
    /// No work, such as a health check; to be answered with a 2xx status.
    Probe,
}
