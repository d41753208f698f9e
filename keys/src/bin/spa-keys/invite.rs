//! `spa-keys invite`

use std::sync::Arc;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use serde_json::json;
use spa_keys::units::{format_duration, format_time};
use spa_keys::{AddressRule, ClientPolicy, Demands, Exit, Failure, GatewayKey, Invite, InviteText, Ports, Terms};
use spa_proto::{HmacKey, InviteSeed};

use crate::cli::{InviteArgs, TermsArgs};
use crate::context::Context;
use crate::describe::names;
use crate::server::Server;

pub fn run(context: &Context, args: InviteArgs) -> Result<(), Failure> {
    if args.valid > Invite::LONGEST {
        let longest = format_duration(Invite::LONGEST);
        return Err(Failure::new(
            Exit::Usage,
            format_args!("an invite is good for at most {longest}"),
        ));
    }
    let server = context.server()?;
    server.check(&args.terms.services.0)?;
    let key = context.gateway_key()?;
    let _lock = context.lock()?;
    let mut directory = context.directory()?;
    context.check_name(&directory, args.name.as_str())?;
    let ends = context.now.saturating_add(args.valid);
    let rng = &mut UnwrapErr(SysRng);
    let (seed, invite) = Invite::generate(args.name, ends, terms(args.terms), rng);
    let text = text(&server, &key, &invite, seed)?;
    invite.create(&context.paths.invites)?;
    directory.sweep(context.now)?;
    announce(context, &invite, &text)
}

/// What was typed, as a client's terms.
pub fn terms(args: TermsArgs) -> Terms {
    Terms {
        policy: ClientPolicy {
            services: Arc::from(args.services.0),
            address: args.address.unwrap_or_default(),
            sources: args.sources.into(),
            max_duration: args.max_duration,
            ..ClientPolicy::default()
        },
        expires: args.expires,
        one_time_code: None,
    }
}

fn text(server: &Server, key: &GatewayKey, invite: &Invite, seed: InviteSeed) -> Result<InviteText, Failure> {
    let host = server.host.clone().ok_or_else(|| {
        let failure = Failure::new(Exit::Config, "server.toml does not say where the gateway is");
        failure.hint("these two lines in server.toml: [gateway] and host = \"gw.example.net\"")
    })?;
    let identity = key
        .newest()
        .ok_or_else(|| Failure::new(Exit::Config, "gateway.key holds no identity"))?;
    let ports = Ports::new(&server.ports)
        .map_err(|error| Failure::new(Exit::Config, format_args!("server.toml, [listen] ports: {error}")))?;
    let policy = &invite.terms.policy;
    Ok(InviteText {
        demands: Demands {
            explicit_address: policy.address == AddressRule::Explicit,
            ..Demands::default()
        },
        end_s: invite.ends.as_secs(),
        gateway: *identity.public(),
        hmac_key: HmacKey::from_bytes(identity.hmac_key().expose()),
        seed,
        ports,
        host,
        name: invite.name.clone(),
        services: server.hints(&policy.services)?,
    })
}

/// The invite alone on stdout, so that it can be piped; the rest is for the person.
fn announce(context: &Context, invite: &Invite, text: &InviteText) -> Result<(), Failure> {
    let ends = format_time(invite.ends);
    let services = names(&invite.terms.policy.services);
    let facts = json!({
        "invite": text.to_text().as_str(),
        "name": invite.name.as_str(),
        "services": services,
        "ends": ends,
        "pin": null,
    });
    context.answer(&facts, || text.to_text().to_string())?;
    eprintln!(
        "Invite for {}: {}; good until {ends}, once.",
        invite.name,
        services.join(", ")
    );
    eprintln!("On the device: spa-client enroll -    (and paste the invite)");
    Ok(())
}
