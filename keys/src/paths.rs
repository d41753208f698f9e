//! Where everything lies: the system's places, or all below one directory.

use std::path::{Path, PathBuf};

/// The places of a gateway's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// server.toml.
    pub config: PathBuf,
    /// gateway.key.
    pub gateway_key: PathBuf,
    /// clients.d.
    pub clients: PathBuf,
    /// invites.d.
    pub invites: PathBuf,
    /// sequences.d: keys of rolling sequences, lists of one-time sequences.
    pub sequences: PathBuf,
    /// What is durable: replay record, grants, enrollments.
    pub state: PathBuf,
    /// What the firewall process remembers: root's alone, since what is done by it is done with root's rights.
    pub firewall: PathBuf,
    /// What is gone at reboot.
    pub run: PathBuf,
}

impl Paths {
    /// The system's places, or all below `dir`; server.toml elsewhere if `config` is given.
    #[must_use]
    pub fn new(dir: Option<&Path>, config: Option<&Path>) -> Self {
        let (etc, state, firewall, run) = match dir {
            Some(dir) => (dir.to_owned(), dir.join("state"), dir.join("firewall"), dir.join("run")),
            None => (
                "/etc/spa".into(),
                "/var/lib/spa".into(),
                "/var/lib/spa-firewall".into(),
                "/run/spa".into(),
            ),
        };
        Self {
            config: config.map_or_else(|| etc.join("server.toml"), Path::to_owned),
            gateway_key: etc.join("gateway.key"),
            clients: etc.join("clients.d"),
            invites: etc.join("invites.d"),
            sequences: etc.join("sequences.d"),
            state,
            firewall,
            run,
        }
    }

    /// The daemon's control socket.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.run.join("control.sock")
    }

    /// What every command that changes clients or invites holds.
    #[must_use]
    pub fn clients_lock(&self) -> PathBuf {
        self.clients.join(".lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_below_one_directory() {
        let paths = Paths::new(Some(Path::new("/tmp/x")), None);
        assert_eq!(paths.config, Path::new("/tmp/x/server.toml"));
        assert_eq!(paths.control_socket(), Path::new("/tmp/x/run/control.sock"));
        let paths = Paths::new(None, Some(Path::new("my.toml")));
        assert_eq!(paths.config, Path::new("my.toml"));
        assert_eq!(paths.clients_lock(), Path::new("/etc/spa/clients.d/.lock"));
    }
}
