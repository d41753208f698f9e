//! The built program sends to sockets on the loopback addresses, and the real judgement accepts what comes.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use spa_keys::Demands;
use spa_keys::profile::{AddressMode, ProfileService};
use spa_proto::{Act, Address, Request, ServiceName};

mod common;

use common::{Arrival, Device, Judge, Mailbox, free_port, invite, json, profile};

/// What a request says, in words.
fn words(request: &Request) -> String {
    let list = |services: &[ServiceName]| services.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(" ");
    let whose = |address: &Address| address.named().map_or("as seen".into(), |named| named.to_string());
    match &request.act {
        Act::Open {
            address,
            duration_s,
            services,
        } => {
            format!("open {} for {duration_s} s, {}", list(services), whose(address))
        }
        Act::Close { address, services } => format!("close {}, {}", list(services), whose(address)),
        Act::Enroll(_) => "enroll".into(),
    }
}

/// One datagram a round, as late as the protocol says.
fn assert_three_rounds(arrivals: &[Arrival]) {
    let [first, second, third] = arrivals else {
        panic!("{} datagrams", arrivals.len());
    };
    let since = |arrival: &Arrival| arrival.at.duration_since(first.at).as_millis();
    assert!((450..1_400).contains(&since(second)), "{}", since(second));
    assert!((1_450..4_000).contains(&since(third)), "{}", since(third));
}

#[test]
fn open_goes_out_three_times() {
    for host in ["127.0.0.1", "::1"] {
        let Some(mailbox) = Mailbox::open(host, 1) else {
            continue;
        };
        let device = Device::new();
        device.write("gw", &profile(host, &mailbox.ports));
        let mut judge = Judge::new(&mailbox.ports);
        let output = device.run(&["open", "gw", "ssh", "db", "--for", "1h", "--json"]);
        assert_eq!(output.status.code(), Some(0));
        let arrivals = mailbox.close();
        assert_three_rounds(&arrivals);
        let said = judge.accept_all(&arrivals, words);
        assert_eq!(said, ["open ssh db for 3600 s, as seen"; 3]);
        let report = json(&output);
        let lengths: Vec<_> = arrivals.iter().map(|arrival| arrival.octets.len() as u64).collect();
        for (sent, length) in report["sent"].as_array().unwrap().iter().zip(lengths) {
            assert_eq!((&sent["address"], sent["bytes"].as_u64()), (&host.into(), Some(length)));
        }
        assert_eq!(
            report["services"][1],
            serde_json::json!({"name": "db", "state": "sent"})
        );
    }
}

#[test]
fn once_is_one_round_and_quick() {
    let mailbox = Mailbox::open("127.0.0.1", 2).unwrap();
    let device = Device::new();
    let mut known = profile("127.0.0.1", &mailbox.ports);
    let hour = ProfileService {
        connect: None,
        duration: std::num::NonZeroU32::new(3_600),
    };
    known.services.insert("db".parse().unwrap(), hour);
    device.write("gw", &known);
    let mut judge = Judge::new(&mailbox.ports);
    let begin = Instant::now();
    let output = device.run(&["open", "gw", "ssh", "db", "--once"]);
    // Well before a third round would have gone out, however busy this machine is.
    assert!(begin.elapsed() < Duration::from_millis(1_400));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "sent: open ssh db (4 datagrams to 127.0.0.1)\n"
    );
    let mut arrivals = mailbox.close();
    // Ports in their order, on each a request for each length of time.
    arrivals.sort_by_cached_key(|arrival| judge.accept(arrival).request().timestamp);
    let ports: Vec<_> = arrivals.iter().map(|arrival| arrival.port).collect();
    let [first, second] = *known.home.ports.numbers().collect::<Vec<_>>() else {
        panic!()
    };
    assert_eq!(ports, [first, first, second, second]);
    let said = Judge::new(&ports).accept_all(&arrivals, words);
    let pair = ["open ssh for 0 s, as seen", "open db for 3600 s, as seen"];
    assert_eq!(said, [pair, pair].concat());
}

#[test]
fn each_family_named_is_a_message() {
    let mailbox = Mailbox::open("127.0.0.1", 1).unwrap();
    let device = Device::new();
    device.write("gw", &profile("127.0.0.1", &mailbox.ports));
    let mut judge = Judge::new(&mailbox.ports);
    let typed = ["--address", "192.0.2.7", "--address", "2001:db8::7", "--once"];
    device.command(&["close", "gw", "ssh"]).args(typed).assert().success();
    let said = judge.accept_all(&mailbox.close(), words);
    assert_eq!(said, ["close ssh, 192.0.2.7", "close ssh, 2001:db8::7"]);
}

