//! The kinds of request that the generator counts separately.

/// The kind of a request, which decides what answer is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Work for the service; the right answer is a 2xx status.
    Work,
    /// Invalid work that the service must refuse with a 4xx status.
    Faulty,
    /// Not work, for example a health check; the right answer is a 2xx status.
    Probe,
}
