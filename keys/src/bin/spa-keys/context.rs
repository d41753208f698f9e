//! What every command needs: the places, the time, how to answer.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::Value;
use spa_keys::file::{Lock, create_dir};
use spa_keys::{Exit, Failure, GatewayKey, KeyDirectory, Paths, units};
use spa_proto::UnixTime;

use crate::cli::Cli;
use crate::server::Server;

const PATIENCE: Duration = Duration::from_secs(10);

pub struct Context {
    pub paths: Paths,
    pub now: UnixTime,
    pub json: bool,
}

impl Context {
    pub fn new(cli: &Cli) -> Self {
        Self {
            paths: Paths::new(cli.dir.as_deref(), cli.config.as_deref()),
            now: units::now(),
            json: cli.json,
        }
    }

    /// The facts on stdout: as JSON, or as the text that `plain` makes.
    pub fn answer(&self, facts: &Value, plain: impl FnOnce() -> String) -> Result<(), Failure> {
        let text = if self.json { facts.to_string() } else { plain() };
        let mut out = io::stdout().lock();
        let written = writeln!(out, "{text}").and_then(|()| out.flush());
        written.map_err(|error| Failure::new(Exit::Failed, format_args!("cannot write the answer: {error}")))
    }

    /// One command at a time changes clients or invites. Makes the directories if need be.
    pub fn lock(&self) -> Result<Lock, Failure> {
        create_dir(&self.paths.clients, 0o700)?;
        create_dir(&self.paths.invites, 0o700)?;
        Ok(Lock::take(&self.paths.clients_lock(), PATIENCE)?)
    }

    pub fn directory(&self) -> Result<KeyDirectory, Failure> {
        Ok(KeyDirectory::load(&self.paths.clients, &self.paths.invites)?)
    }

    pub fn server(&self) -> Result<Server, Failure> {
        Server::load(&self.paths.config)
    }

    pub fn gateway_key(&self) -> Result<GatewayKey, Failure> {
        GatewayKey::load(&self.paths.gateway_key).map_err(|error| {
            let absent = error.is_absent();
            let failure = Failure::from(error);
            if absent {
                failure.hint("spa-server init")
            } else {
                failure
            }
        })
    }

    /// Refuses a name that a client or a live invite has.
    pub fn check_name(&self, directory: &KeyDirectory, name: &str) -> Result<(), Failure> {
        if !directory.has_name(name, self.now) {
            return Ok(());
        }
        let failure = Failure::new(
            Exit::Failed,
            format_args!("a client or a live invite has the name {name}"),
        );
        Err(failure.hint("another name").hint(format!("spa-keys remove {name}")))
    }
}
