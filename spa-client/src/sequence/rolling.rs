//! The sequence of now, from a profile's key; each time step once, as the gateway takes it.

use std::path::{Path, PathBuf};

use spa_keys::profile::{Folder, ProfileName};
use spa_keys::rolling::RollingProfile;
use spa_keys::units::now;
use spa_keys::{Failure, Host, file};
use spa_proto::UnixTime;
use spa_proto::sequence::{Rolling, Stage};

use crate::out;

/// Where to knock, and what.
pub(super) struct Card {
    pub(super) host: Host,
    pub(super) stages: Vec<Stage>,
    step: u64,
    note: PathBuf,
}

impl Card {
    /// The sequence of now that was not used yet; the last one again where all were.
    pub(super) fn of_now(name: &ProfileName) -> Result<Self, Failure> {
        let path = profile_file(name)?;
        let profile = load(&path)?;
        let note = path.with_extension("used");
        let Choice { step, fresh_in } = choose(&profile.rolling, last(&note), now());
        if let Some(seconds) = fresh_in {
            let what = "the sequences of this step and of the next were used already: the last one is sent again";
            out::tell(
                "warning",
                &format!("{what}; it opens unless it did before, a new one comes in {seconds} s"),
            );
        }
        Ok(Self {
            host: profile.host,
            stages: profile.rolling.at(&profile.key, step),
            step,
            note,
        })
    }

    /// Before anything is sent: the gateway takes each step only once.
    pub(super) fn remember(&self) {
        if let Err(error) = file::replace(&self.note, format!("{}\n", self.step).as_bytes(), 0o600) {
            out::tell(
                "warning",
                &format!("which sequence was used cannot be remembered: {error}"),
            );
        }
    }
}

fn load(path: &Path) -> Result<RollingProfile, Failure> {
    RollingProfile::load(path).map_err(|error| {
        let absent = error.is_absent();
        let failure = Failure::from(error);
        if absent {
            failure.hint("on the gateway: spa-keys sequence NAME --profile, its output into this file with mode 0600")
        } else {
            failure
        }
    })
}

fn profile_file(name: &ProfileName) -> Result<PathBuf, Failure> {
    let folder = Folder::from_env(|variable| std::env::var_os(variable))?;
    Ok(folder.file(name).with_file_name("rolling").join(format!("{name}.toml")))
}

/// The step that was used last, if that is known.
fn last(note: &Path) -> Option<u64> {
    std::fs::read_to_string(note).ok()?.trim().parse().ok()
}

#[derive(Debug, PartialEq, Eq)]
struct Choice {
    step: u64,
    /// All were used: in how many seconds one comes that was not.
    fresh_in: Option<u64>,
}

/// This step, or the next one, which the gateway takes too. What was sent may have been lost: the later of the two
/// opens whether or not the earlier one arrived, and one that arrived does no harm.
fn choose(rolling: &Rolling, last: Option<u64>, now: UnixTime) -> Choice {
    let today = rolling.step_at(now);
    let fresh = |step| Choice { step, fresh_in: None };
    match last {
        Some(used) if used == today => fresh(today + 1),
        // More than one step ahead: the clock was wrong then.
        Some(used) if used == today + 1 => Choice {
            step: used,
            fresh_in: Some(rolling.begin_of(used).distance(now).as_secs() + 1),
        },
        _ => fresh(today),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use spa_keys::rolling::RollingTyped;

    #[test]
    fn each_step_once() {
        let typed = RollingTyped {
            name: "card",
            ..RollingTyped::default()
        };
        let rolling = typed.read().unwrap();
        let at = |last| {
            let Choice { step, fresh_in } = choose(&rolling, last, UnixTime::from_secs(6030));
            (step, fresh_in)
        };
        assert_eq!(at(None), (100, None));
        assert_eq!(at(Some(99)), (100, None));
        assert_eq!(at(Some(100)), (101, None));
        assert_eq!(at(Some(101)), (101, Some(31)), "it may have been lost");
        assert_eq!(at(Some(5000)), (100, None), "the clock was wrong once");
    }
}
