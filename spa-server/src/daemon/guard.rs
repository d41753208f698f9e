//! Sightings → what is said of a scanner and, where that is configured, a ban; and what lifts one.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use spa_keys::units::format_time;
use spa_proto::UnixTime;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::Daemon;
use crate::audit::Event;
use crate::backend::existing::listeners;
use crate::backend::{Banned, ShutOut};
use crate::clock;
use crate::config::{GuardMode, PortRange, Protocol};
use crate::guard::ends::{self, Ends};
use crate::guard::patrol::answered_ports;
use crate::guard::{Decoys, Patrol, Scope, Spared, Why, tell};
use crate::netlink::address::own_addresses;
use crate::netlink::route::default_gateways;
use crate::scan::{Ban, Bans, Caps, Phase, Sighting, Spared as Full};

/// A scan has come to its end when nothing was seen of it for so long.
const QUIET: Duration = Duration::from_secs(30);
/// How often listening sockets are looked at, at most: so long a sighting may have to wait for it.
const SOCKETS_EVERY: Duration = Duration::from_millis(500);
/// Sightings that wait for it.
const MOST_PENDING: usize = 256;
/// How often routes, resolvers and published ports are: a program may be started for it.
const HOST_EVERY: Duration = Duration::from_mins(1);
/// Scans that status tells of, those that are over too.
const TOLD: usize = 100;

/// The guard's part of the daemon.
pub(super) struct Guard {
    patrol: Arc<Patrol>,
    sightings: mpsc::Receiver<Sighting>,
    pending: Vec<Sighting>,
    bans: Bans,
    decoys: Decoys,
    /// The last scans, newest last.
    told: Vec<Told>,
    /// Ends on disk are not those in memory.
    unsaved: bool,
    host: Host,
    limit: tell::Limit,
}

/// What is known of this host, and when it was looked at.
#[derive(Default)]
struct Host {
    sockets: Option<Duration>,
    slow: Option<Duration>,
    published: Vec<PortRange>,
    neighbours: Vec<(Why, Vec<IpNet>)>,
}

/// A scan, for status.
pub(super) struct Told {
    pub(super) sighting: Sighting,
    pub(super) first: UnixTime,
    pub(super) last: UnixTime,
}

impl Guard {
    pub(super) fn new() -> Self {
        let (patrol, sightings) = Patrol::new();
        Self {
            patrol,
            sightings,
            pending: Vec::new(),
            bans: Bans::default(),
            decoys: Decoys::default(),
            told: Vec::new(),
            unsaved: false,
            host: Host::default(),
            limit: tell::Limit::default(),
        }
    }

    /// What capture threads tell of probes.
    pub(super) fn patrol(&self) -> &Arc<Patrol> {
        &self.patrol
    }

    /// The next sighting.
    pub(super) async fn next(&mut self) -> Option<Sighting> {
        self.sightings.recv().await
    }

    pub(super) fn bans(&self) -> impl Iterator<Item = Ban> + '_ {
        self.bans.iter()
    }

    pub(super) fn decoys(&self) -> impl Iterator<Item = u16> + '_ {
        self.decoys.ports()
    }

    /// Scans, those that go on as they are now.
    pub(super) fn told(&self) -> Vec<Told> {
        let live: Vec<Sighting> = self
            .patrol
            .with(|post| post.judge.noticed().collect())
            .unwrap_or_default();
        let now = |told: &Told| {
            let live = live.iter().find(|live| live.source == told.sighting.source);
            Told {
                sighting: live.unwrap_or(&told.sighting).clone(),
                ..*told
            }
        };
        self.told.iter().map(now).collect()
    }

    /// Sightings that were too many for the daemon.
    pub(super) fn unheard(&self) -> u64 {
        self.patrol.unheard()
    }

    fn note(&mut self, sighting: &Sighting, wall: UnixTime) {
        let same = |told: &Told| told.sighting.source == sighting.source && told.sighting.phase != Phase::Over;
        let before = self.told.iter().position(same).map(|place| self.told.remove(place));
        self.told.push(Told {
            sighting: sighting.clone(),
            first: before.map_or(wall, |before| before.first),
            last: wall,
        });
        if self.told.len() > TOLD {
            self.told.remove(0);
        }
    }
}

