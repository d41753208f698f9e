//! `spa-keys add`

use std::io::Read;
use std::path::Path;

use spa_keys::file::{Limits, create_new, read_text};
use spa_keys::{Client, Exit, Failure, GatewayKey, KeyDirectory, Kind, LoadError, text};
use spa_proto::{Keyring, Psk, PublicKey};
use zeroize::Zeroizing;

use crate::cli::AddArgs;
use crate::context::Context;
use crate::describe;
use crate::invite::terms;
use crate::show;

pub fn run(context: &Context, args: AddArgs) -> Result<(), Failure> {
    let server = context.server()?;
    server.check(&args.terms.services.0)?;
    let identities = context.gateway_key()?;
    let psk = read_psk(&args.psk_file)?;
    let _lock = context.lock()?;
    let mut directory = context.directory()?;
    context.check_name(&directory, args.name.as_str())?;
    check_key(&args.public_key, &identities, &directory)
        .map_err(|what| Failure::new(Exit::Failed, format_args!("--public-key: {what}")))?;
    let client = Client {
        public_key: args.public_key,
        psk,
        label: args.label,
        enrolled: Some(context.now),
        revoked: None,
        terms: terms(args.terms),
    };
    let path = context.paths.clients.join(format!("{}.toml", args.name));
    create_new(&path, client.to_text().as_bytes(), 0o600)?;
    directory.reload_file(Kind::Client, args.name.as_str());
    if let Some(view) = directory.client_named(args.name.as_str()) {
        let facts = describe::client(view, context.now, None);
        context.answer(&facts, || {
            format!("{} added: {}", args.name, describe::cell(&facts, "services"))
        })?;
    }
    show::one_time_code(&args.name, &client.terms, server.host.as_ref())
}

/// The same checks as for a key that a device sends ("Enrollment in one packet").
pub fn check_key(key: &PublicKey, gateway: &GatewayKey, directory: &KeyDirectory) -> Result<(), &'static str> {
    let mut own = gateway.identities().iter().map(|dated| &dated.identity);
    if own.clone().any(|own| own.public() == key) {
        return Err("this is the gateway's own key");
    }
    if directory.knows(key) {
        return Err("a client or an invite has this key");
    }
    if !key.is_canonical() || !own.all(|own| own.secret().agrees_with(key)) {
        return Err("this is no usable X25519 public key");
    }
    Ok(())
}

/// One line of 43 characters, from a file that nobody else could read or from stdin.
pub fn read_psk(path: &Path) -> Result<Psk, Failure> {
    let contents = read_secret(path)?;
    let line = contents.strip_suffix('\n').unwrap_or(&contents);
    let line = line.strip_suffix('\r').unwrap_or(line);
    text::psk(line).map_err(|error| {
        let fault = spa_keys::Fault::whole(format_args!("the PSK: {error}"));
        LoadError::fault(path, fault).into()
    })
}

/// A file that nobody else could read, or stdin for `-`.
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, Failure> {
    if path == Path::new("-") {
        return read_stdin();
    }
    Ok(read_text(path, Limits::SECRET)?)
}

fn read_stdin() -> Result<Zeroizing<String>, Failure> {
    let refused = |what: &dyn std::fmt::Display| Failure::new(Exit::Failed, format_args!("cannot read stdin: {what}"));
    let mut contents = Zeroizing::new(String::with_capacity(Limits::SECRET.most + 1));
    let most = u64::try_from(Limits::SECRET.most).unwrap_or(u64::MAX);
    let read = std::io::stdin().take(most + 1).read_to_string(&mut contents);
    match read {
        Ok(length) if length > Limits::SECRET.most => Err(refused(&"it is longer than such a text ever is")),
        Ok(_) => Ok(contents),
        Err(error) => Err(refused(&error)),
    }
}
