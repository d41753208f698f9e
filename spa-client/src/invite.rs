//! Where an invite's text comes from, and what to say of it.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read};
use std::path::Path;

use spa_keys::units::format_time;
use spa_keys::{Exit, Failure, InviteText};
use spa_proto::UnixTime;
use zeroize::Zeroizing;

use crate::out;

/// More than any invite has.
const MOST: u64 = 16 * 1024;

/// Whether the invite comes from standard input.
pub(crate) fn is_from_stdin(argument: Option<&str>) -> bool {
    argument.is_none_or(|text| text == "-")
}

/// Reads the invite that was given as an argument, in a file that an argument names, or on standard input.
pub(crate) fn read(argument: Option<&str>) -> Result<InviteText, Failure> {
    let text = match argument {
        None | Some("-") => from_stdin()?,
        Some(path) if is_file(path) => from_file(path)?,
        Some(text) => Zeroizing::new(text.to_owned()),
    };
    parse(text.trim())
}

/// A path, which no invite looks like; `./` helps a file whose name does.
fn is_file(text: &str) -> bool {
    !text.starts_with("spa1-invite:") && Path::new(text).is_file()
}

fn from_file(path: &str) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read = File::open(path).and_then(|file| file.take(MOST).read_to_string(&mut text));
    read.map_err(|error| Failure::new(Exit::Usage, format!("cannot read the invite from {path}: {error}")))?;
    Ok(text)
}

fn from_stdin() -> Result<Zeroizing<String>, Failure> {
    let stdin = io::stdin().lock();
    let mut text = Zeroizing::new(String::new());
    let read = if stdin.is_terminal() {
        out::tell("enroll", "paste the invite, then press Enter");
        stdin.take(MOST).read_line(&mut text)
    } else {
        stdin.take(MOST).read_to_string(&mut text)
    };
    match read {
        Ok(_) => Ok(text),
        Err(error) => Err(Failure::new(Exit::Usage, format!("cannot read the invite: {error}"))),
    }
}

fn parse(text: &str) -> Result<InviteText, Failure> {
    if text.is_empty() {
        return Err(Failure::new(Exit::Usage, "no invite: standard input was empty").hint("spa-client enroll INVITE"));
    }
    InviteText::parse(text).map_err(|error| {
        Failure::new(Exit::Usage, format!("not a whole invite: {error}")).hint("copy all of it, from spa1-invite: on")
    })
}

/// What a person should know of an invite before its enrollment is sent at `now` of this device's clock.
pub(crate) fn warnings(invite: &InviteText, now: UnixTime) -> Vec<String> {
    let ended = (invite.end() <= now).then(|| {
        format!(
            "by the clock here this invite ended at {}; the gateway's clock decides",
            format_time(invite.end())
        )
    });
    let explicit = invite.demands.explicit_address.then(|| {
        "this gateway opens only for an address that is named: use open with --address, or name STUN servers \
          (stun) in the profile"
            .to_owned()
    });
    [ended, explicit].into_iter().flatten().collect()
}
