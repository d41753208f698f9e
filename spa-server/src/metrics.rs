//! Metrics for Prometheus: what `status` says and a few distributions, as text (exposition format 0.0.4).
//!
//! `histogram` counts, `page` writes, `listener` answers `GET /metrics`, bound once at the start.

mod histogram;
mod listener;
mod page;

pub use histogram::Histogram;
pub use listener::{Exporter, METHOD, bind};
pub use page::{Observed, page};

/// Upper bounds of how long a commit of the record took, in seconds.
pub const COMMIT_BOUNDS: [f64; 10] = [0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5];
/// Upper bounds of how far a genuine knock's timestamp was off this gateway's clock, in seconds.
pub const DIFFERENCE_BOUNDS: [f64; 10] = [0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 300.0, 3600.0];
