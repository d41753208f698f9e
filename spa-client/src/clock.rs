//! How finely the wall clock counts, and whether it can be right.

use std::time::Duration;

use rustix::time::{ClockId, clock_getres};
use spa_keys::units::format_time;
use spa_proto::UnixTime;

/// How finely the wall clock counts.
pub(crate) fn resolution() -> Duration {
    Duration::try_from(clock_getres(ClockId::Realtime)).unwrap_or(Duration::from_secs(1))
}

/// When this program was built.
pub(crate) fn built() -> UnixTime {
    UnixTime::from_secs(env!("SPA_BUILD_SECONDS").parse().unwrap_or(0))
}

/// What is wrong with a clock that shows `now` in a program built at `built`.
pub(crate) fn warning(now: UnixTime, built: UnixTime) -> Option<String> {
    let wrong = now < built;
    wrong.then(|| {
        format!(
            "the clock here shows {}, earlier than this program was built ({}): set it, or the gateway refuses",
            format_time(now),
            format_time(built)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_the_build_is_wrong() {
        let built = UnixTime::from_secs(1_800_000_000);
        assert_eq!(warning(built, built), None);
        insta::assert_snapshot!(
            warning(UnixTime::from_secs(0), built).unwrap(),
            @"the clock here shows 1970-01-01T00:00:00Z, earlier than this program was built (2027-01-15T08:00:00Z): set it, or the gateway refuses"
        );
    }

    #[test]
    fn this_clock_is_sane() {
        assert!(spa_keys::units::now() >= built());
        assert!(resolution() <= Duration::from_secs(1));
    }
}
