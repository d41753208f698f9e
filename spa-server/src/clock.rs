//! The clocks: read here and nowhere else.

use std::fs;
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use spa_proto::{Moment, UnixTime};

/// Both clocks, now. The monotonic one starts with the boot and goes on while the machine sleeps.
#[must_use]
pub fn now() -> Moment {
    Moment {
        wall: wall(),
        uptime: uptime(),
    }
}

/// The wall clock; a clock before 1970 shows the epoch, where no knock can be fresh.
#[must_use]
pub fn wall() -> UnixTime {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    UnixTime::from_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// The time since the boot.
#[must_use]
pub fn uptime() -> Duration {
    read(ClockId::Boottime)
}

/// What service managers go by: as [`uptime`], but it stands still while the machine sleeps.
#[must_use]
pub fn monotonic() -> Duration {
    read(ClockId::Monotonic)
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        time.tv_sec.try_into().unwrap_or(0),
        time.tv_nsec.try_into().unwrap_or(0),
    )
}

/// Which boot this is; durable ends of grants mean nothing in another one.
#[must_use]
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_string())
        .unwrap_or_default()
}

/// Whether the kernel believes that the wall clock is kept in time by somebody.
#[must_use]
pub fn is_synchronised() -> Option<bool> {
    /// The kernel's bit for a clock that nobody disciplines (adjtimex(2)).
    const STA_UNSYNC: i32 = 0x40;
    let status = adjtimex_status()?;
    Some(status & STA_UNSYNC == 0)
}

fn adjtimex_status() -> Option<i32> {
    // SAFETY: all zeros is a valid `timex`; with `modes` 0 the call only fills it in.
    #[allow(unsafe_code, reason = "no safe wrapper of adjtimex(2) is at hand")]
    let (result, status) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex.status)
    };
    (result >= 0).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_run() {
        let before = now();
        assert!(before.wall > UnixTime::from_secs(1_700_000_000));
        assert!(now().uptime >= before.uptime);
        assert_eq!(boot_id().len(), 36);
        assert!(is_synchronised().is_some());
    }
}
