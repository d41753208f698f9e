//! Where everything lies (DESIGN: Files).

use std::path::{Path, PathBuf};

/// The places of one gateway's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// server.toml.
    pub config: PathBuf,
    /// gateway.key.
    pub gateway_key: PathBuf,
    /// One file for each client.
    pub clients: PathBuf,
    /// Live and spent invites.
    pub invites: PathBuf,
    /// The durable state.
    pub state: PathBuf,
    /// What is gone at a reboot.
    pub run: PathBuf,
}

impl Paths {
    /// Everything below `dir`, or at the system's places without one; `config` moves server.toml alone.
    #[must_use]
    pub fn new(dir: Option<&Path>, config: Option<&Path>) -> Self {
        let (etc, state, run) = match dir {
            Some(dir) => (dir.to_path_buf(), dir.join("state"), dir.join("run")),
            None => ("/etc/spa".into(), "/var/lib/spa".into(), "/run/spa".into()),
        };
        Self {
            config: config.map_or_else(|| etc.join("server.toml"), Path::to_path_buf),
            gateway_key: etc.join("gateway.key"),
            clients: etc.join("clients.d"),
            invites: etc.join("invites.d"),
            state,
            run,
        }
    }

    /// The control socket.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.run.join("control.sock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_a_folder_or_in_the_system() {
        let system = Paths::new(None, None);
        assert_eq!(system.config, Path::new("/etc/spa/server.toml"));
        assert_eq!(system.control(), Path::new("/run/spa/control.sock"));
        let trial = Paths::new(Some(Path::new("/tmp/x")), Some(Path::new("/tmp/y.toml")));
        assert_eq!(trial.config, Path::new("/tmp/y.toml"));
        assert_eq!(trial.state, Path::new("/tmp/x/state"));
    }
}