#[test]
fn the_profile_names_addresses_too() {
    let mailbox = Mailbox::open("127.0.0.1", 1).unwrap();
    let device = Device::new();
    let mut known = profile("127.0.0.1", &mailbox.ports);
    let address = Address::explicit("192.0.2.7".parse().unwrap()).unwrap();
    known.address = AddressMode::explicit(vec![address]).unwrap();
    device.write("gw", &known);
    let mut judge = Judge::new(&mailbox.ports);
    device.command(&["open", "gw", "ssh", "--once"]).assert().success();
    device
        .command(&["open", "gw", "ssh", "--once", "--as-seen"])
        .assert()
        .success();
    let said = judge.accept_all(&mailbox.close(), words);
    assert_eq!(said, ["open ssh for 0 s, 192.0.2.7", "open ssh for 0 s, as seen"]);
}

/// A name with addresses of both families exists in a mount namespace with a hosts file of its own: root only.
#[test]
fn a_name_is_knocked_at_in_both_families() {
    let device = Device::new();
    let hosts = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(hosts.path(), "127.0.0.1 gw.test\n::1 gw.test\n").unwrap();
    let in_namespace = |rest: &str| {
        let script = format!("mount --bind {} /etc/hosts && {rest}", hosts.path().display());
        let mut command = std::process::Command::new("unshare");
        command
            .args(["-m", "sh", "-c", &script])
            .env("SPA_CONFIG_DIR", device.path());
        command.output()
    };
    let (Some(v4), Some(v6)) = (Mailbox::open("127.0.0.1", 1), Mailbox::open("::1", 1)) else {
        return;
    };
    if !in_namespace("getent hosts gw.test").is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no right to a mount namespace");
        return;
    }
    let ports = [v4.ports[0], v6.ports[0]];
    device.write("gw", &profile("gw.test", &ports));
    let program = assert_cmd::cargo::cargo_bin("spa-client");
    let output = in_namespace(&format!("{} open gw ssh --json", program.display())).unwrap();
    assert_eq!(json(&output)["sent"].as_array().unwrap().len(), 12);
    let mut judge = Judge::new(&ports);
    for mailbox in [v4, v6] {
        let arrivals = mailbox.close();
        assert_three_rounds(&arrivals);
        judge.accept_all(&arrivals, words);
    }
}

#[test]
fn a_dry_run_sends_nothing() {
    let mailbox = Mailbox::open("127.0.0.1", 1).unwrap();
    let device = Device::new();
    device.write("gw", &profile("127.0.0.1", &mailbox.ports));
    let output = device.run(&["open", "gw", "ssh", "--dry-run", "--json"]);
    assert_eq!(json(&output)["sent"].as_array().unwrap().len(), 3);
    let text = String::from_utf8(device.run(&["close", "gw", "ssh", "--dry-run", "--once"]).stdout).unwrap();
    assert!(text.starts_with("would send "), "{text}");
    assert!(
        text.ends_with(&format!("127.0.0.1 port {}\nnothing was sent\n", mailbox.ports[0])),
        "{text}"
    );
    assert!(mailbox.close().is_empty());
}

#[test]
fn an_enrollment_is_repeated_and_then_opens() {
    for host in ["127.0.0.1", "::1"] {
        let Some(mailbox) = Mailbox::open(host, 1) else {
            continue;
        };
        let device = Device::new();
        let text = invite(host, &mailbox.ports, "ssh=tcp/22,db", Demands::default()).to_text();
        let mut judge = Judge::new(&mailbox.ports);
        let enroll = ["enroll", "--profile", "gw", "--json", "--no-proof"];
        for words in [
            [&enroll[..], &["-"]].concat(),
            enroll.to_vec(),
            [&enroll[..], &[&text]].concat(),
        ] {
            let output = device
                .command(&words)
                .write_stdin(format!("{}\n", *text))
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(0));
            assert_eq!(json(&output)["sent"].as_array().unwrap().len(), 3);
        }
        let made = device.read("gw").home;
        device.command(&["open", "gw", "ssh", "--once"]).assert().success();
        let arrivals = mailbox.close();
        assert_three_rounds(&arrivals[..3]);
        judge.accept_all(&arrivals[..9], |request| match &request.act {
            Act::Enroll(new) => {
                assert_eq!((new.public_key, &new.psk), (made.secret.public(), &made.psk));
                assert_eq!(new.label.as_str(), rustix::system::uname().nodename().to_str().unwrap());
            }
            act => panic!("{act:?}"),
        });
        judge.admit(made.secret.public(), &made.psk);
        let said = judge.accept_all(&arrivals[9..], words);
        assert_eq!(said, ["open ssh for 0 s, as seen"]);
    }
}

