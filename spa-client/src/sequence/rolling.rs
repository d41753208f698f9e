//! The sequence of now, from a profile's key; each time step once, as the gateway takes it.

use std::path::{Path, PathBuf};

use spa_keys::profile::{Folder, ProfileName};
use spa_keys::rolling::RollingProfile;
use spa_keys::units::now;
use spa_keys::{Exit, Failure, Host, file};
use spa_proto::UnixTime;
use spa_proto::sequence::{Rolling, Stage};

use crate::out;

/// Where to knock, and what. Remembers the step before anything is sent: the gateway takes each only once.
pub(super) fn today(name: &ProfileName, dry_run: bool) -> Result<(Host, Vec<Stage>), Failure> {
    let path = profile_file(name)?;
    let profile = RollingProfile::load(&path).map_err(|error| {
        let absent = error.is_absent();
        let failure = Failure::from(error);
        if absent {
            failure.hint("on the gateway: spa-keys sequence NAME --profile, its output into this file with mode 0600")
        } else {
            failure
        }
    })?;
    let note = path.with_extension("used");
    let step = choose(&profile.rolling, last(&note), now())?;
    if !dry_run && let Err(error) = file::replace(&note, format!("{step}\n").as_bytes(), 0o600) {
        out::tell(
            "warning",
            &format!("which sequence was used cannot be remembered: {error}"),
        );
    }
    let stages = profile.rolling.at(&profile.key, step);
    Ok((profile.host, stages))
}

fn profile_file(name: &ProfileName) -> Result<PathBuf, Failure> {
    let folder = Folder::from_env(|variable| std::env::var_os(variable))?;
    Ok(folder.file(name).with_file_name("rolling").join(format!("{name}.toml")))
}

/// The step that was used last, if that is known.
fn last(note: &Path) -> Option<u64> {
    std::fs::read_to_string(note).ok()?.trim().parse().ok()
}

/// This step, or the next one, which the gateway takes too.
fn choose(rolling: &Rolling, last: Option<u64>, now: UnixTime) -> Result<u64, Failure> {
    let today = rolling.step_at(now);
    match last {
        Some(used) if used == today => Ok(today + 1),
        // More than one step ahead: the clock was wrong then.
        Some(used) if used == today + 1 => {
            let begins = rolling.begin_of(used);
            let wait = begins.distance(now).as_secs() + 1;
            let what = "the sequences of this step and of the next were used already; the gateway takes each once";
            Err(Failure::new(Exit::Failed, what).hint(format!("the same in {wait} s")))
        }
        _ => Ok(today),
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
        let at = |last| choose(&rolling, last, UnixTime::from_secs(6030));
        assert_eq!(at(None), Ok(100));
        assert_eq!(at(Some(99)), Ok(100));
        assert_eq!(at(Some(100)), Ok(101));
        assert_eq!(at(Some(101)).unwrap_err().hints, ["the same in 31 s"]);
        assert_eq!(at(Some(5000)), Ok(100), "the clock was wrong once");
    }
}
