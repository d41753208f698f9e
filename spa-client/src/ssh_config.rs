//! `ssh-config`: what to put into ~/.ssh/config.

use std::fmt::Write as _;

use spa_keys::profile::{Profile, ProfileName};
use spa_keys::{Exit, Failure, Protocol};

use crate::cli::SshConfigArgs;
use crate::load::load;
use crate::out;
use crate::quote::proxy_command;

/// `spa-client ssh-config`.
pub(crate) fn ssh_config(args: &SshConfigArgs) -> Exit {
    match load(&args.profile).and_then(|profile| block(args, &profile)) {
        Ok(lines) => {
            lines.lines().for_each(out::fact);
            Exit::Done
        }
        Err(failure) => {
            out::failure(&failure);
            failure.exit
        }
    }
}

fn block(args: &SshConfigArgs, profile: &Profile) -> Result<String, Failure> {
    let name = &args.profile;
    let (service, port) = ssh_service(profile)?;
    let mut block = String::new();
    let host = &profile.home.host;
    let own = proxy_command(&[])?;
    let _ = if args.matching {
        writeln!(
            block,
            "# Knocks, then lets ssh connect by itself.\nMatch originalhost {} exec \"{own} open {name} {service} --wait >/dev/null\"",
            aliases(name, profile).replace(' ', ",")
        )
    } else {
        writeln!(
            block,
            "# Knocks, and hands ssh the connection: for ssh, scp, sftp, rsync and git.\nHost {}",
            aliases(name, profile)
        )
    };
    let _ = writeln!(block, "    HostName {host}");
    if port != 22 {
        let _ = writeln!(block, "    Port {port}");
    }
    if !args.matching {
        let _ = writeln!(
            block,
            "    ProxyCommand {own} proxy --fdpass {name} %h %p\n    ProxyUseFdpass yes"
        );
    }
    Ok(block)
}

/// What a person may call it: the profile's name and the gateway's host.
fn aliases(name: &ProfileName, profile: &Profile) -> String {
    let host = profile.home.host.as_str();
    if name.as_str() == host {
        host.to_owned()
    } else {
        format!("{name} {host}")
    }
}

/// The service that ssh goes to: the one called so, else the one at port 22.
fn ssh_service(profile: &Profile) -> Result<(String, u16), Failure> {
    let mut tcp = Vec::new();
    for (name, service) in &profile.services {
        if let Some(place) = service.connect.filter(|place| place.protocol == Protocol::Tcp) {
            tcp.push((name.to_string(), place.port.get()));
        }
    }
    let named = tcp.iter().find(|(name, _)| name == "ssh");
    let found = named.or_else(|| tcp.iter().find(|(_, port)| *port == 22));
    found.cloned().ok_or_else(|| {
        Failure::new(Exit::Usage, "the profile does not say where ssh answers")
            .hint("connect = \"tcp/22\", or whatever its port is, under [services.ssh] in the profile")
    })
}