#[test]
fn nothing_is_lost_when_the_host_is_wrong_at_first() {
    let mailbox = Mailbox::open("127.0.0.1", 1).unwrap();
    let device = Device::new();
    let text = invite("nosuch.invalid", &mailbox.ports, "ssh", Demands::default()).to_text();
    device.command(&["enroll", &text]).assert().code(1);
    let before = device.read("nosuch.invalid").home;
    device
        .command(&["enroll", &text, "--host", "127.0.0.1"])
        .assert()
        .success();
    let after = device.read("nosuch.invalid").home;
    assert_eq!(after.host.as_str(), "127.0.0.1");
    assert_eq!(
        (after.secret.public(), &after.psk),
        (before.secret.public(), &before.psk)
    );
    assert_eq!(
        Judge::new(&mailbox.ports).accept_all(&mailbox.close(), words),
        ["enroll"; 3]
    );
}

#[test]
fn wait_ends_when_the_service_answers() {
    let port = free_port();
    let mailbox = Mailbox::open_with("127.0.0.1", 1, move |count| {
        if count == 1 {
            std::mem::forget(TcpListener::bind(("127.0.0.1", port)).unwrap());
        }
    })
    .unwrap();
    let device = Device::new();
    let mut known = profile("127.0.0.1", &mailbox.ports);
    let place = format!("tcp/{port}").parse().unwrap();
    known.services.get_mut(&"ssh".parse().unwrap()).unwrap().connect = Some(place);
    device.write("gw", &known);
    let output = device.run(&["open", "gw", "ssh", "--wait"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said, format!("open: ssh (tcp/{port} answers at 127.0.0.1)\n"));
    assert!(mailbox.close().len() < 3, "repeats after the service answered");
}

#[test]
fn wait_says_why_nothing_opened() {
    let port = free_port();
    let mailbox = Mailbox::open("127.0.0.1", 1).unwrap();
    let device = Device::new();
    let mut known = profile("127.0.0.1", &mailbox.ports);
    let place = format!("tcp/{port}").parse().unwrap();
    known.services.get_mut(&"ssh".parse().unwrap()).unwrap().connect = Some(place);
    device.write("gw", &known);
    let output = device.run(&["open", "gw", "ssh", "--wait", "--timeout", "1s", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report = json(&output);
    assert_eq!(
        report["services"],
        serde_json::json!([{"name": "ssh", "state": "closed"}])
    );
    assert_eq!(report["sent"].as_array().unwrap().len(), 2);
    assert_eq!(
        report["hints"],
        serde_json::json!([
            "ssh did not open within 1s",
            format!("127.0.0.1 answered tcp/{port} with a refusal: the way is open, but ssh is not running there"),
        ])
    );
}

/// What the requests that arrived carry as their code.
fn codes(judge: &mut Judge, arrivals: &[Arrival]) -> Vec<Option<u32>> {
    judge.accept_all(arrivals, |request| request.code.map(spa_proto::Code::number))
}

#[test]
fn a_pin_goes_with_the_enrollment() {
    let mailbox = Mailbox::open("127.0.0.1", 1).unwrap();
    let device = Device::new();
    let demands = Demands {
        pin: true,
        ..Demands::default()
    };
    let text = invite("127.0.0.1", &mailbox.ports, "ssh", demands).to_text();
    let pin = |words: &[&str]| device.command(words).write_stdin("0123 4567\n").assert().success();
    pin(&["enroll", &text, "--pin"]);
    pin(&["enroll", &text, "--pin-fd", "0"]);
    let arrivals = mailbox.close();
    let mut judge = Judge::new(&[arrivals[0].port]);
    assert_eq!(codes(&mut judge, &arrivals), [Some(1_234_567); 6]);
}

#[test]
fn a_one_time_code_goes_with_each_opening_and_no_closing() {
    let mailbox = Mailbox::open("127.0.0.1", 1).unwrap();
    let device = Device::new();
    device.write("gw", &profile("127.0.0.1", &mailbox.ports));
    let code = |words: &[&str]| device.command(words).write_stdin("000042\n").assert().success();
    code(&["open", "gw", "ssh", "--one-time-code-fd", "0"]);
    code(&["close", "gw", "ssh", "--once"]);
    let arrivals = mailbox.close();
    let mut judge = Judge::new(&[arrivals[0].port]);
    assert_eq!(codes(&mut judge, &arrivals), [Some(42), Some(42), Some(42), None]);
}

#[test]
fn a_clock_that_is_off_is_corrected() {
    let mailbox = Mailbox::open("127.0.0.1", 1).unwrap();
    let device = Device::new();
    device.write("gw", &profile("127.0.0.1", &mailbox.ports));
    for offset in ["-200s", "+200s"] {
        let open = ["open", "gw", "ssh", "--once", "--address", "192.0.2.7"];
        device
            .command(&open)
            .args(["--clock-offset", offset])
            .assert()
            .success();
    }
    let now = spa_keys::units::now().as_secs();
    let arrivals = mailbox.close();
    let mut judge = Judge::new(&[arrivals[0].port]);
    let stamps = judge.accept_all(&arrivals, |request| request.timestamp.as_secs());
    let [early, late] = stamps[..] else {
        panic!("{stamps:?}")
    };
    assert!((now - 230..=now - 200).contains(&early), "{early} at {now}");
    assert!((now + 170..=now + 200).contains(&late), "{late} at {now}");
}

#[test]
fn a_sealed_profile_opens_doors() {
    let mailbox = Mailbox::open("127.0.0.1", 1).unwrap();
    let device = Device::new();
    let passphrase = spa_keys::profile::Passphrase::new("correct horse".to_owned().into()).unwrap();
    let known = profile("127.0.0.1", &mailbox.ports);
    device
        .folder()
        .create(&"gw".parse().unwrap(), &known, Some(&passphrase))
        .unwrap();
    let words_typed = ["open", "gw", "ssh", "--once", "--passphrase-fd", "0"];
    device
        .command(&words_typed)
        .write_stdin("correct horse\n")
        .assert()
        .success();
    let said = Judge::new(&mailbox.ports).accept_all(&mailbox.close(), words);
    assert_eq!(said, ["open ssh for 0 s, as seen"]);
}

#[test]
fn an_enrollment_is_proved_by_a_door() {
    let port = free_port();
    // The service answers from the first knock on: the datagram after the three of the enrollment.
    let mailbox = Mailbox::open_with("127.0.0.1", 1, move |count| {
        if count == 4 {
            std::mem::forget(TcpListener::bind(("127.0.0.1", port)).unwrap());
        }
    })
    .unwrap();
    let device = Device::new();
    let text = invite(
        "127.0.0.1",
        &mailbox.ports,
        &format!("ssh=tcp/{port}"),
        Demands::default(),
    )
    .to_text();
    let report = json(&device.run(&["enroll", &text, "--profile", "gw", "--json"]));
    assert_eq!(report["proof"], "open");
    assert_eq!(report["sent"].as_array().unwrap().len(), 3);
    let (made, arrivals) = (device.read("gw").home, mailbox.close());
    let mut judge = Judge::new(&[arrivals[0].port]);
    judge.accept_all(&arrivals[..3], |_| ());
    judge.admit(made.secret.public(), &made.psk);
    let said = judge.accept_all(&arrivals[3..], words);
    assert_eq!(said.first().unwrap(), "open ssh for 0 s, as seen");
    assert_eq!(said.last().unwrap(), "close ssh, as seen");
}

#[test]
fn an_enrollment_that_proves_nothing_is_sent_all_the_same() {
    let port = free_port();
    let mailbox = Mailbox::open("127.0.0.1", 1).unwrap();
    let device = Device::new();
    let text = invite(
        "127.0.0.1",
        &mailbox.ports,
        &format!("ssh=tcp/{port}"),
        Demands::default(),
    )
    .to_text();
    let output = device.run(&["enroll", &text, "--profile", "gw"]);
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        said.contains("\nsent: enroll (3 datagrams to 127.0.0.1)\nnot proved yet: ssh did not open"),
        "{said}"
    );
}
