//! Every kind of finding with the exact text that a person meets.
//!
//! [`findings`] names a cause for each [`Code`]; the compiler refuses a kind without one, and the test a cause that
//! leads to another kind or another text than `findings.txt` has. `UPDATE_FINDINGS=1` writes that anew, to be read.

use std::fs;
use std::io::{Error, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use spa_keys::{Exit, Failure, Paths};
use spa_proto::UnixTime;

use super::super::decoys;
use super::{ipset_finding, no_journal, not_looked, report, trial, unknown, unread};
use crate::backend::BackendError;
use crate::backend::existing::Listener;
use crate::backend::nftables;
use crate::backend::tcp_wrappers::inspect::{Source, complaint, faults, judge, linkage_finding};
use crate::backend::tcp_wrappers::plan::Plan;
use crate::backend::tcp_wrappers::program::Linkage;
use crate::backend::tcp_wrappers::rules::Table;
use crate::backend::{command, tcp_wrappers};
use crate::check::{Access, Report};
use crate::config::{Code, Colour, Config, Finding, Protocol, check_text, render, unreadable};
use crate::confirm::{Record, Undone, Verdict, Why};
use crate::doors::inspect_all;
use crate::exposure::{self, Host, Ruleset};
use crate::netlink::Family;

const TEXTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/check/findings.txt");
const HEAD: &str = "gateway.host = \"gw\"\nlock-out.always-allow = [\"192.0.2.7\"]\n";

#[test]
fn each_kind_says_exactly_this() {
    if std::env::var_os("UPDATE_FINDINGS").is_some() {
        let all: String = Code::ALL.iter().map(|code| told(*code)).collect();
        fs::write(TEXTS, all).unwrap();
    }
    let texts = fs::read_to_string(TEXTS).unwrap();
    let mut rest = texts.as_str();
    for code in Code::ALL {
        let told = told(*code);
        let end = rest.match_indices("\n== ").next().map_or(rest.len(), |(at, _)| at + 1);
        assert_eq!(rest[..end], told, "UPDATE_FINDINGS=1 writes {TEXTS} anew");
        rest = &rest[end..];
    }
    assert_eq!(rest, "");
}

/// What is said of one kind; what comes with it is another kind's.
fn told(code: Code) -> String {
    let mut found = findings(code);
    found.retain(|finding| finding.code == code);
    assert!(!found.is_empty(), "nothing is said of {code}");
    for finding in &found {
        assert!(finding.text.len() > 5, "{finding:?}");
    }
    format!("== {code}\n{}\n", render(&found, Colour::Never))
}

/// A real cause of each kind.
#[expect(clippy::too_many_lines, reason = "a table")]
fn findings(code: Code) -> Vec<Finding> {
    match code {
        // [gateway], [listen]
        Code::NoHost => of("listen.ports = [7]\n"),
        Code::BadHost => of("gateway.host = \"gw_1\"\n"),
        Code::NoInterface => listen("interfaces = []"),
        Code::BadInterface => listen("interfaces = [\"eth0/1\", \"a-name-that-is-too-long\"]"),
        Code::DuplicateInterface => listen("interfaces = [\"eth0\", \"eth0\"]"),
        Code::AnyBesideNames => listen("interfaces = [\"any\", \"eth0\"]"),
        Code::NoListenPort => listen("ports = []"),
        Code::BadListenPort => listen("ports = [0, 65536]"),
        Code::DuplicateListenPort => listen("ports = [7, 7]"),
        Code::TooManyListenPorts => listen("ports = [1, 2, 3, 4, 5, 6, 7, 8, 9]"),
        // [lock-out]
        Code::BadAddress => always_allow("gw.example.net"),
        Code::MappedAddress => always_allow("::ffff:192.0.2.7"),
        Code::Everybody => always_allow("0.0.0.0/0"),
        Code::HostBits => always_allow("192.0.2.7/28"),
        Code::WideAlwaysAllow => always_allow("8.0.0.0/6"),
        Code::IdleAlwaysAllow => always_allow("127.0.0.1"),
        Code::DuplicateAddress => always_allow("192.0.2.7\", \"192.0.2.7/32"),
        Code::NoWayBack => of(&firewalled("ports = [\"tcp/22\"]\nprotect = true").replace("\"192.0.2.7\"", "")),
        Code::WayBackWaived => of("gateway.host = \"gw\"\nlock-out.allow-no-way-back = true\n"),
        // [nftables], [tcp-wrappers]
        Code::HalfNamed => named_chain("table = \"inet filter\""),
        Code::BadTable => ["ip filter", "inet spa", "filter"]
            .iter()
            .flat_map(|table| named_chain(&format!("table = \"{table}\"\nchain = \"input\"")))
            .collect(),
        Code::BadNamedChain => named_chain("table = \"inet filter\"\nchain = \"SPA\""),
        Code::RelativePath => of("tcp-wrappers.hosts-allow = \"hosts.allow\"\n"),
        // Sequences
        Code::NoKnocks => sequence("rolling = true\nknocks = []"),
        Code::BadKnock => sequence("knocks = [\"tcp/7311\", \"9040\", \"70000/udp\"]"),
        Code::SequenceLength => sequence("knocks = [\"7311/tcp\", \"9040/tcp\"]"),
        Code::SequencePort => sequence("knocks = [\"7311/tcp\", \"62201/udp\", \"9040/tcp\"]"),
        Code::SweptSequence => sequence("knocks = [\"7311/tcp\", \"7312/tcp\", \"7313/tcp\"]"),
        Code::SequenceBeginning => {
            let second = "knocks = [\"7311/tcp\", \"15002/udp\", \"9040/tcp\", \"22/udp\"]";
            sequence(&format!(
                "{FIXED}\n[[sequence]]\nname = \"b\"\nservice = \"ssh\"\n{second}"
            ))
        }
        Code::Replayable => sequence(FIXED),
        Code::RepeatedPort => sequence("knocks = [\"7311/udp\", \"15002/udp\", \"7311/udp\"]"),
        Code::WellKnownSequence => sequence("knocks = [\"7000/tcp\", \"8000/tcp\", \"9000/udp\"]"),
        Code::BadOneTime => sequence("one-time = [\"7311/tcp 9040/tcp\"]"),
        Code::BadRolling => sequence("rolling = true\nrange = \"1-9\""),
        Code::NotRolling => sequence(&format!("{FIXED}\nstep = \"1m\"")),
        Code::BadTcpFlags => sequence(&format!("{FIXED}\ntcp-flags = [\"!ack\"]")),
        Code::CommonFlags => sequence(&format!("{FIXED}\ntcp-flags = [\"ack\"]")),
        Code::BadWithin => sequence(&format!("{FIXED}\nwithin = \"1h\"")),
        Code::BadSource => sequence(&format!("{FIXED}\nsources = [\"192.0.2.7/24\"]")),
        Code::NoServiceNamed => sequence(&format!("{FIXED}\nservice")),
        Code::SequenceUnusable => unusable_sequence(),
        // [metrics]
        Code::BadMetrics => metrics("listen = \"127.0.0.1\""),
        Code::MetricsNotLocal => metrics("listen = \"0.0.0.0:9798\""),
        Code::MetricsNowhere => metrics(""),
        Code::MetricsTwice => metrics("listen = \"127.0.0.1:9798\"\nsocket = \"/run/spa/metrics.sock\""),
        // Services
        Code::NoService => of(HEAD),
        Code::NoName => of(&format!(
            "{HEAD}[[service]]\nbackends = [\"iptables\"]\nports = [\"tcp/22\"]\n"
        )),
        Code::BadName => named("No Good"),
        Code::LongName => named("a-name-of-twenty-five-ch.s"),
        Code::ReservedName => named("allow"),
        Code::DuplicateName => {
            of(&(firewalled("ports = [\"tcp/22\"]") + &another("ssh", "iptables", "ports = [\"tcp/23\"]")))
        }
        Code::NoBackend => of(&firewalled("").replace("\"iptables\"", "")),
        Code::UnknownBackend => of(&firewalled("").replace("\"iptables\"", "\"nftable\"")),
        Code::DuplicateBackend => of(&firewalled("").replace("\"iptables\"", "\"iptables\", \"iptables\"")),
        Code::NoPorts => of(&firewalled("")),
        Code::BadPort => of(&firewalled(
            "ports = [\"22\", \"tcp/0\", \"tcp/9-8\", \"tcp/x\", \"sctp/9\"]",
        )),
        Code::OverlappingPorts => of(&firewalled("ports = [\"tcp/20-30\", \"tcp/22\"]")),
        Code::SharedPort => {
            of(&(firewalled("ports = [\"tcp/22\"]") + &another("db", "nftables", "ports = [\"tcp/22\"]")))
        }
        Code::KnockPort => of(&firewalled("ports = [\"udp/62201\"]")),
        Code::BadTo => of(&firewalled("ports = [\"tcp/22\"]\nto = [\"eth0\"]")),
        Code::BadDuration => of(&firewalled("ports = [\"tcp/22\"]\nduration = \"soon\"")),
        Code::ZeroDuration => of(&firewalled("ports = [\"tcp/22\"]\nduration = \"0s\"")),
        Code::ShortDuration => of(&firewalled("ports = [\"tcp/22\"]\nduration = \"2s\"")),
        Code::DurationOverMax => of(&firewalled("ports = [\"tcp/22\"]\nduration = \"9h\"")),
        Code::LongMaxDuration => of(&firewalled("ports = [\"tcp/22\"]\nmax-duration = \"30d\"")),
        Code::BadAtEnd => of(&firewalled("ports = [\"tcp/22\"]\nat-end = \"cutt\"")),
        Code::BadChain => of(&firewalled("ports = [\"tcp/22\"]\nchain = \"OUTPUT\"")),
        Code::NotThisChain => of(&firewalled("ports = [\"tcp/22\"]\nchain = \"FORWARD\"").replace("ipt", "nft")),
        Code::ProtectsNothing => of(&service("tcp-wrappers", "daemon = \"sshd\"\nprotect = true")),
        Code::NoDaemon => of(&service("tcp-wrappers", "")),
        Code::BadDaemon => ["ALL", "a b"]
            .iter()
            .flat_map(|daemon| of(&service("tcp-wrappers", &format!("daemon = \"{daemon}\""))))
            .collect(),
        Code::DuplicateDaemon => {
            let daemon = "daemon = \"sshd\"";
            of(&(service("tcp-wrappers", daemon) + &another("sftp", "tcp-wrappers", daemon)))
        }
        Code::IdleKey => [
            firewalled("ports = [\"tcp/22\"]\nuser = \"nobody\""),
            format!("{}[nftables]\n", firewalled("")),
            format!("{}[scan-guard]\nban-for = \"1h\"\n", firewalled("ports = [\"tcp/22\"]")),
        ]
        .iter()
        .flat_map(|text| of(text))
        .collect(),
        Code::NoOpen => of(&service("command", "user = \"nobody\"")),
        Code::NoClose => of(&service("command", "open = [\"/bin/vpn\"]")),
        Code::CommandAsRoot => of(&service("command", "open = [\"/bin/vpn\", \"{end}\"]")),
        Code::RelativeProgram => of(&service("command", "open = [\"vpn\"]")),
        Code::ProgramPlaceholder => of(&service("command", "open = [\"/bin/{client}\"]")),
        Code::UnknownPlaceholder => of(&service("command", "open = [\"/bin/vpn\", \"{adress}\", \"{x}\"]")),
        Code::BadArgument => of(&service("command", "open = [\"/bin/vpn\\u0000\", \"\\u0000\"]")),
        Code::BadUser => of(&service("command", "open = [\"/bin/vpn\"]\nuser = \"no body\"")),
        Code::UnknownUser => either(check_text(
            Path::new("server.toml"),
            &service("command", "open = [\"/bin/vpn\", \"{end}\"]\nuser = \"vpn\""),
            Some(&["root".to_owned()]),
        )),
        // [log], [audit]
        Code::BadLogFormat => of(&format!("{HEAD}log.format = \"syslog\"\n")),
        Code::BadLogLevel => of(&format!("{HEAD}log.level = \"loud\"\n")),
        Code::BadSize => of(&format!("{HEAD}audit.file-size = \"16MB\"\n")),
        // [scan-guard]
        Code::BadMode => guarded("mode = \"block\""),
        Code::BadDecoy => guarded("decoys = [\"udp/53\", \"tcp/1-9\", \"tcp/23\", \"tcp/23\", \"23\"]"),
        Code::TooManyDecoys => {
            let decoys: Vec<String> = (101..118).map(|port| format!("\"tcp/{port}\"")).collect();
            guarded(&format!("decoys = [{}]", decoys.join(", ")))
        }
        Code::DecoyInUse => {
            let mut found = guarded("decoys = [\"tcp/22\"]");
            found.push(decoys::finding(23));
            found
        }
        Code::OutOfRange => guarded("report-at = 1\nban-at = 2000\nbans-a-minute = 0"),
        Code::ReportAfterBan => guarded("report-at = 12"),
        Code::LongDuration => guarded("forget = \"2d\"\nban-for = \"30d\""),
        Code::NoBanBackend => of(&(service("command", "open = [\"/bin/vpn\"]") + "[scan-guard]\nmode = \"ban\"\n")),
        Code::BanCosts => guarded("mode = \"ban\"\nban-for = \"15m\"\nbans-at-once = 50"),
        // The file
        Code::Syntax => of("[gateway\n"),
        Code::UnknownKey => of("[gateway]\nhots = \"gw\"\n[listne]\n"),
        Code::WrongType => of("gateway = 1\nlisten.ports = 62201\n"),
        Code::NoFile => either(Config::load(Path::new("/nonexistent/server.toml"))),
        Code::NoPermission => {
            vec![unreadable(
                Path::new("/etc/spa/server.toml"),
                &ErrorKind::PermissionDenied.into(),
            )]
        }
        Code::Unreadable => vec![unreadable(
            Path::new("/etc/spa/server.toml"),
            &Error::other("the disk is broken"),
        )],
        Code::OthersMayWrite => in_folder(|dir| either(Config::load(&file(dir, "server.toml", b"", 0o646)))),
        Code::NotUtf8 => in_folder(|dir| either(Config::load(&file(dir, "server.toml", b"# gr\xfc\xdfe\n", 0o640)))),
        // A change on trial
        Code::Unconfirmed => {
            let waits = Verdict::Waits(Duration::from_secs(90));
            let mut refused = Record::default();
            refused.arm("0", "boot", Duration::ZERO);
            refused.failed("0", "the disk is full");
            let overdue = || Verdict::Undo(Why::Overdue);
            let found = [
                (Record::default(), waits),
                (Record::default(), overdue()),
                (refused, overdue()),
            ]
            .into_iter();
            found
                .filter_map(|(record, verdict)| trial(&record, verdict, UnixTime::from_secs(1_800_000_000)))
                .collect()
        }
        Code::UnconfirmedUnknown => {
            let failure = Failure::new(Exit::Config, "state/config/0.json is not what this version writes");
            vec![unknown(&failure), unknown(&failure.clone().hint("spa-server apply"))]
        }
        Code::Undone => [None, Some("/etc/spa/server.toml.rejected".into())]
            .into_iter()
            .filter_map(|rejected| {
                let (nonce, at) = ("0".to_owned(), "2027-01-15T08:00:00Z".to_owned());
                let record = Record {
                    undone: Some(Undone { nonce, at, rejected }),
                    ..Record::default()
                };
                trial(&record, Verdict::Settled, UnixTime::from_secs(1_800_000_000))
            })
            .collect(),
        // Keys and clients
        Code::GatewayKey => in_folder(|dir| report(&Paths::new(Some(dir), None)).findings),
        Code::Clients => in_folder(|dir| {
            file(dir, "clients.d", b"", 0o600);
            report(&Paths::new(Some(dir), None)).findings
        }),
        Code::BrokenFile => in_folder(|dir| {
            fs::create_dir(dir.join("clients.d")).unwrap();
            file(&dir.join("clients.d"), "alice.toml", b"services = []\npsk = 7\n", 0o600);
            file(&dir.join("clients.d"), "bob.toml", b"", 0o644);
            report(&Paths::new(Some(dir), None)).findings
        }),
        Code::UnknownService => with_client(&firewalled("ports = [\"tcp/22\"]"), &["db"]),
        Code::NobodysService => ["\"192.0.2.7\"", ""]
            .iter()
            .flat_map(|allowed| {
                let hidden = firewalled("ports = [\"tcp/22\"]\nprotect = true").replace("\"192.0.2.7\"", allowed);
                with_client(
                    &hidden.replace("lock-out", "lock-out.allow-no-way-back = true\nlock-out"),
                    &[],
                )
            })
            .collect(),
        // The host's firewall
        Code::NoJournal => vec![no_journal()],
        Code::NoIpset => vec![ipset_finding("could not speak to ipset in the kernel: EPROTONOSUPPORT")],
        Code::NotLooked => vec![
            not_looked("not run as root").with_try("the same as root"),
            not_looked("/proc/net: no"),
        ],
        Code::FirewallUnread => {
            let missing = BackendError::new("nftables", "nft is not installed".to_owned());
            vec![
                unread(&missing),
                unread(&missing.clone().with_hint("install the package nftables")),
            ]
        }
        Code::JumpNotFirst | Code::ReachableBefore => {
            let saved = "*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp -j ACCEPT\n-A INPUT -j SPA\nCOMMIT\n";
            let rules = [json!([{ "accept": null }]), json!([{ "jump": { "target": "SPA" } }])];
            on_host("INPUT", saved)
                .into_iter()
                .chain(earlier("input", &rules))
                .collect()
        }
        Code::NotAsked => earlier("forward", &[]),
        Code::PublishedPort => ["DNAT --to-destination 172.17.0.2:80", "REDIRECT --to-ports 80"]
            .iter()
            .flat_map(|target| {
                on_host(
                    "INPUT",
                    &format!("*nat\n-A PREROUTING -p tcp --dport 8080 -j {target}\n"),
                )
            })
            .chain(earlier("prerouting", &[json!([{ "dnat": { "addr": "10.0.0.2" } }])]))
            .collect(),
        Code::ListenerNotJudged | Code::NobodyPublishes => on_host("FORWARD", ""),
        Code::NobodyListens => on_host("INPUT", "").into_iter().chain(on_quiet_host()).collect(),
        Code::LaterDrop => later(&["inet", "ip"].map(|family| {
            format!(
                "{{\"chain\": {{\"family\": \"{family}\", \"table\": \"filter\", \"name\": \"input\", \
                 \"hook\": \"input\", \"policy\": \"drop\"}}}}"
            )
        })),
        Code::NoNamedChain => later(&[]),
        // hosts.allow, hosts.deny, programs
        Code::EarlierLine => hosts(
            "sshd: 192.0.2.9\n# BEGIN spa-server\nsshd: /run/w/sshd\n# END spa-server\n",
            "ALL: ALL\n",
        ),
        Code::LetsEverybodyIn => hosts("sshd: ALL\n", "ALL: ALL\n"),
        Code::LetsSomeIn => hosts("sshd: .example.net\n", "ALL: ALL\n"),
        Code::NotRefused => hosts("", "ftpd: ALL\n"),
        Code::WrappersSyntax => faults(source("hosts.allow", "sshd 192.0.2.9\nsshd: 192.0.2.9"), Table::Allow),
        Code::WrappersUnreadable => {
            let plan = Plan {
                hosts_allow: "/".into(),
                hosts_deny: "/dev/null".into(),
                ..Plan::default()
            };
            tcp_wrappers::inspect::essentials(&plan)
        }
        Code::NotLinked => linkage_finding("sshd", &Linkage::NotLinked("/usr/sbin/sshd".into()))
            .into_iter()
            .collect(),
        Code::DaemonNotFound => linkage_finding("sshd", &Linkage::NotFound).into_iter().collect(),
        Code::Tcpdchk => complaint("warning: /etc/hosts.allow, line 1: no such process name\n")
            .into_iter()
            .collect(),
        Code::Backend => {
            let (config, _) = Config::from_text("server.toml", &service("tcp-wrappers", "daemon = \"sshd\"")).unwrap();
            inspect_all(&config, &Paths::new(Some(Path::new("/a b")), None))
        }
        Code::NoProgram => in_folder(|dir| commanding(&[dir.join("absent"), file(dir, "vpn", b"", 0o644)])),
        Code::LooseProgram => in_folder(|dir| commanding(&[file(dir, "vpn", b"", 0o757)])),
    }
}

// Texts of server.toml

fn either(loaded: Result<(Config, Vec<Finding>), Vec<Finding>>) -> Vec<Finding> {
    loaded.map_or_else(|findings| findings, |(_, findings)| findings)
}

fn of(text: &str) -> Vec<Finding> {
    either(Config::from_text("server.toml", text))
}

fn guarded(keys: &str) -> Vec<Finding> {
    of(&format!("{}[scan-guard]\n{keys}\n", firewalled("ports = [\"tcp/22\"]")))
}

const FIXED: &str = "knocks = [\"7311/tcp\", \"15002/udp\", \"9040/tcp\"]";

fn sequence(keys: &str) -> Vec<Finding> {
    // What ends with the bare word is a sequence that names no service.
    let (keys, service) = match keys.strip_suffix("\nservice") {
        Some(keys) => (keys, ""),
        None => (keys, "service = \"ssh\"\n"),
    };
    let text = format!("[[sequence]]\nname = \"a\"\n{service}{keys}\n");
    of(&(firewalled("ports = [\"tcp/22\"]") + &text))
}

/// The key of a rolling sequence is not there.
fn unusable_sequence() -> Vec<Finding> {
    let text = "[[sequence]]\nname = \"a\"\nservice = \"ssh\"\nrolling = true\n";
    let (config, _) = Config::from_text("server.toml", &(firewalled("ports = [\"tcp/22\"]") + text)).unwrap();
    crate::sequences::inspect(&config, &Paths::new(Some(Path::new("/nonexistent")), None), &[])
}

fn listen(keys: &str) -> Vec<Finding> {
    of(&format!("{HEAD}[listen]\n{keys}\n"))
}

fn metrics(keys: &str) -> Vec<Finding> {
    of(&format!("{}[metrics]\n{keys}\n", firewalled("ports = [\"tcp/22\"]")))
}

fn always_allow(network: &str) -> Vec<Finding> {
    of(&format!(
        "gateway.host = \"gw\"\n[lock-out]\nalways-allow = [\"{network}\"]\n"
    ))
}

fn named_chain(keys: &str) -> Vec<Finding> {
    of(&format!("{HEAD}[nftables]\n{keys}\n"))
}

fn another(name: &str, backend: &str, keys: &str) -> String {
    format!("[[service]]\nname = \"{name}\"\nbackends = [\"{backend}\"]\n{keys}\n")
}

fn service(backend: &str, keys: &str) -> String {
    HEAD.to_owned() + &another("ssh", backend, keys)
}

fn firewalled(keys: &str) -> String {
    service("iptables", keys)
}

fn named(name: &str) -> Vec<Finding> {
    of(&firewalled("ports = [\"tcp/22\"]").replace("\"ssh\"", &format!("\"{name}\"")))
}

fn with_client(text: &str, services: &[&str]) -> Vec<Finding> {
    let access = Access {
        client: "alice".to_owned(),
        services: services.iter().map(ToString::to_string).collect(),
    };
    Report::new(Config::from_text("server.toml", text), vec![access]).findings
}

// Files

/// The place of the folder does not get into the texts.
fn in_folder(find: impl Fn(&Path) -> Vec<Finding>) -> Vec<Finding> {
    let folder = tempfile::tempdir().unwrap();
    let shown = folder.path().display().to_string();
    let mut findings = find(folder.path());
    for finding in &mut findings {
        let texts = [Some(&mut finding.text), finding.file.as_mut(), finding.remedy.as_mut()];
        texts
            .into_iter()
            .flatten()
            .for_each(|text| *text = text.replace(&shown, "/etc/spa"));
    }
    findings
}

fn file(folder: &Path, name: &str, octets: &[u8], mode: u32) -> std::path::PathBuf {
    let path = folder.join(name);
    fs::write(&path, octets).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn commanding(programs: &[std::path::PathBuf]) -> Vec<Finding> {
    let found = programs.iter().flat_map(|program| {
        let keys = format!("open = [\"{}\"]", program.display());
        let (config, _) = Config::from_text("server.toml", &service("command", &keys)).unwrap();
        command::inspect::inspect(&config)
    });
    found.collect()
}

// Hosts

fn host(saved: &str, listeners: Vec<Listener>) -> Host {
    Host {
        rules: vec![(Family::V4, Ruleset::parse(saved))],
        listeners,
    }
}

/// Port 8080 of a host on which something listens to it.
fn on_host(chain: &str, saved: &str) -> Vec<Finding> {
    let listener = Listener {
        protocol: Protocol::Tcp,
        own: [0, 0, 0, 0].into(),
        port: 8080,
    };
    exposed(chain, &host(saved, vec![listener]))
}

fn on_quiet_host() -> Vec<Finding> {
    exposed("INPUT", &host("", Vec::new()))
}

fn exposed(chain: &str, host: &Host) -> Vec<Finding> {
    let keys = format!("ports = [\"tcp/8080\"]\nprotect = true\nchain = \"{chain}\"");
    let (config, _) = Config::from_text("server.toml", &firewalled(&keys)).unwrap();
    exposure::findings(&config, host)
}

/// An nftables service whose rules go into the chain input of this table.
fn in_table(table: &str) -> Config {
    let text = service("nftables", "ports = [\"tcp/22\"]\nprotect = true");
    let named = format!("{text}[nftables]\ntable = \"inet {table}\"\nchain = \"input\"\n");
    Config::from_text("server.toml", &named).unwrap().0
}

/// What it meets in a chain of this hook with these rules.
fn earlier(hook: &str, rules: &[Value]) -> Vec<Finding> {
    let kind = if hook == "prerouting" { "nat" } else { "filter" };
    let chain = json!({ "family": "inet", "table": "filter", "name": "input", "hook": hook, "type": kind });
    let rule = |(number, expr): (usize, &Value)| {
        json!({ "rule": {
            "family": "inet", "table": "filter", "chain": "input", "handle": number + 4, "expr": expr
        } })
    };
    let items: Vec<Value> = std::iter::once(json!({ "chain": chain }))
        .chain(rules.iter().enumerate().map(rule))
        .collect();
    nftables::earlier::findings_in(&in_table("filter"), &json!({ "nftables": items }))
}

/// What it meets on a host with these items in its ruleset.
fn later(items: &[String]) -> Vec<Finding> {
    let config = in_table("mine");
    let ruleset = serde_json::from_str(&format!("{{\"nftables\": [{}]}}", items.join(", "))).unwrap();
    nftables::later::findings_in(&config, &ruleset)
}

fn source<'a>(name: &'a str, text: &'a str) -> Source<'a> {
    Source {
        file: Path::new(name),
        text,
    }
}

fn hosts(allow: &str, deny: &str) -> Vec<Finding> {
    judge(
        source("hosts.allow", allow),
        source("hosts.deny", deny),
        "sshd",
        "/run/w/sshd",
    )
}