impl Daemon {
    /// Takes up the configuration: at start, and after a reload.
    pub(super) fn configure_guard(&mut self) {
        self.guard.patrol.configure(self.config.guard.as_ref());
        if !self.config.bans() {
            // The backends have let everybody in.
            self.guard.bans = Bans::default();
            self.guard.unsaved = true;
        }
        let guard = self.config.guard.as_ref();
        let decoys: Vec<u16> = guard
            .filter(|_| !self.dry_run)
            .map_or(Vec::new(), |guard| guard.decoys.clone());
        let Self { guard, partner, .. } = self;
        for (port, error) in guard.decoys.set(&decoys, &guard.patrol, |port| partner.decoy(port)) {
            error!(
                port,
                "tcp/{port} is no decoy: {error}; whoever serves there is not hindered"
            );
        }
        self.guard.host = Host::default();
        self.look_around(clock::uptime());
        self.review_bans();
    }

    /// Takes up the bans that are in force by what the backends hold. An end that no backend knows is on disk.
    pub(super) fn take_over_bans(&mut self) {
        let (now, ends) = (clock::uptime(), Ends::load(&ends::file(&self.paths), &self.boot_id));
        for ShutOut { network, remaining } in self.partner.bans() {
            let end = remaining
                .map(|remaining| now + remaining)
                .or_else(|| ends.end(&network));
            if let Some(end) = end.filter(|end| *end > now) {
                let longest = self.config.guard.as_ref().map_or(Duration::ZERO, |guard| guard.ban_for);
                self.guard.bans.restore(Ban {
                    source: network,
                    end: end.min(now + longest),
                });
            }
        }
        self.guard.unsaved = true;
        self.keep_bans();
    }

    /// A source is suspect: judged by what serves at that moment, which is looked at only so often.
    pub(super) fn on_sighting(&mut self, sighting: Sighting) {
        if self.guard.pending.len() < MOST_PENDING {
            self.guard.pending.push(sighting);
        }
        self.judge_pending(clock::uptime());
    }

    /// When sightings that wait can be judged.
    pub(super) fn sightings_due(&self) -> Option<Duration> {
        let looked = self.guard.host.sockets.unwrap_or_default();
        (!self.guard.pending.is_empty()).then_some(looked + SOCKETS_EVERY)
    }

    pub(super) fn judge_pending(&mut self, now: Duration) {
        if self.sightings_due().is_none_or(|due| due > now) {
            return;
        }
        self.look_around(now);
        for sighting in std::mem::take(&mut self.guard.pending) {
            self.judge_sighting(&sighting);
        }
    }

    /// What is said of a source, and whether it is shut out.
    fn judge_sighting(&mut self, sighting: &Sighting) {
        let now = clock::now();
        let serves = |post: &mut crate::guard::patrol::Post| post.judge.reconsider(sighting.source, &post.scope.serves);
        // What has begun to serve since is no scanner's port.
        let Some(judged) = self.guard.patrol.with(serves).flatten() else {
            return;
        };
        self.guard.note(&judged, now.wall);
        if sighting.phase == Phase::Condemned {
            self.shut_out(&judged);
        } else {
            self.say_scan(&judged, "a scan");
        }
    }

