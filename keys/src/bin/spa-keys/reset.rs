//! `spa-keys reset-replay`

use std::io::{BufRead, IsTerminal, stdin};

use serde_json::json;
use spa_keys::state::{Change, State, StateError, StateLock};
use spa_keys::{ClientName, ClientView, Exit, Failure, Paths, text};
use spa_proto::PublicKey;

use crate::context::Context;
use crate::daemon;
use crate::list::no_client;

pub fn run(context: &Context, name: &ClientName, yes: bool) -> Result<(), Failure> {
    let directory = context.directory()?;
    let client = directory.client_named(name.as_str()).map(ClientView::public_key);
    let key = *client.ok_or_else(|| no_client(&directory, name, context))?;
    eprintln!(
        "This forgets which knocks of {name} were accepted, its last one-time code, and any pause after wrong ones."
    );
    eprintln!(
        "Whoever has recorded a knock of the last minutes can then use it once more, and no later one. It helps where"
    );
    eprintln!(
        "the record refuses what it should not, say after the gateway's clock was wrong; else it does nothing good."
    );
    if !yes {
        confirm(name)?;
    }
    let parameters = json!({ "key": text::encode(key.as_bytes()) });
    if daemon::ask(&context.paths, "spa.ResetReplay", &parameters)?.is_none() {
        reset_in_state(&context.paths, &key)?;
    }
    context.answer(&json!({ "name": name.as_str(), "reset": true }), || {
        format!("the replay record of {name} was reset")
    })
}

fn confirm(name: &ClientName) -> Result<(), Failure> {
    if !stdin().is_terminal() {
        let failure = Failure::new(Exit::Usage, "nobody can be asked here whether to do it");
        return Err(failure.hint(format!("spa-keys reset-replay {name} --yes")));
    }
    eprint!("Do it? Type yes: ");
    let mut answer = String::new();
    let read = stdin().lock().read_line(&mut answer);
    if read.is_ok() && answer.trim() == "yes" {
        return Ok(());
    }
    Err(Failure::new(Exit::Failed, "nothing was changed"))
}

/// Under the lock that the daemon would hold.
fn reset_in_state(paths: &Paths, key: &PublicKey) -> Result<(), Failure> {
    let failed = |error: StateError| Failure::new(Exit::Failed, error);
    if !paths.state.is_dir() {
        return Err(failed(StateError::Missing(paths.state.clone())).hint("spa-server init"));
    }
    let lock = StateLock::acquire(&paths.state).map_err(failed)?;
    let mut state = State::open(&paths.state, lock).map_err(failed)?;
    let changes = [Change::ForgetReplay(*key), Change::ForgetCode(*key)];
    state.commit(&changes).map_err(failed)
}
