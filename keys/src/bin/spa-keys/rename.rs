//! `spa-keys rename`

use serde_json::json;
use spa_keys::{ClientName, Exit, Failure, file};

use crate::context::Context;
use crate::describe;
use crate::list::no_client;

pub fn run(context: &Context, name: &ClientName, to: &ClientName) -> Result<(), Failure> {
    let _lock = context.lock()?;
    let directory = context.directory()?;
    if let Some(broken) = directory.broken_client(name.as_str()) {
        return Err(Failure::new(Exit::Config, describe::complaint(broken)));
    }
    if directory.client_named(name.as_str()).is_none() {
        return Err(no_client(&directory, name, context));
    }
    context.check_name(&directory, to.as_str())?;
    let path = |name: &ClientName| context.paths.clients.join(format!("{name}.toml"));
    file::rename_new(&path(name), &path(to))?;
    context.answer(&json!({ "name": to.as_str(), "was": name.as_str() }), || {
        format!("{name} is called {to} now")
    })
}