    fn shut_out(&mut self, sighting: &Sighting) {
        let Some(guard) = self.config.guard.clone().filter(|guard| guard.mode == GuardMode::Ban) else {
            return;
        };
        let (now, source) = (clock::now(), sighting.source);
        if let Some(why) = self.spared().why(source) {
            return self.say_scan(sighting, &format!("a scan, but its source is not shut out: {why}"));
        }
        let caps = Caps {
            at_once: guard.bans_at_once,
            a_minute: guard.bans_a_minute,
        };
        let is_new = !self.guard.bans.iter().any(|ban| ban.source == source);
        let end = now.uptime + guard.ban_for;
        match self.guard.bans.add(source, end, now.uptime, &caps) {
            Ok(ban) => {
                self.put_ban(ban);
                if is_new {
                    self.say_ban(sighting, now.wall.saturating_add(guard.ban_for));
                }
            }
            Err(full) => {
                let why = match full {
                    Full::AtOnce => format!("{} bans are in force (bans-at-once)", caps.at_once),
                    Full::AMinute => format!("{} bans have begun within a minute (bans-a-minute)", caps.a_minute),
                };
                self.say_scan(sighting, &format!("a scan, but its source is not shut out: {why}"));
            }
        }
    }

    fn put_ban(&mut self, ban: Ban) {
        let banned = Banned {
            network: ban.source,
            remaining: ban.end.saturating_sub(clock::uptime()),
        };
        if self.partner.ban(&banned).is_err() {
            // Reported; what did not work is tried again by the next look.
            warn!(source = %ban.source, "not shut out everywhere");
        }
        self.guard.unsaved = true;
        self.keep_bans();
    }

    fn say_ban(&mut self, sighting: &Sighting, until: UnixTime) {
        let verb = if self.dry_run { "would be shut out" } else { "shut out" };
        let (source, until) = (sighting.source, format_time(until));
        let (ports, probes) = (tell::ports(sighting), tell::probes(sighting));
        warn!(%source, ports, probes, touches = sighting.touches, until, "{verb}: it scans");
        self.audit(Event::Banned { source, until, ports });
    }

    fn say_scan(&mut self, sighting: &Sighting, what: &str) {
        let (is_allowed, held_back) = self.guard.limit.allow(clock::uptime());
        if held_back > 0 {
            warn!(
                held_back,
                "more scans than are logged; `spa-server status` knows the last ones"
            );
        }
        if is_allowed {
            let (source, ports, probes) = (sighting.source, tell::ports(sighting), tell::probes(sighting));
            warn!(%source, ports, probes, touches = sighting.touches, "{what}");
        }
    }

    /// Every two seconds: what has ended, what must not be shut out any more, what somebody else has changed.
    pub(super) fn watch_scans(&mut self, now: Duration) {
        let ended = self
            .guard
            .patrol
            .with(|post| post.judge.ended(now, QUIET))
            .unwrap_or_default();
        for sighting in ended {
            self.guard.note(&sighting, clock::wall());
            self.say_scan(&sighting, "a scan is over");
        }
        for source in self.guard.bans.expire(now) {
            // Reported; the kernel has ended it already where it can.
            let _ = self.partner.unban(source);
            self.guard.unsaved = true;
            info!(%source, "let in again: its time is over");
            let why = "its time is over".to_owned();
            self.audit(Event::Unbanned { source, why });
        }
        if self.guard.host.slow.is_none_or(|last| last + HOST_EVERY <= now) {
            self.look_around(now);
        }
        self.review_bans();
        let wanted = self.banned(now);
        self.partner.check_bans(&wanted);
        self.keep_bans();
    }

    /// Lifts every ban that touches a network.
    pub(super) fn let_in(&mut self, network: IpNet, why: &str) -> usize {
        let lifted = self.guard.bans.lift(network);
        self.guard.patrol.with(|post| post.judge.clear(network));
        for source in &lifted {
            // Reported; the next look tries again.
            let _ = self.partner.unban(*source);
            self.guard.unsaved = true;
            info!(%source, "let in again: {why}");
            self.audit(Event::Unbanned {
                source: *source,
                why: why.to_owned(),
            });
        }
        if !lifted.is_empty() {
            self.keep_bans();
        }
        lifted.len()
    }

    /// Lifts the bans of all who must not be shut out now.
    fn review_bans(&mut self) {
        if self.guard.bans.next_end().is_none() {
            return;
        }
        let spared = self.spared();
        let is_spared = |ban: Ban| Some((ban.source, spared.why(ban.source)?));
        let lifted: Vec<_> = self.guard.bans.iter().filter_map(is_spared).collect();
        for (source, why) in lifted {
            self.let_in(source, &why.to_string());
        }
    }

