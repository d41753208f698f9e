//! From text to what was typed: a syntax error alone, or every unknown key and every value of a wrong kind.
//!
//! serde stops at the first key it does not know. So what it points at is noted, cut out of the parsed tree, and the
//! reading begun again, until all that is left fits.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer, Error};

use super::code::Code;
use super::finding::Finding;
use super::findings::Findings;
use super::nearest::nearest;
use super::raw::RawConfig;

/// More slips than this in one file are not counted out.
const MOST_SLIPS: usize = 100;

/// Reads `source`; none when its syntax is broken, which the one finding then says.
pub(super) fn read(source: &str, findings: &mut Findings<'_>) -> Option<RawConfig> {
    let (tree, errors) = DeTable::parse_recoverable(source);
    // Most of those that follow are echoes of the first.
    let Some(error) = errors
        .iter()
        .min_by_key(|error| error.span().map_or(0, |span| span.start))
    else {
        return Some(fit(tree, source, findings));
    };
    let text = format!("this is no TOML: {}", one_line(error.message()));
    findings.at(&error.span().unwrap_or(0..0), Finding::error(Code::Syntax, text));
    None
}

/// Cuts out what does not fit until the rest does.
fn fit(mut tree: Spanned<DeTable<'_>>, source: &str, findings: &mut Findings<'_>) -> RawConfig {
    cut_misshapen(tree.get_mut(), findings);
    for _ in 0..MOST_SLIPS {
        let error = match RawConfig::deserialize(Deserializer::from(tree.clone())) {
            Ok(raw) => return raw,
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..source.len());
        let Some(cut) = cut_from_table(tree.get_mut(), &span) else {
            findings.at(&span, Finding::error(Code::WrongType, one_line(error.message())));
            break;
        };
        findings.at(&span, explain(&error, &cut));
        findings.mark_damaged();
    }
    RawConfig::default()
}

/// Tables that must stand alone, and those of which there may be many. serde would take a list in place of the former.
const TABLES: [&str; 10] = [
    "gateway",
    "sandbox",
    "listen",
    "lock-out",
    "nftables",
    "tcp-wrappers",
    "scan-guard",
    "log",
    "audit",
    "metrics",
];
const LISTS: [&str; 2] = ["service", "sequence"];

fn cut_misshapen(tree: &mut DeTable<'_>, findings: &mut Findings<'_>) {
    for name in TABLES.iter().chain(&LISTS) {
        let Some((key, value)) = tree.get_key_value(*name) else {
            continue;
        };
        let fits = match value.get_ref() {
            DeValue::Array(items) => LISTS.contains(name) && items.iter().all(|item| item.get_ref().is_table()),
            DeValue::Table(_) => TABLES.contains(name),
            _ => false,
        };
        if !fits {
            let text = format!("{name} is not written as {}", header(name));
            let remedy = format!("{} on a line of its own, its keys below", header(name));
            findings.at(&key.span(), Finding::error(Code::WrongType, text).with_try(remedy));
            findings.mark_damaged();
            tree.remove(*name);
        }
    }
}

/// What was cut out: the keys down to it, outermost first, and the kind of value.
#[derive(Default)]
struct Cut {
    path: Vec<String>,
    kind: &'static str,
}

