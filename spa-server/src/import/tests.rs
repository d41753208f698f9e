use super::*;
use crate::config::SequenceKind;

/// As Debian ships it.
const DEBIAN: &str = "[options]
\tUseSyslog

[openSSH]
\tsequence    = 7000,8000,9000
\tseq_timeout = 5
\tcommand     = /sbin/iptables -A INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
\ttcpflags    = syn

[closeSSH]
\tsequence    = 9000,8000,7000
\tseq_timeout = 5
\tcommand     = /sbin/iptables -D INPUT -s %IP% -p tcp --dport 22 -j ACCEPT
\ttcpflags    = syn

[openHTTPS]
\tsequence    = 12345,54321,24680,13579
\tseq_timeout = 5
\tcommand     = /usr/local/sbin/knock_add -i -c INPUT -p tcp -d 443 -f %IP%
\ttcpflags    = syn
";

fn notes(imported: &Imported) -> Vec<(usize, &str)> {
    imported
        .notes
        .iter()
        .map(|note| (note.line, note.text.as_str()))
        .collect()
}

fn errors(imported: &Imported) -> Vec<&str> {
    let errors = imported.findings.iter().filter(|finding| finding.is_error());
    errors.map(|finding| finding.text.as_str()).collect()
}

#[test]
fn debian_s_own_file() {
    let imported = import(DEBIAN).unwrap();
    insta::assert_snapshot!(imported.toml, @r#"
    # From a knockd.conf: to be added to server.toml, then: spa-server check

    [[service]]
    name = "ssh"
    backends = ["iptables"]
    ports = ["tcp/22"]
    # true hides the port from everybody else.
    protect = false
    duration = "30s"

    [[service]]
    name = "openhttps"
    backends = ["command"]
    open = ["/usr/local/sbin/knock_add", "-i", "-c", "INPUT", "-p", "tcp", "-d", "443", "-f", "{address}"]
    duration = "30s"

    [[sequence]]
    name = "openssh"
    service = "ssh"
    knocks = ["7000/tcp", "8000/tcp", "9000/tcp"]
    within = "5s"

    [[sequence]]
    name = "openhttps"
    service = "openhttps"
    knocks = ["12345/tcp", "54321/tcp", "24680/tcp", "13579/tcp"]
    within = "5s"
    "#);
    let lines: Vec<usize> = imported.notes.iter().map(|note| note.line).collect();
    assert_eq!((lines, errors(&imported)), (vec![2, 7, 13], vec![]));
    let (config, _) = Config::from_text("", &imported.toml).unwrap();
    assert_eq!((config.services.len(), config.sequences.len()), (2, 2));
}

#[test]
fn commands_both_families_and_one_time_lists() {
    let text = "[options]\n Interface = eth1\n[Door One]\n One_Time_Sequences = /etc/knockd/list\n\
        Start_Command = /usr/bin/vpn up %IP%\n Start_Command_6 = /usr/bin/vpn6 up %IP%\n Cmd_Timeout = 3600\n\
        Stop_Command = /usr/bin/vpn down %IP%\n[web]\n sequence = 100:udp, 2000:TCP ,300\n\
        start_command = iptables -I INPUT 1 -s %IP% -p tcp --dport 443 -j ACCEPT\n cmd_timeout = 10\n\
        stop_command = iptables -D INPUT -s %IP% -p tcp --dport 443 -j ACCEPT\n tcpflags = fin,!ack\n";
    let imported = import(text).unwrap();
    insta::assert_snapshot!(imported.toml, @r#"
    # From a knockd.conf: to be added to server.toml, then: spa-server check

    [[service]]
    name = "door-one"
    backends = ["command"]
    open = ["/usr/bin/vpn", "up", "{address}"]
    close = ["/usr/bin/vpn", "down", "{address}"]
    duration = "1h"

    [[service]]
    name = "tcp-443"
    backends = ["iptables"]
    ports = ["tcp/443"]
    # true hides the port from everybody else.
    protect = false
    duration = "10s"

    [[sequence]]
    name = "door-one"
    service = "door-one"
    one-time = "/etc/knockd/list"
    within = "25s"

    [[sequence]]
    name = "web"
    service = "tcp-443"
    knocks = ["100/udp", "2000/tcp", "300/tcp"]
    within = "25s"
    tcp-flags = ["fin"]
    "#);
    assert_eq!(
        notes(&imported),
        [
            (2, "Interface: write interfaces = [\"eth1\"] under [listen]"),
            (
                6,
                "Start_Command_6 is another command than Start_Command: both families run the latter, with {address}"
            ),
            (
                13,
                "the firewall service ends the door by itself; its stop command is not needed"
            ),
        ]
    );
    let (config, _) = Config::from_text("", &imported.toml).unwrap();
    assert!(matches!(&config.sequences[1].kind, SequenceKind::Fixed(stages) if stages.len() == 3));
}

#[test]
fn what_cannot_be_carried_over_is_told_with_its_line() {
    let text = "[a]\nsequence = 1,2000\ncommand = /bin/true\n[b]\nsequence = 1,2000,3\ncommand = /bin/echo %IP% | mail root\n\
        [c]\nsequence = 1,2000,3\ncommand = touch /tmp/x\n[d]\nsequence = 1,2000,3\n";
    let imported = import(text).unwrap();
    assert_eq!(
        notes(&imported),
        [
            (1, "[a] is left out: it has fewer than 3 ports"),
            (
                6,
                "[b] is left out: its command has | in it, which only a shell understands; put it into a script"
            ),
            (9, "[c] is left out: its command does not begin with a whole path"),
            (10, "[d] is left out: it has no start command"),
        ]
    );
    assert_eq!(imported.sequences, 0);
}

#[test]
fn what_knockd_does_not_have_is_an_error() {
    let cases = [
        ("[options]\ncolour = red", 2, "no option colour"),
        ("[a]\nsequence = 1,2,3\ncomand = /bin/true", 3, "no directive comand"),
        ("[a]\nsequence = 1,70000,3", 2, "above 65535"),
        ("[a]\nsequence = 1,2:sctp,3", 2, "neither tcp nor udp"),
        ("[a]\nsequence = 1,2,3\nseq_timeout = soon", 3, "no number of seconds"),
        ("[a]\nsequence = 1,2,3\ntcpflags = sin", 3, "no TCP flag"),
        ("[a]\ncommand = /bin/true", 1, "neither Sequence nor"),
        ("sequence = 1,2,3", 1, "in front of the first section"),
    ];
    for (text, line, part) in cases {
        let error = import(text).unwrap_err();
        assert!(error.line == line && error.what.contains(part), "{error}");
    }
}

#[test]
fn names_are_made_to_fit_and_differ() {
    let door = |name: &str| {
        format!(
            "[{name}]\nsequence = 1,2000,{}\ncommand = /bin/true\n",
            name.len() + 100
        )
    };
    let text = [
        door("A Very Long Name Of A Door Indeed"),
        door("..x"),
        door("X"),
        door("ÄÖ"),
    ]
    .concat();
    let imported = import(&text).unwrap();
    assert_eq!(errors(&imported), [""; 0]);
    let (config, _) = Config::from_text("", &imported.toml).unwrap();
    let names: Vec<_> = config.sequences.iter().map(|sequence| sequence.name.as_str()).collect();
    assert_eq!(names, ["a-very-long-name-of-a", "x", "x-2", "door"]);
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "(\\[[a-z]{0,3}\\]|sequence|command|=|[0-9,:]|\n| |%IP%|/){0,40}") {
        let _ = import(&text);
    }
}