    /// Who is never shut out, as of now.
    fn spared(&self) -> Spared {
        let mut spared = Spared::default();
        spared.add(Why::AlwaysAllow, self.config.lock_out.always_allow.iter().copied());
        let holders = self
            .grants
            .live()
            .flat_map(|(key, grant)| [key.address.into(), grant.opened]);
        spared.add(Why::Grant, holders);
        for (why, networks) in &self.guard.host.neighbours {
            spared.add(*why, networks.iter().copied());
        }
        spared
    }

    fn banned(&self, now: Duration) -> Vec<Banned> {
        let banned = |ban: Ban| Banned {
            network: ban.source,
            remaining: ban.end.saturating_sub(now),
        };
        self.guard.bans.iter().map(banned).collect()
    }

    fn keep_bans(&mut self) {
        if !std::mem::take(&mut self.guard.unsaved) || self.dry_run {
            return;
        }
        let ends = self.guard.bans.iter().map(|ban| (ban.source, ban.end));
        let file = ends::file(&self.paths);
        if let Err(error) = Ends::new(&self.boot_id, ends).save(&file) {
            self.guard.unsaved = true;
            error!("{}: {error}: a restart may forget when bans end", file.display());
        }
    }

    /// Looks at this host again where the last look is old: what serves, who its neighbours are.
    fn look_around(&mut self, now: Duration) {
        let is_old = |last: Option<Duration>, every: Duration| last.is_none_or(|last| last + every <= now);
        let (slow, sockets) = (self.guard.host.slow, self.guard.host.sockets);
        if self.config.guard.is_none() || !is_old(sockets, SOCKETS_EVERY) {
            return;
        }
        self.guard.host.sockets = Some(now);
        if is_old(slow, HOST_EVERY) {
            self.guard.host.slow = Some(now);
            self.look_far();
        }
        let scope = self.scope();
        let spared: Vec<IpNet> = self.spared().networks().collect();
        self.guard.patrol.with(|post| {
            post.scope = scope;
            post.judge.tell_apart(spared);
        });
    }

    /// Addresses of this host have changed.
    pub(super) fn look_around_anew(&mut self) {
        self.guard.host = Host::default();
        self.look_around(clock::uptime());
    }

    fn look_far(&mut self) {
        let (published, resolvers) = self.partner.surroundings();
        self.guard.host.published = published;
        let nets = |addresses: Vec<std::net::IpAddr>| addresses.into_iter().map(IpNet::from).collect::<Vec<_>>();
        let gateways = default_gateways().unwrap_or_else(|error| {
            warn!("default gateways cannot be read: {error}");
            Vec::new()
        });
        let own = own_addresses().unwrap_or_else(|error| {
            warn!("own addresses cannot be read: {error}");
            Vec::new()
        });
        self.guard.host.neighbours = vec![
            (Why::Own, nets(own)),
            (Why::Gateway, nets(gateways)),
            (Why::Resolver, resolvers),
        ];
    }

    /// What counts: everything but services, knock ports, sockets of this host, published ports, answers.
    fn scope(&self) -> Scope {
        let mut scope = Scope {
            own: own_addresses().ok(),
            ..Scope::default()
        };
        let serves = &mut scope.serves;
        serves.extend(
            self.config
                .services
                .iter()
                .flat_map(|service| service.ports.iter().copied()),
        );
        serves.extend(self.guard.host.published.iter().copied());
        serves.extend(answered_ports());
        for port in &self.config.listen.ports {
            serves.insert(Protocol::Udp, *port);
        }
        for (protocol, port) in self.sequences.ports() {
            serves.insert(protocol, port);
        }
        match listeners() {
            Ok(listeners) => listeners.iter().for_each(|own| serves.insert(own.protocol, own.port)),
            Err(error) => warn!("listening sockets cannot be read: {error}"),
        }
        for decoy in self.guard.decoys.ports() {
            serves.remove(Protocol::Tcp, decoy);
        }
        scope
    }
}
