//! What holds where server.toml says nothing.

use std::time::Duration;

/// The UDP port that knocks go to unless told.
pub const DEFAULT_PORT: u16 = 62201;
/// How long a door stands open unless told.
pub const DEFAULT_DURATION: Duration = Duration::from_secs(30);
/// How long a client may ask for unless told.
pub const DEFAULT_MAX_DURATION: Duration = Duration::from_hours(8);
