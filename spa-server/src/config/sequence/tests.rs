use super::super::testing::{told, told_of_each, with_service};
use super::super::{Config, OneTime, SequenceKind};

fn with_sequence(keys: &str) -> String {
    let sequence = format!("[[sequence]]\nname = \"card\"\nservice = \"ssh\"\n{keys}\n");
    with_service("ports = [\"tcp/22\"]") + &sequence
}

/// Without what every fixed sequence is told.
fn others(told: &str) -> String {
    let lines: Vec<&str> = told
        .lines()
        .filter(|line| !line.contains("warning replayable"))
        .collect();
    lines.join("\n")
}

fn load(keys: &str) -> Config {
    Config::from_text("server.toml", &with_sequence(keys)).unwrap().0
}

#[test]
fn each_kind_is_understood() {
    let fixed =
        load("knocks = [\"7311/tcp\", \"15002/udp\", \"9040/tcp\"]\nwithin = \"5s\"\nsources = [\"192.0.2.0/24\"]");
    let [sequence] = fixed.sequences.as_slice() else {
        panic!("one sequence");
    };
    assert_eq!((sequence.within.as_secs(), sequence.sources.len()), (5, 1));
    assert!(matches!(&sequence.kind, SequenceKind::Fixed(stages) if stages.len() == 3));
    let list = load("one-time = [\"7311/tcp 15002/udp 9040/tcp\", \"7311:tcp,15002:udp,9041:tcp\"]");
    assert!(matches!(&list.sequences[0].kind, SequenceKind::OneTime(OneTime::List(list)) if list.len() == 2));
    let file = load("one-time = \"card.list\"");
    assert!(matches!(
        &file.sequences[0].kind,
        SequenceKind::OneTime(OneTime::File(_))
    ));
    let rolling =
        load("rolling = true\nrange = \"1024-65535\"\nexcept = [62201]\nstep = \"8h\"\ntransport = \"mixed\"");
    assert_eq!(rolling.sequences[0].within.as_secs(), 10);
}

