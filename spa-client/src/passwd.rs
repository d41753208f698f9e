//! `passwd`, `rename` and `forget`: what is done with profiles as files.

use spa_keys::{Exit, Failure};

use crate::cli::{ForgetArgs, PasswdArgs, RenameArgs};
use crate::load::{folder, new_passphrase, unlock};
use crate::out;
use crate::secret;

/// `spa-client passwd`.
pub(crate) fn passwd(args: &PasswdArgs) -> Exit {
    finish(change(args))
}

fn change(args: &PasswdArgs) -> Result<String, Failure> {
    let (folder, name) = (folder()?, &args.profile);
    let loaded = unlock(&folder, name)?;
    if args.remove && loaded.passphrase.is_none() {
        return Ok(format!("{name} has no passphrase"));
    }
    let option = "--new-passphrase-fd";
    let passphrase = (!args.remove).then(|| new_passphrase(name, args.new_passphrase_fd, option));
    let passphrase = passphrase.transpose()?;
    folder.replace(name, &loaded.profile, passphrase.as_ref())?;
    Ok(match passphrase {
        Some(_) => format!("{name} is under the new passphrase; a copy of the old file still opens as before"),
        None => format!("{name} lies there without a passphrase now"),
    })
}

/// `spa-client rename`.
pub(crate) fn rename(args: &RenameArgs) -> Exit {
    let renamed = folder().and_then(|folder| Ok(folder.rename(&args.profile, &args.name)?));
    finish(renamed.map(|()| format!("{} is called {} now", args.profile, args.name)))
}

/// `spa-client forget`.
pub(crate) fn forget(args: &ForgetArgs) -> Exit {
    finish(remove(args))
}

fn remove(args: &ForgetArgs) -> Result<String, Failure> {
    let (folder, name) = (folder()?, &args.profile);
    // A broken profile can be forgotten too, one that is not there cannot.
    if !folder.names()?.iter().any(|other| other == name.as_str()) {
        folder.read(name)?;
    }
    let question = format!("Forget {name}? Its keys are lost: only a new invite brings this device in again.");
    if !args.yes && !secret::confirm(&question, "--yes")? {
        return Err(Failure::new(Exit::Failed, format!("{name} is still there")));
    }
    folder.forget(name)?;
    Ok(format!(
        "{name} is forgotten here; the gateway knows its key until `spa-keys revoke` or `spa-keys remove` there"
    ))
}

fn finish(outcome: Result<String, Failure>) -> Exit {
    match outcome {
        Ok(line) => {
            out::fact(&line);
            Exit::Done
        }
        Err(failure) => {
            out::failure(&failure);
            failure.exit
        }
    }
}
