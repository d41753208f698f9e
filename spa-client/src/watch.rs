//! `watch`: keeps a door open. It is renewed before its end, and asked for again when this device's address changes.

use std::io::{self, IsTerminal};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use spa_keys::profile::{Membership, Profile};
use spa_keys::{Exit, Failure};
use spa_proto::ServiceName;

use crate::cli::WatchArgs;
use crate::clock::{self, Clock, uptime};
use crate::code;
use crate::door::{Door, Place};
use crate::host::{Sockets, resolve};
use crate::load::load;
use crate::out::{self, Form};
use crate::plan::{self, Verb};
use crate::report::Report;
use crate::salvo::Rounds;
use crate::signals::Held;
use crate::wait::{AtOnce, Sleeper};
use crate::whom;

mod network;
mod say;
mod term;

pub(crate) use network::source;
use network::{Changes, sources};
use say::{Event, Voice};
use term::{Retry, Term};

/// Long enough to be renewed in peace, short enough that a lost device's door shuts soon.
const LENGTH: NonZeroU32 = NonZeroU32::new(300).unwrap();
/// A change of addresses comes in several steps: the last of them counts.
const SETTLE: Duration = Duration::from_millis(300);
/// How often at least the clock is looked at: a device that slept is late.
const LOOK: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_secs(1);

/// `spa-client watch`.
pub(crate) fn watch(args: &WatchArgs) -> Exit {
    let mut report = Report::new(&args.services);
    let outcome = load(&args.profile).and_then(|profile| run(args, &profile, &mut report));
    match outcome {
        // Its events have said it all.
        Ok(()) => Exit::Done,
        failed => report.finish(failed, Form::Text),
    }
}

fn run(args: &WatchArgs, profile: &Profile, report: &mut Report) -> Result<(), Failure> {
    plan::refuse_twice(&args.services)?;
    let clock = Clock(args.pass.clock.clock_offset.unwrap_or_default());
    report.warn(plan::strangers(&args.services, profile));
    report.warn(clock::warning(clock.now(), clock::built()));
    let system = |error: io::Error| Failure::new(Exit::Failed, format!("cannot watch: {error}"));
    let changes = Changes::begin().map_err(system)?;
    let mut watcher = Watcher {
        args,
        profile,
        clock,
        length: length(args, profile),
        gateway: None,
        from: Vec::new(),
        term: None,
        voice: Voice::new(args, io::stderr().is_terminal()),
    };
    watcher.open(report)?;
    // From here on there is something to say at the end.
    let held = Held::begin().map_err(system)?;
    let signal = watcher.stay(&held, &changes);
    watcher.end();
    match signal {
        Ok(_) => Ok(()),
        Err(error) => Err(system(error)),
    }
}

fn length(args: &WatchArgs, profile: &Profile) -> NonZeroU32 {
    let known = |name: &ServiceName| profile.services.get(name)?.duration;
    let shortest = args.services.iter().filter_map(known).min();
    args.pass.duration.or(shortest).unwrap_or(LENGTH)
}

/// A door that is kept open.
struct Watcher<'a> {
    args: &'a WatchArgs,
    profile: &'a Profile,
    clock: Clock,
    length: NonZeroU32,
    /// The gateway that opened.
    gateway: Option<&'a Membership>,
    /// The addresses that this device reached it from.
    from: Vec<IpAddr>,
    term: Option<Term>,
    voice: Voice,
}

impl<'a> Watcher<'a> {
    /// Asks, and looks whether it opens where a connection can tell.
    fn open(&mut self, report: &mut Report) -> Result<(), Failure> {
        let door = self.door(Verb::Open(Some(self.length)))?;
        let begun = uptime();
        let ports = plan::tcp_ports(&self.args.services, self.profile).ok();
        let is_seen = ports.is_some();
        self.gateway = Some(match ports {
            Some(ports) => {
                let place = Place {
                    ports,
                    host: None,
                    limit: self.args.pass.timeout,
                };
                door.pass(&place, report)?.gateway
            }
            None => send_to_first(&door)?,
        });
        self.begin_term(begun);
        self.tell(if is_seen { Event::Open } else { Event::Sent });
        Ok(())
    }

    /// Asks for the same again, of the gateway that opened.
    fn renew(&mut self) -> Result<(), Failure> {
        let door = self.door(Verb::Open(Some(self.length)))?;
        let gateway = self.gateway.unwrap_or(&self.profile.home);
        let begun = uptime();
        door.knock(
            gateway,
            &resolve(&gateway.host)?,
            Sockets::default(),
            &mut Sleeper::new(),
        )?;
        self.begin_term(begun);
        self.tell(Event::Renewed);
        Ok(())
    }

