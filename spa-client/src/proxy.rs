//! `proxy`: the door and the connection through it, as OpenSSH's ProxyCommand; and `relay`, the connection alone.

use std::io::{self, IoSlice};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use spa_keys::profile::{Profile, host};
use spa_keys::{Exit, Failure, Host};

use crate::cli::{PassArgs, ProxyArgs, RelayArgs};
use crate::clock::{self, Clock};
use crate::code;
use crate::door::{Door, Passed, Place};
use crate::host::resolve;
use crate::load::load;
use crate::out::Form;
use crate::plan::{self, Verb};
use crate::relay;
use crate::report::Report;
use crate::salvo::{Pace, Rounds, targets};
use crate::wait::Watch;
use crate::whom;

/// `spa-client proxy`.
pub(crate) fn proxy(args: &ProxyArgs) -> Exit {
    let mut report = Report::new(&[]);
    let outcome = load(&args.profile).and_then(|profile| run(args, &profile, &mut report));
    report.finish(outcome, Form::Text)
}

fn run(args: &ProxyArgs, profile: &Profile, report: &mut Report) -> Result<(), Failure> {
    let services = [plan::going_to(args.service.as_ref(), args.port, profile)?];
    let behind = behind(args, profile)?;
    let mut passed = pass(&args.pass, &services, args.port.get(), behind.as_ref(), profile, report)?;
    let stream = passed.streams.swap_remove(0);
    let stream = stream.ok_or_else(|| Failure::new(Exit::Failed, "the connection is gone"))?;
    if args.fdpass { hand_over(&stream) } else { copy(&stream) }
}

/// The host that is meant, unless it is the gateway that opens.
fn behind(args: &ProxyArgs, profile: &Profile) -> Result<Option<Host>, Failure> {
    let typed = args.host.to_ascii_lowercase();
    if typed == args.profile.as_str() || typed == profile.home.host.as_str() {
        return Ok(None);
    }
    let host = host(&typed).map_err(|error| Failure::new(Exit::Usage, error))?;
    Ok(Some(host).filter(|host| *host != profile.home.host))
}

/// Opens these services and connects to the port, for `ssh`, `proxy` and others that go through.
pub(crate) fn pass<'a>(
    args: &PassArgs,
    services: &'a [spa_proto::ServiceName],
    port: u16,
    behind: Option<&Host>,
    profile: &'a Profile,
    report: &mut Report,
) -> Result<Passed<'a>, Failure> {
    let clock = Clock(args.clock.clock_offset.unwrap_or_default());
    report.warn(clock::warning(clock.now(), clock::built()));
    let whom = whom::addresses(&args.address, profile)?;
    report.warn(whom.warnings);
    let door = Door {
        profile,
        services,
        verb: Verb::Open(args.duration),
        addresses: whom.addresses,
        code: code::one_time(args.code, profile)?,
        clock,
        rounds: Rounds::All,
    };
    let place = Place {
        ports: vec![port],
        host: behind,
        limit: args.timeout,
    };
    door.pass(&place, report)
}

/// `spa-client relay`: connects as `proxy` does, without a knock.
pub(crate) fn relay(args: &RelayArgs) -> Exit {
    let outcome = connect(args).and_then(|stream| hand_over(&stream));
    Report::new(&[]).finish(outcome, Form::Text)
}

fn connect(args: &RelayArgs) -> Result<TcpStream, Failure> {
    let places: Vec<SocketAddr> = targets(&resolve(&args.host)?, &[args.port.get()]);
    let mut watch = Watch::new(&[places], args.timeout);
    let _ = watch.until(args.timeout);
    let stream = watch.streams.swap_remove(0);
    let refused = || {
        Failure::new(
            Exit::Failed,
            format!("no connection to {} port {}", args.host, args.port),
        )
    };
    stream.ok_or_else(refused)
}

/// Gives the connection itself to ssh (ProxyUseFdpass): nothing has to be copied.
fn hand_over(stream: &TcpStream) -> Result<(), Failure> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [stream.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    let sent = sendmsg(io::stdout(), &[IoSlice::new(b"\0")], &mut control, SendFlags::empty());
    sent.map(drop).map_err(|error| {
        let error = io::Error::from(error);
        Failure::new(Exit::Failed, format!("cannot hand the connection over: {error}"))
            .hint("without --fdpass, unless ssh is told ProxyUseFdpass yes")
    })
}

fn copy(stream: &TcpStream) -> Result<(), Failure> {
    // Small things that ssh sends are not to wait for more.
    let _ = stream.set_nodelay(true);
    relay::run(stream).map_err(|error| Failure::new(Exit::Failed, format!("the connection broke: {error}")))
}
