//! The kernel's sets: doors with time-outs of their own, which outlive the process and not the boot.

use std::collections::BTreeMap;
use std::time::Duration;

use spa_server::backend::Door;

#[derive(Default)]
pub struct Kernel {
    doors: BTreeMap<Door, Duration>,
    /// What could not be opened or closed is told by the calls that fail.
    pub fails: bool,
}

impl Kernel {
    /// The end is counted in whole seconds, rounded up.
    pub fn open(&mut self, door: &Door, remaining: Duration, uptime: Duration) -> Result<(), ()> {
        if self.fails {
            return Err(());
        }
        let seconds = remaining.as_secs() + u64::from(remaining.subsec_nanos() > 0);
        if seconds == 0 {
            self.doors.remove(door);
        } else {
            self.doors.insert(door.clone(), uptime + Duration::from_secs(seconds));
        }
        Ok(())
    }

    pub fn close(&mut self, door: &Door) {
        if !self.fails {
            self.doors.remove(door);
        }
    }

    /// The doors that stand open, each with its end.
    pub fn doors(&mut self, uptime: Duration) -> &BTreeMap<Door, Duration> {
        self.doors.retain(|_, end| *end > uptime);
        &self.doors
    }

    /// Somebody empties the sets, or the host is booted.
    pub fn flush(&mut self) {
        self.doors.clear();
    }
}
