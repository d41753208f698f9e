//! Where an invite's text comes from, and what to say of it.

use std::io::{self, BufRead, IsTerminal, Read};

use spa_keys::units::format_time;
use spa_keys::{Exit, Failure, InviteText};
use spa_proto::UnixTime;
use zeroize::Zeroizing;

use crate::out;

/// More than any invite has.
const MOST: u64 = 16 * 1024;

/// Reads the invite that was given as an argument, or else comes from standard input.
pub(crate) fn read(argument: Option<&str>) -> Result<InviteText, Failure> {
    let text = match argument {
        Some(text) if text != "-" => Zeroizing::new(text.to_owned()),
        _ => from_stdin()?,
    };
    parse(text.trim())
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
    let invite = InviteText::parse(text).map_err(|error| {
        Failure::new(Exit::Usage, format!("not a whole invite: {error}")).hint("copy all of it, from spa1-invite: on")
    })?;
    if invite.demands.pin {
        return Err(Failure::new(
            Exit::Failed,
            "this invite demands a PIN, which this version cannot send",
        )
        .hint("an invite without a PIN"));
    }
    Ok(invite)
}

/// What a person should know of an invite before its enrollment is sent at `now` of this device's clock.
pub(crate) fn warnings(invite: &InviteText, now: UnixTime) -> Vec<String> {
    let ended = (invite.end() <= now).then(|| {
        format!(
            "by the clock here this invite ended at {}; the gateway's clock decides",
            format_time(invite.end())
        )
    });
    let explicit = invite
        .demands
        .explicit_address
        .then(|| "this gateway opens only for an address that is named: use open with --address".to_owned());
    let code = invite
        .demands
        .one_time_code
        .then(|| "this gateway wants a one-time code at each opening, which this version cannot send".to_owned());
    [ended, explicit, code].into_iter().flatten().collect()
}
