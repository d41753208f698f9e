//! What `knock` takes: as much as knock(1) does, and rolling sequences.

use std::num::NonZeroU16;
use std::time::Duration;

use clap::Args;
use spa_keys::Host;
use spa_keys::profile::{ProfileName, host};
use spa_proto::TcpFlags;
use spa_proto::sequence::{Stage, Transport};

#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags, as knock(1) has them")]
pub(crate) struct KnockArgs {
    /// Where to knock
    #[arg(value_parser = host, required_unless_present = "rolling", conflicts_with = "rolling")]
    pub(crate) host: Option<Host>,
    /// The ports in their order: 7000/tcp, 8000/udp; 7000:tcp and a bare 7000 are understood too
    #[arg(value_name = "PORT", required_unless_present = "rolling", value_parser = port)]
    pub(crate) ports: Vec<Port>,
    /// The sequence that this profile's key gives for now
    #[arg(long, value_name = "PROFILE")]
    pub(crate) rolling: Option<ProfileName>,
    /// Milliseconds between two ports
    #[arg(short, long, value_name = "MS", default_value = "100", value_parser = milliseconds)]
    pub(crate) delay: Duration,
    /// Bare ports mean UDP
    #[arg(short, long)]
    pub(crate) udp: bool,
    /// Only the IPv4 address
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub(crate) ipv4: bool,
    /// Only the IPv6 address
    #[arg(short = '6', long)]
    pub(crate) ipv6: bool,
    /// Say each port as it is knocked at
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Say what would be sent, and send nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// A port as it was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    Bare(NonZeroU16),
    Full(Stage),
}

impl Port {
    /// The stage that is meant; `udp` is what a bare port means.
    pub(crate) const fn stage(self, udp: bool) -> Stage {
        match self {
            Self::Full(stage) => stage,
            Self::Bare(port) => {
                let transport = if udp {
                    Transport::Udp
                } else {
                    Transport::Tcp(TcpFlags::SYN)
                };
                Stage { transport, port }
            }
        }
    }
}

fn port(text: &str) -> Result<Port, String> {
    // A bare port is read as one of TCP, so that it meets the same checks.
    let bare = !text.contains(['/', ':']);
    let full = if bare { format!("{text}/tcp") } else { text.to_owned() };
    match full.parse::<Stage>() {
        Ok(stage) if bare => Ok(Port::Bare(stage.port)),
        Ok(stage) => Ok(Port::Full(stage)),
        Err(error) => Err(format!("{error}; write 7000/tcp or 8000/udp")),
    }
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    let number = text.parse::<u16>().ok().filter(|number| *number <= 60_000);
    let number = number.ok_or("not a number of milliseconds from 0 to 60000")?;
    Ok(Duration::from_millis(number.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_in_every_manner() {
        let text = |typed: &str, udp| port(typed).unwrap().stage(udp).to_string();
        assert_eq!(text("7000", false), "7000/tcp");
        assert_eq!(text("7000", true), "7000/udp");
        assert_eq!(text("7000:udp", false), "7000/udp");
        assert_eq!(text("7000/tcp", true), "7000/tcp");
        for bad in ["", "0", "70000", "70000:udp", "tcp/7000", "7000/sctp", "+7", "ssh"] {
            assert!(port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn delays_are_bounded() {
        assert_eq!(milliseconds("200"), Ok(Duration::from_millis(200)));
        assert!(milliseconds("60001").is_err() && milliseconds("-1").is_err() && milliseconds("1s").is_err());
    }
}
