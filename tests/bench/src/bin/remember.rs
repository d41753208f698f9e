//! Fills a gateway's replay record, as if each of its clients had knocked that often within the last minutes.
//!
//!     remember DIR EACH

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use spa_keys::state::{Change, State, StateLock};
use spa_keys::{KeyDirectory, Paths, units};
use spa_proto::ReplaySet;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, each] = &arguments[..] else {
        return Err("DIR EACH".into());
    };
    let paths = Paths::new(Some(Path::new(dir)), None);
    let clients = KeyDirectory::load(&paths.clients, &paths.invites)?;
    // The last ten minutes: what is older would be forgotten by the next knock.
    let (each, span) = (each.parse::<u32>()?, Duration::from_secs(590));
    let from = units::now().saturating_sub(span);
    let times = || (0..each).map(|number| from.saturating_add(span / each * number));
    let set = |key| Change::Replay(key, ReplaySet::restore(from.saturating_sub(span), times()));
    let changes: Vec<Change> = clients.clients().map(|client| set(*client.public_key())).collect();
    State::open(&paths.state, StateLock::acquire(&paths.state)?)?.commit(&changes)?;
    println!("{} remembered", changes.len() * each as usize);
    Ok(())
}