#[test]
fn a_fixed_sequence_says_what_it_costs() {
    insta::assert_snapshot!(told(&with_sequence("knocks = [\"7311/tcp\", \"15002/udp\", \"9040/tcp\"]")), @r#"warning replayable 9:10 sequence card (replayable): whoever sees it once on its way can open ssh with it from anywhere -> rolling = true instead of knocks, or spa-client open wherever it can be had"#);
}

#[test]
fn what_is_no_sequence() {
    let keys = [
        "knocks = [\"7311/tcp\", \"9040/tcp\"]",
        "knocks = [\"7311/tcp\", \"70000/tcp\", \"9040\"]",
        "knocks = [\"tcp/7311\", \"0/udp\", \"9040/sctp\"]",
        "",
        "rolling = true\nknocks = [\"1/tcp\", \"9/tcp\", \"5/tcp\"]",
        "one-time = [\"7311/tcp 9040/tcp\"]",
        "one-time = 5",
        "rolling = true\nrange = \"1-9\"",
        "rolling = true\nlength = 9",
        "rolling = true\nstep = \"1s\"",
        "knocks = [\"7311/tcp\", \"9040/tcp\", \"22/udp\"]\nstep = \"1m\"",
        "knocks = [\"7311/tcp\", \"9040/tcp\", \"22/udp\"]\nwithin = \"1h\"",
        "knocks = [\"7311/tcp\", \"9040/tcp\", \"22/udp\"]\ntcp-flags = [\"!ack\"]",
        "knocks = [\"7311/tcp\", \"9040/tcp\", \"22/udp\"]\nsources = [\"192.0.2.1/24\"]",
    ];
    insta::assert_snapshot!(others(&told_of_each(&with_sequence("{}"), &keys)), @r#"
    `knocks = ["7311/tcp", "9040/tcp"]`
        error sequence-length 9:10 2 ports are found by trying; a sequence has at least 3 -> knocks = ["7311/tcp", "15002/udp", "9040/tcp"]
    `knocks = ["7311/tcp", "70000/tcp", "9040"]`
        error bad-knock 9:23 "70000/tcp" names a port above 65535 -> 7000/tcp, or 8000/udp
        error bad-knock 9:36 "9040" does not say tcp or udp -> 9040/tcp
    `knocks = ["tcp/7311", "0/udp", "9040/sctp"]`
        error bad-knock 9:11 "tcp/7311" has the protocol in front of the port -> 7311/tcp
        error bad-knock 9:23 "0/udp" names port 0, which nobody can reach -> 7000/tcp, or 8000/udp
        error bad-knock 9:32 "9040/sctp" names a protocol that is neither tcp nor udp -> 7000/tcp, or 8000/udp
    ``
        error no-knocks 6:1 sequence card has not exactly one of knocks, one-time and rolling -> knocks = ["7311/tcp", "15002/udp", "9040/tcp"], or rolling = true
    `rolling = true
    knocks = ["1/tcp", "9/tcp", "5/tcp"]`
        error no-knocks 6:1 sequence card has not exactly one of knocks, one-time and rolling -> knocks = ["7311/tcp", "15002/udp", "9040/tcp"], or rolling = true
    `one-time = ["7311/tcp 9040/tcp"]`
        error bad-one-time 9:12 one-time sequence 1: 2 ports are found by trying; a sequence has at least 3 -> one-time = ["7311/tcp 15002/udp 9040/tcp"]
    `one-time = 5`
        error wrong-type 9:12 one-time takes the name of a file in quotes, or a list of sequences in brackets; this is of type integer -> one-time = ["7311/tcp 15002/udp 9040/tcp"]
    `rolling = true
    range = "1-9"`
        error bad-rolling 10:9 range: leaves 9 ports to choose from; at least 1024 are needed -> range = "20000-39999"
    `rolling = true
    length = 9`
        error bad-rolling 10:10 length: 9 is not between 3 and 8 -> length = 4
    `rolling = true
    step = "1s"`
        error bad-rolling 10:8 step: 1s is not between 30s and 7d -> step = "1m"
    `knocks = ["7311/tcp", "9040/tcp", "22/udp"]
    step = "1m"`
        error not-rolling 10:8 only a rolling sequence has this setting -> rolling = true, without knocks and one-time
    `knocks = ["7311/tcp", "9040/tcp", "22/udp"]
    within = "1h"`
        error bad-within 10:10 within 1h is not between 1s and 10m -> within = "10s"
    `knocks = ["7311/tcp", "9040/tcp", "22/udp"]
    tcp-flags = ["!ack"]`
        error bad-tcp-flags 10:13 tcp-flags takes one or more of fin, syn, rst, psh, ack, urg -> tcp-flags = ["syn"]
    `knocks = ["7311/tcp", "9040/tcp", "22/udp"]
    sources = ["192.0.2.1/24"]`
        error bad-source 10:12 "192.0.2.1/24": 192.0.2.1/24 has host bits: write 192.0.2.0/24 -> 198.51.100.0/24
    "#);
}

#[test]
fn ports_that_serve_something_and_sequences_that_a_scan_would_find() {
    let keys = [
        "knocks = [\"7311/tcp\", \"22/tcp\", \"9040/tcp\"]",
        "knocks = [\"7311/tcp\", \"62201/udp\", \"9040/tcp\"]",
        "knocks = [\"7311/tcp\", \"7312/tcp\", \"7313/tcp\"]",
        "knocks = [\"7313/udp\", \"7312/udp\", \"7311/udp\"]",
        "knocks = [\"7000/tcp\", \"8000/tcp\", \"9000/udp\"]",
        "knocks = [\"7311/udp\", \"9040/udp\", \"7311/udp\"]",
        "knocks = [\"7311/tcp\", \"9040/tcp\", \"7000/tcp\"]\ntcp-flags = [\"ack\"]",
        "rolling = true\nrange = \"20-9999\"",
        "rolling = true\nrange = \"62000-65000\"",
        "one-time = [\"7311/tcp 22/tcp 9040/tcp\"]",
    ];
    insta::assert_snapshot!(others(&told_of_each(&with_sequence("{}"), &keys)), @r#"
    `knocks = ["7311/tcp", "22/tcp", "9040/tcp"]`
        error sequence-port 9:23 22/tcp belongs to service ssh: the sequence would never see it -> a port that serves nothing
    `knocks = ["7311/tcp", "62201/udp", "9040/tcp"]`
        error sequence-port 9:23 62201/udp is where knocks go: the sequence would never see it -> a port that serves nothing
    `knocks = ["7311/tcp", "7312/tcp", "7313/tcp"]`
        error swept-sequence 9:10 these ports follow each other: a plain scan in order would open the door -> ports that are not neighbours
    `knocks = ["7313/udp", "7312/udp", "7311/udp"]`
        error swept-sequence 9:10 these ports follow each other: a plain scan in order would open the door -> ports that are not neighbours
    `knocks = ["7000/tcp", "8000/tcp", "9000/udp"]`
        warning well-known-sequence 9:10 7000, 8000, 9000 is the example of every manual -> ports of your own, in no order
    `knocks = ["7311/udp", "9040/udp", "7311/udp"]`
        warning repeated-port 9:35 7311/udp comes twice: from one socket the second looks like a repeat and is passed over -> each UDP port once
    `knocks = ["7311/tcp", "9040/tcp", "7000/tcp"]
    tcp-flags = ["ack"]`
        warning common-flags 10:13 every connection sends packets with ack: a person's own can reset the sequence -> tcp-flags = ["syn"]
    `rolling = true
    range = "20-9999"`
        error sequence-port 10:9 1 of the ports to choose from are in use here, the first is 22 -> except = [22]
    `rolling = true
    range = "62000-65000"`
        error sequence-port 10:9 1 of the ports to choose from are in use here, the first is 62201 -> except = [62201]
    `one-time = ["7311/tcp 22/tcp 9040/tcp"]`
        error sequence-port 9:12 one-time sequence 1: 22/tcp belongs to service ssh: the sequence would never see it -> a port that serves nothing
    "#);
}

#[test]
fn names_services_and_beginnings() {
    let first = with_sequence("knocks = [\"7311/tcp\", \"15002/udp\", \"9040/tcp\"]");
    let more = [
        "name = \"card\"\nservice = \"ssh\"\nrolling = true",
        "name = \"Card\"\nservice = \"shs\"\nrolling = true",
        "rolling = true",
        "name = \"two\"\nservice = \"ssh\"\nknocks = [\"7311/tcp\", \"15002/udp\", \"9040/tcp\", \"5/udp\"]",
        "name = \"two\"\nservice = \"ssh\"\none-time = [\"7311/tcp 15002/udp 9040/tcp\"]",
        "name = \"two\"\nservice = \"ssh\"\nknocks = [\"7311/tcp\", \"15002/udp\", \"9041/tcp\"]",
    ];
    insta::assert_snapshot!(others(&told_of_each(&(first + "[[sequence]]\n{}\n"), &more)), @r#"
    `name = "card"
    service = "ssh"
    rolling = true`
        error duplicate-name 11:8 there is a sequence card already -> another name
    `name = "Card"
    service = "shs"
    rolling = true`
        error bad-name 11:8 "Card" is no sequence name -> lower-case letters, digits, and . _ - after the first character
        error unknown-service 12:11 there is no service shs -> ssh
    `rolling = true`
        error no-name 10:1 this sequence has no name -> name = "ssh"
        error no-service-named 10:1 this sequence names no service: it would open nothing -> service = "ssh"
    `name = "two"
    service = "ssh"
    knocks = ["7311/tcp", "15002/udp", "9040/tcp", "5/udp"]`
        error sequence-beginning 13:10 sequence two begins with sequence card, or the other way round -> another first port in one of the two
    `name = "two"
    service = "ssh"
    one-time = ["7311/tcp 15002/udp 9040/tcp"]`
        error sequence-beginning 13:12 sequence two begins with sequence card, or the other way round -> another first port in one of the two
    `name = "two"
    service = "ssh"
    knocks = ["7311/tcp", "15002/udp", "9041/tcp"]`
    "#);
}
