//! `spa-keys invite`

use std::path::Path;
use std::sync::Arc;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use serde_json::json;
use spa_keys::file::create_new;
use spa_keys::units::format_time;
use spa_keys::{ClientPolicy, Failure, Invite, InviteText, OneTimeCode, Terms, qr};

use crate::cli::{InviteArgs, TermsArgs};
use crate::context::Context;
use crate::describe::names;
use crate::maker::{self, Maker};
use crate::show;

pub fn run(context: &Context, args: InviteArgs) -> Result<(), Failure> {
    let server = context.server()?;
    maker::check(&args, &server)?;
    let key = context.gateway_key()?;
    let maker = Maker::new(&server, &key)?;
    let _lock = context.lock()?;
    let mut directory = context.directory()?;
    context.check_name(&directory, args.name.as_str())?;
    let ends = context.now.saturating_add(args.valid);
    let (invite, text) = maker.make(args.name, ends, terms(args.terms), args.pin)?;
    // Before the invite: a picture that cannot be written leaves no invite behind that nobody has.
    if let Some(file) = &args.qr_file {
        write_picture(file, &text)?;
    }
    invite.create(&context.paths.invites)?;
    directory.sweep(context.now)?;
    announce(context, &invite, &text)?;
    if args.qr {
        show::qr_code(&text.to_text())?;
    }
    show::one_time_code(&invite.name, &invite.terms, Some(maker.host))
}

/// What was typed, as a client's terms.
pub fn terms(args: TermsArgs) -> Terms {
    let rng = &mut UnwrapErr(SysRng);
    Terms {
        policy: ClientPolicy {
            services: Arc::from(args.services.0),
            address: args.address.unwrap_or_default(),
            sources: args.sources.into(),
            max_duration: args.max_duration,
            widen: args.widen.unwrap_or_default(),
            ..ClientPolicy::default()
        },
        expires: args.expires,
        one_time_code: args.one_time_code.map(|digits| OneTimeCode::generate(digits, rng)),
        replaces: None,
    }
}

/// The invite as SVG in a file where none is.
pub fn write_picture(file: &Path, text: &InviteText) -> Result<(), Failure> {
    let picture = qr::svg(&text.to_text()).map_err(show::too_long)?;
    Ok(create_new(file, picture.as_bytes(), 0o600)?)
}

/// The invite alone on stdout, so that it can be piped; the rest is for the person.
fn announce(context: &Context, invite: &Invite, text: &InviteText) -> Result<(), Failure> {
    let ends = format_time(invite.ends);
    let services = names(&invite.terms.policy.services);
    let pin = invite.pin_text();
    let facts = json!({
        "invite": text.to_text().as_str(),
        "name": invite.name.as_str(),
        "services": services,
        "ends": ends,
        "pin": pin.as_ref().map(|pin| pin.as_str()),
    });
    context.answer(&facts, || text.to_text().to_string())?;
    eprintln!(
        "Invite for {}: {}; good until {ends}, once.",
        invite.name,
        services.join(", ")
    );
    match pin {
        Some(pin) => {
            eprintln!("PIN: {}    (shown only now; tell it by another channel)", *pin);
            eprintln!("On the device: spa-client enroll --pin -    (and paste the invite)");
        }
        None => eprintln!("On the device: spa-client enroll -    (and paste the invite)"),
    }
    Ok(())
}