    fn begin_term(&mut self, begun: Duration) {
        self.term = Some(Term::new(begun, Duration::from_secs(self.length.get().into())));
        self.from = self.sources();
    }

    fn sources(&self) -> Vec<IpAddr> {
        let host = &self.gateway.unwrap_or(&self.profile.home).host;
        resolve(host).map(|addresses| sources(&addresses)).unwrap_or_default()
    }

    fn door(&self, verb: Verb) -> Result<Door<'a>, Failure> {
        let pass = &self.args.pass;
        let whom = whom::addresses(&pass.address, self.profile)?;
        whom.warnings.iter().for_each(|warning| out::tell("warning", warning));
        let code = match verb {
            Verb::Open(_) => code::one_time(pass.code, self.profile)?,
            Verb::Close => None,
        };
        Ok(Door {
            profile: self.profile,
            services: &self.args.services,
            verb,
            addresses: whom.addresses,
            code,
            clock: self.clock,
            rounds: Rounds::All,
        })
    }

    /// Keeps it open until a signal comes; that signal.
    fn stay(&mut self, held: &Held, changes: &Changes) -> io::Result<i32> {
        let mut retry = Retry::new(self.due());
        loop {
            if let Some(signal) = held.taken() {
                return Ok(signal);
            }
            let now = uptime();
            if now >= retry.due() {
                self.again(&mut retry);
                continue;
            }
            self.voice.count_down(self.left(now));
            let longest = if self.voice.counts_down() { TICK } else { LOOK };
            wait(held, changes, longest.min(retry.due().saturating_sub(now)));
            if changes.drain() {
                retry.settle(uptime() + SETTLE);
            }
        }
    }

    /// Its time has come: the end is near, an earlier try failed, or an address may have changed.
    fn again(&mut self, retry: &mut Retry) {
        let now = uptime();
        let is_due = retry.is_failing() || now >= self.due();
        let there = self.sources();
        let moved = !there.is_empty() && there.iter().any(|address| !self.from.contains(address));
        if !moved && !is_due {
            return retry.succeed(self.due());
        }
        if moved {
            self.voice.moved(&there);
        }
        // After a move it is worth a look whether it opens; a renewal needs none.
        let outcome = if moved {
            self.open(&mut Report::new(&self.args.services))
        } else {
            self.renew()
        };
        match outcome {
            Ok(()) => retry.succeed(self.due()),
            Err(failure) => {
                self.voice.failed(&failure.what);
                retry.fail(uptime());
            }
        }
    }

    fn due(&self) -> Duration {
        self.term.as_ref().map_or(Duration::ZERO, Term::renewal)
    }

    fn left(&self, now: Duration) -> Duration {
        self.term.as_ref().map_or(Duration::ZERO, |term| term.left(now))
    }

    fn tell(&mut self, event: Event) {
        let left = self.left(uptime());
        self.voice.tell(event, left);
    }

    fn end(&mut self) {
        if !self.args.close {
            return self.tell(Event::Left);
        }
        let gateway = self.gateway.unwrap_or(&self.profile.home);
        let closed = self.door(Verb::Close).and_then(|mut door| {
            door.rounds = Rounds::Once;
            door.knock(gateway, &resolve(&gateway.host)?, Sockets::default(), &mut AtOnce)
        });
        match closed {
            Ok(_) => self.tell(Event::Closed),
            Err(failure) => {
                self.voice.failed(&failure.what);
                self.tell(Event::Left);
            }
        }
    }
}

/// Without a connection that could tell, the first gateway that can be sent to.
fn send_to_first<'a>(door: &Door<'a>) -> Result<&'a Membership, Failure> {
    let mut last = None;
    for gateway in door.profile.memberships() {
        let addresses = resolve(&gateway.host);
        let sent =
            addresses.and_then(|addresses| door.knock(gateway, &addresses, Sockets::default(), &mut Sleeper::new()));
        match sent {
            Ok(_) => return Ok(gateway),
            Err(failure) => last = Some(failure),
        }
    }
    Err(last.unwrap_or_else(|| Failure::new(Exit::Failed, "no gateway")))
}

fn wait(held: &Held, changes: &Changes, most: Duration) {
    let mut wanted = [
        PollFd::from_borrowed_fd(held.pipe(), PollFlags::IN),
        PollFd::from_borrowed_fd(changes.fd(), PollFlags::IN),
    ];
    let most = Timespec::try_from(most + Duration::from_millis(1)).unwrap_or_default();
    // Interrupted by a signal, it is looked for at once.
    let _ = poll(&mut wanted, Some(&most));
}