/// Takes out the innermost entry whose key or value lies at `span`.
fn cut_from_table(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<Cut> {
    let inside = table.iter_mut().find_map(|(key, value)| {
        let mut cut = cut_from_value(value, span)?;
        cut.path.insert(0, key.get_ref().to_string());
        Some(cut)
    });
    if inside.is_some() {
        return inside;
    }
    let mut here = table
        .iter()
        .filter(|(key, value)| key.span() == *span || value.span() == *span);
    let name = here.next().map(|(key, _)| key.get_ref().to_string())?;
    let kind = table
        .remove(name.as_str())
        .map_or("", |value| value.get_ref().type_str());
    Some(Cut { path: vec![name], kind })
}

fn cut_from_value(value: &mut Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<Cut> {
    match value.get_mut() {
        DeValue::Table(table) => cut_from_table(table, span),
        DeValue::Array(items) => cut_from_array(items, span),
        _ => None,
    }
}

fn cut_from_array(items: &mut DeArray<'_>, span: &Range<usize>) -> Option<Cut> {
    if let Some(cut) = items.iter_mut().find_map(|item| cut_from_value(item, span)) {
        return Some(cut);
    }
    let all = std::mem::replace(items, DeArray::new());
    let mut cut = None;
    for item in all {
        if item.span() == *span {
            cut = Some(Cut {
                path: Vec::new(),
                kind: item.get_ref().type_str(),
            });
        } else {
            items.push(item);
        }
    }
    cut
}

/// serde's words made a person's.
fn explain(error: &Error, cut: &Cut) -> Finding {
    let message = one_line(error.message());
    let Some((key, tables)) = cut.path.split_last() else {
        return Finding::error(Code::WrongType, message);
    };
    match message.strip_prefix("unknown field ") {
        Some(rest) => unknown_key(key, tables, rest),
        None => wrong_type(key, tables, cut.kind, &message),
    }
}

/// `rest` reads "`prots`, expected one of `name`, `ports`".
fn unknown_key(key: &str, tables: &[String], rest: &str) -> Finding {
    let known = rest.split_once(", expected ").map_or("", |(_, known)| known);
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    let place = tables
        .first()
        .map_or_else(|| "server.toml".to_owned(), |table| header(table));
    let finding = Finding::error(Code::UnknownKey, format!("{key} is no key of {place}"));
    match nearest(key, known.iter().copied()) {
        Some(word) if tables.is_empty() => finding.with_try(header(word)),
        Some(word) => finding.with_try(word),
        None => finding.with_try(format!("one of {}", known.join(", "))),
    }
}

fn header(table: &str) -> String {
    if LISTS.contains(&table) {
        format!("[[{table}]]")
    } else {
        format!("[{table}]")
    }
}

/// `message` reads "invalid type: integer `30`, expected a string".
fn wrong_type(key: &str, tables: &[String], kind: &str, message: &str) -> Finding {
    let wanted = match message.rsplit_once(", expected ").map_or(message, |(_, wanted)| wanted) {
        "a string" => "a text in quotes",
        "a sequence" => "a list in brackets",
        "a boolean" => "true or false, without quotes",
        "i64" => "a number without quotes",
        other => other,
    };
    let text = format!("{key} takes {wanted}; this is of type {kind}");
    let finding = Finding::error(Code::WrongType, text);
    match example(key, tables) {
        Some(example) => finding.with_try(format!("{key} = {example}")),
        None => finding,
    }
}

/// What a value of `key` looks like, where the kind alone does not tell.
fn example(key: &str, tables: &[String]) -> Option<&'static str> {
    Some(match key {
        "ports" if tables == ["listen"] => "[62201]",
        "ports" => "[\"tcp/22\"]",
        "duration" => "\"30s\"",
        "max-duration" => "\"8h\"",
        "within" => "\"10s\"",
        "always-allow" => "[\"192.0.2.0/28\"]",
        "interfaces" => "[\"any\"]",
        "backends" => "[\"iptables\"]",
        "open" | "close" => "[\"/usr/local/bin/vpn\", \"up\", \"{address}\"]",
        "at-end" => "\"keep\"",
        "chain" if tables == ["nftables"] => "\"input\"",
        "chain" => "\"INPUT\"",
        "table" => "\"inet filter\"",
        "mode" => "\"report\"",
        "format" => "\"text\"",
        "level" => "\"info\"",
        "file-size" => "\"16MiB\"",
        "files" => "16",
        "listen" => "\"127.0.0.1:9798\"",
        "socket" => "\"/run/spa/metrics.sock\"",
        "decoys" => "[\"tcp/23\"]",
        "forget" => "\"2m\"",
        "ban-for" => "\"1h\"",
        "report-at" => "5",
        "ban-at" | "bans-a-minute" => "10",
        "bans-at-once" => "1000",
        "to" => "[\"192.0.2.1\"]",
        "knocks" => "[\"7311/tcp\", \"15002/udp\", \"9040/tcp\"]",
        "one-time" => "[\"7311/tcp 15002/udp 9040/tcp\"]",
        "sources" => "[\"198.51.100.0/24\"]",
        "tcp-flags" => "[\"syn\"]",
        "range" => "\"20000-39999\"",
        "except" => "[27017, 30303]",
        "length" => "4",
        "step" => "\"1m\"",
        "transport" => "\"udp\"",
        "protect" | "allow-no-way-back" | "keep-doors" | "rolling" => "true",
        _ => return None,
    })
}

/// toml puts what it expected on lines of their own.
fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{told, told_of_each, with_service, with_tables};

    #[test]
    fn broken_syntax_is_told_alone() {
        let broken = [
            "a",
            "a = ",
            "a = 22x",
            "[lock-out",
            "a = \"x",
            "a = 1\na = 2",
            "[a]\n[a]",
            "\u{1}",
            "a = [1,,2]",
        ];
        insta::assert_snapshot!(told_of_each("{}\n", &broken), @r#"
        `a`
            error syntax 1:2 this is no TOML: key with no value, expected `=`
        `a = `
            error syntax 1:5 this is no TOML: string values must be quoted, expected literal string
        `a = 22x`
            error syntax 1:5 this is no TOML: string values must be quoted, expected literal string
        `[lock-out`
            error syntax 1:10 this is no TOML: unclosed table, expected `]`
        `a = "x`
            error syntax 1:7 this is no TOML: invalid basic string, expected `"`
        `a = 1
        a = 2`
            error syntax 2:1 this is no TOML: duplicate key
        `[a]
        [a]`
            error syntax 2:2 this is no TOML: duplicate key
        ``
            error syntax 1:1 this is no TOML: invalid unquoted key, expected letters, numbers, `-`, `_`
        `a = [1,,2]`
            error syntax 1:8 this is no TOML: extra comma in array, expected value
        "#);
        insta::assert_snapshot!(told("[listen]\nports = [0]\ninterfaces = [\n"), @"error syntax 3:15 this is no TOML: unclosed array, expected `]`");
    }

    #[test]
    fn unknown_keys_name_their_nearest() {
        let keys = ["port = []", "max_duration = \"1h\"", "Protect = true", "colour = 1"];
        insta::assert_snapshot!(told_of_each(&with_service("ports = [\"tcp/22\"]\n{}"), &keys), @r#"
        `port = []`
            error unknown-key 6:1 port is no key of [[service]] -> ports
        `max_duration = "1h"`
            error unknown-key 6:1 max_duration is no key of [[service]] -> max-duration
        `Protect = true`
            error unknown-key 6:1 Protect is no key of [[service]] -> protect
        `colour = 1`
            error unknown-key 6:1 colour is no key of [[service]] -> one of name, backends, ports, protect, duration, max-duration, at-end, chain, to, daemon, open, close, user
        "#);
        let tables = [
            "[gatway]",
            "[[services]]",
            "[lock-out]\nalways_allow = []",
            "host = \"gw\"",
            "[\"\\u001b\"]",
        ];
        insta::assert_snapshot!(told_of_each(&with_tables("gateway.host = \"gw\"\n{}"), &tables), @r#"
        `[gatway]`
            error unknown-key 2:2 gatway is no key of server.toml -> [gateway]
        `[[services]]`
            error unknown-key 2:3 services is no key of server.toml -> [[service]]
        `[lock-out]
        always_allow = []`
            error unknown-key 3:1 always_allow is no key of [lock-out] -> always-allow
        `host = "gw"`
            error unknown-key 2:1 host is no key of server.toml -> one of gateway, sandbox, listen, lock-out, nftables, tcp-wrappers, service, sequence, scan-guard, log, audit, metrics
        `["\u001b"]`
            error unknown-key 2:2 \u{1b} is no key of server.toml -> one of gateway, sandbox, listen, lock-out, nftables, tcp-wrappers, service, sequence, scan-guard, log, audit, metrics
        "#);
    }

    #[test]
    fn values_of_a_wrong_kind_show_the_right_one() {
        let keys = [
            "ports = \"tcp/22\"",
            "ports = [22]",
            "protect = \"yes\"",
            "name = 5",
            "duration = 30",
            "open = \"/a\"",
            "ports = [\"tcp/22\", [1]]",
            "to = 1979-05-27",
            "user = 1.5",
            "chain = {}",
            "at-end = true",
        ];
        insta::assert_snapshot!(told_of_each("gateway.host = \"gw\"\n[[service]]\n{}", &keys), @r#"
        `ports = "tcp/22"`
            error wrong-type 3:9 ports takes a list in brackets; this is of type string -> ports = ["tcp/22"]
        `ports = [22]`
            error wrong-type 3:10 ports takes a text in quotes; this is of type integer -> ports = ["tcp/22"]
        `protect = "yes"`
            error wrong-type 3:11 protect takes true or false, without quotes; this is of type string -> protect = true
        `name = 5`
            error wrong-type 3:8 name takes a text in quotes; this is of type integer
        `duration = 30`
            error wrong-type 3:12 duration takes a text in quotes; this is of type integer -> duration = "30s"
        `open = "/a"`
            error wrong-type 3:8 open takes a list in brackets; this is of type string -> open = ["/usr/local/bin/vpn", "up", "{address}"]
        `ports = ["tcp/22", [1]]`
            error wrong-type 3:20 ports takes a text in quotes; this is of type array -> ports = ["tcp/22"]
        `to = 1979-05-27`
            error wrong-type 3:6 to takes a list in brackets; this is of type datetime -> to = ["192.0.2.1"]
        `user = 1.5`
            error wrong-type 3:8 user takes a text in quotes; this is of type float
        `chain = {}`
            error wrong-type 3:9 chain takes a text in quotes; this is of type table -> chain = "INPUT"
        `at-end = true`
            error wrong-type 3:10 at-end takes a text in quotes; this is of type boolean -> at-end = "keep"
        "#);
        let tables = [
            "[listen]\nports = [\"62201\"]",
            "[listen]\nports = 62201",
            "[gateway]\nhost = 5",
        ];
        insta::assert_snapshot!(told_of_each("{}", &tables), @r#"
        `[listen]
        ports = ["62201"]`
            error wrong-type 2:10 ports takes a number without quotes; this is of type string -> ports = [62201]
        `[listen]
        ports = 62201`
            error wrong-type 2:9 ports takes a list in brackets; this is of type integer -> ports = [62201]
        `[gateway]
        host = 5`
            error wrong-type 2:8 host takes a text in quotes; this is of type integer
        "#);
    }

    #[test]
    fn tables_of_a_wrong_shape_are_told() {
        let tables = [
            "[service]\nname = \"a\"",
            "[[gateway]]",
            "gateway = []",
            "service = [[]]",
            "listen = 5",
            "service = []",
        ];
        insta::assert_snapshot!(told_of_each("{}", &tables), @r#"
        `[service]
        name = "a"`
            error wrong-type 1:2 service is not written as [[service]] -> [[service]] on a line of its own, its keys below
        `[[gateway]]`
            error wrong-type 1:3 gateway is not written as [gateway] -> [gateway] on a line of its own, its keys below
        `gateway = []`
            error wrong-type 1:1 gateway is not written as [gateway] -> [gateway] on a line of its own, its keys below
        `service = [[]]`
            error wrong-type 1:1 service is not written as [[service]] -> [[service]] on a line of its own, its keys below
        `listen = 5`
            error wrong-type 1:1 listen is not written as [listen] -> [listen] on a line of its own, its keys below
        `service = []`
            warning no-service -:- there is no [[service]]: nothing can be opened -> spa-server init writes a file with one
            warning no-host -:- host is not set: invites cannot say where to knock -> host = "gw.example.net" in [gateway]
        "#);
    }

    #[test]
    fn everything_is_told_at_once() {
        let source = "colour = 1\n[listen]\nports = [0, \"1\"]\nhue = 2\n[[service]]\nname = \"A\"\nprots = []\n\
                      protect = 1\n[[service]]\nname = \"b\"\nbackends = [\"pf\"]\n";
        insta::assert_snapshot!(told(source), @r#"
        error unknown-key 1:1 colour is no key of server.toml -> one of gateway, sandbox, listen, lock-out, nftables, tcp-wrappers, service, sequence, scan-guard, log, audit, metrics
        error bad-listen-port 3:10 0 is no port -> a number from 1 to 65535, such as 62201
        error wrong-type 3:13 ports takes a number without quotes; this is of type string -> ports = [62201]
        error unknown-key 4:1 hue is no key of [listen] -> one of interfaces, ports
        error bad-name 6:8 "A" is no service name -> lower-case letters, digits, and . _ - after the first character
        error unknown-key 7:1 prots is no key of [[service]] -> one of name, backends, ports, protect, duration, max-duration, at-end, chain, to, daemon, open, close, user
        error wrong-type 8:11 protect takes true or false, without quotes; this is of type integer -> protect = true
        error unknown-backend 11:13 backend "pf" is not known -> iptables, nftables, tcp-wrappers, command
        "#);
    }

    #[test]
    fn slips_beyond_counting_end_the_reading() {
        use std::fmt::Write;
        let mut source = String::new();
        (0..150).for_each(|n| writeln!(source, "key{n} = 1").unwrap());
        assert_eq!(told(&source).lines().count(), super::MOST_SLIPS);
    }
}
