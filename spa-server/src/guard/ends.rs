//! When bans end, for what no kernel ends: a file that outlasts the daemon.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use spa_keys::Paths;

use crate::backend::place::{self, Content};

/// The ends of bans on the clock that starts with the boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// Of which boot.
    boot_id: String,
    bans: BTreeMap<IpNet, u64>,
}

/// Where they lie.
#[must_use]
pub fn file(paths: &Paths) -> PathBuf {
    paths.state.join("bans.json")
}

impl Ends {
    /// Those of this boot.
    #[must_use]
    pub fn new(boot_id: &str, bans: impl IntoIterator<Item = (IpNet, Duration)>) -> Self {
        let nanos = |end: Duration| u64::try_from(end.as_nanos()).unwrap_or(u64::MAX);
        Self {
            boot_id: boot_id.to_owned(),
            bans: bans.into_iter().map(|(net, end)| (net, nanos(end))).collect(),
        }
    }

    /// What was written last in this boot; nothing else can be believed, and then nobody stays shut out by it.
    #[must_use]
    pub fn load(file: &Path, boot_id: &str) -> Self {
        let found = place::read(file).ok().flatten();
        let ends: Option<Self> = found.and_then(|found| serde_json::from_slice(&found.text).ok());
        ends.filter(|ends| ends.boot_id == boot_id)
            .unwrap_or_else(|| Self::new(boot_id, []))
    }

    /// Writes them, or takes the file away when there are none.
    ///
    /// # Errors
    ///
    /// What the system said.
    pub fn save(&self, file: &Path) -> io::Result<()> {
        if self.bans.is_empty() {
            return place::remove(file);
        }
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        place::replace(file, &Content::new(text, 0o600))
    }

    /// When the ban of a network ends, if that is known.
    #[must_use]
    pub fn end(&self, network: &IpNet) -> Option<Duration> {
        self.bans.get(network).copied().map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_those_of_one_boot() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bans.json");
        let net: IpNet = "192.0.2.7/32".parse().unwrap();
        assert_eq!(Ends::load(&file, "a").end(&net), None);
        Ends::new("a", [(net, Duration::from_secs(9))]).save(&file).unwrap();
        assert_eq!(Ends::load(&file, "a").end(&net), Some(Duration::from_secs(9)));
        assert_eq!(Ends::load(&file, "b").end(&net), None);
        std::fs::write(&file, "junk").unwrap();
        assert_eq!(Ends::load(&file, "a").end(&net), None);
        Ends::new("a", []).save(&file).unwrap();
        assert!(!file.exists());
    }
}
