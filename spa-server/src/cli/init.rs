//! `spa-server init`: a gateway from nothing.

use std::path::{Path, PathBuf};

use getrandom::SysRng;
use getrandom::rand_core::UnwrapErr;
use serde_json::json;
use spa_keys::state::{State, StateLock};
use spa_keys::{Exit, Failure, GatewayKey, Paths, file, text};

use super::InitArguments;
use crate::clock;
use crate::config::template::{ServiceArgument, Template};
use crate::config::{Code, Colour, Config, Finding, render, way_back};

/// Makes everything, or nothing.
///
/// # Errors
///
/// When any of it exists already, or cannot be made.
pub(super) fn init(paths: &Paths, arguments: &InitArguments, as_json: bool) -> Result<(), Failure> {
    refuse_what_exists(paths)?;
    let (template, found) = template(arguments);
    let config = template.to_string();
    refuse_wrong_arguments(&paths.config, &config)?;
    let key = GatewayKey::generate(clock::wall(), &mut UnwrapErr(SysRng));
    write(paths, &config, &key)?;
    let fingerprint = key.newest().map(|identity| text::fingerprint(identity.public()));
    if as_json {
        let always_allow: Vec<_> = template.always_allow.iter().map(ToString::to_string).collect();
        println!(
            "{}",
            json!({ "config": paths.config, "fingerprint": fingerprint, "always_allow": always_allow })
        );
    } else {
        tell(paths, &template, found, &fingerprint.unwrap_or_default());
    }
    Ok(())
}

pub(super) fn refuse_what_exists(paths: &Paths) -> Result<(), Failure> {
    let made = [
        &paths.config,
        &paths.gateway_key,
        &paths.clients,
        &paths.invites,
        &paths.sequences,
        &paths.state,
    ];
    let exists = |path: &&&PathBuf| path.symlink_metadata().is_ok();
    match made.iter().find(exists) {
        Some(path) => {
            let failure = Failure::new(
                Exit::Failed,
                format!("{} exists already; nothing was written", path.display()),
            );
            Err(failure
                .hint("spa-server check")
                .hint("the same with --dir ANOTHER-FOLDER"))
        }
        None => Ok(()),
    }
}

/// The template, and whether its always-allow was found rather than told.
fn template(arguments: &InitArguments) -> (Template, bool) {
    let told = !arguments.always_allow.is_empty() || arguments.no_way_back;
    let found = if told {
        None
    } else {
        way_back::find(&way_back::Proc, std::process::id())
    };
    let services = if arguments.services.is_empty() {
        vec![ServiceArgument::ssh()]
    } else {
        arguments.services.clone()
    };
    let template = Template {
        host: arguments.host.clone(),
        port: arguments.port,
        services,
        always_allow: if told {
            arguments.always_allow.clone()
        } else {
            found.into_iter().collect()
        },
        no_way_back: arguments.no_way_back,
    };
    (template, found.is_some())
}

/// A host or a service that server.toml would refuse is refused here already. Only the way back may be missing.
fn refuse_wrong_arguments(file: &Path, config: &str) -> Result<(), Failure> {
    let findings = Config::from_text(&file.display().to_string(), config)
        .err()
        .unwrap_or_default();
    let wrong: Vec<Finding> = findings
        .into_iter()
        .filter(|finding| finding.is_error() && finding.code != Code::NoWayBack)
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Usage,
        format!("with these arguments:\n{}", render(&wrong, Colour::Never)),
    ))
}

fn write(paths: &Paths, config: &str, key: &GatewayKey) -> Result<(), Failure> {
    let etc = paths.gateway_key.parent().unwrap_or(Path::new("."));
    // What is configured is root's to say: the packet process, which owns the secrets, may only read it.
    file::create_own_dir(etc, 0o755)?;
    file::create_dir(&paths.clients, 0o700)?;
    file::create_dir(&paths.invites, 0o700)?;
    file::create_dir(&paths.state, 0o700)?;
    let failed = |error| Failure::new(Exit::Failed, error);
    let lock = StateLock::acquire(&paths.state).map_err(failed)?;
    State::create(&paths.state, lock).map_err(failed)?;
    key.create(&paths.gateway_key)?;
    // Last: what is half made has no configuration, and nothing runs without one.
    file::create_own(&paths.config, config.as_bytes(), 0o640)?;
    Ok(())
}

fn tell(paths: &Paths, template: &Template, found: bool, fingerprint: &str) {
    println!("wrote {}", paths.config.display());
    println!("gateway {fingerprint}");
    match template.always_allow.as_slice() {
        [] if template.no_way_back => println!("no address stays open: who loses every key is shut out"),
        [] => println!(
            "no address stays open yet: add always-allow to {}, then check",
            paths.config.display()
        ),
        nets => {
            let nets: Vec<_> = nets.iter().map(ToString::to_string).collect();
            let why = if found { " (this ssh connection)" } else { "" };
            println!("always open to {}{why}", nets.join(", "));
        }
    }
    println!("next: spa-server check, then spa-server run");
}
