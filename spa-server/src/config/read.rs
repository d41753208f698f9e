//! From text to what was typed: a syntax error alone, or every unknown key and every value of a wrong kind.
//!
//! serde stops at the first key it does not know. So what it points at is noted, cut out of the parsed tree, and the
//! reading begun again, until all that is left fits.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer, Error};

use super::finding::Finding;
use super::findings::Findings;
use super::nearest::nearest;
use super::raw::RawConfig;

/// More slips than this in one file are not counted out.
const MOST_SLIPS: usize = 100;

/// Reads `source`; none when its syntax is broken, which the one finding then says.
pub(super) fn read(source: &str, findings: &mut Findings<'_>) -> Option<RawConfig> {
    match DeTable::parse(source) {
        Ok(tree) => Some(fit(tree, source, findings)),
        Err(error) => {
            let text = format!("this is no TOML: {}", one_line(error.message()));
            findings.at(&error.span().unwrap_or(0..0), Finding::error("syntax", text));
            None
        }
    }
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
        let Some(path) = cut_from_table(tree.get_mut(), &span) else {
            findings.at(&span, Finding::error("wrong-type", one_line(error.message())));
            break;
        };
        findings.at(&span, explain(&error, &path));
        findings.mark_damaged();
    }
    RawConfig::default()
}

/// Tables that must stand alone, and those of which there may be many. serde would take a list in place of the former.
const TABLES: [&str; 5] = ["gateway", "listen", "lock-out", "tcp-wrappers", "scan-guard"];
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
            findings.at(&key.span(), Finding::error("wrong-type", text).with_try(remedy));
            findings.mark_damaged();
            tree.remove(*name);
        }
    }
}

/// Takes out the entry whose key or value lies at `span`; its path, outermost first, if there was one.
fn cut_from_table(table: &mut DeTable<'_>, span: &Range<usize>) -> Option<Vec<String>> {
    let here = table
        .iter()
        .find(|(key, value)| key.span() == *span || value.span() == *span && !value.get_ref().is_table());
    if let Some(name) = here.map(|(key, _)| key.get_ref().to_string()) {
        table.remove(name.as_str());
        return Some(vec![name]);
    }
    table.iter_mut().find_map(|(key, value)| {
        let mut path = cut_from_value(value, span)?;
        path.insert(0, key.get_ref().to_string());
        Some(path)
    })
}

fn cut_from_value(value: &mut Spanned<DeValue<'_>>, span: &Range<usize>) -> Option<Vec<String>> {
    match value.get_mut() {
        DeValue::Table(table) => cut_from_table(table, span),
        DeValue::Array(items) => cut_from_array(items, span),
        _ => None,
    }
}

fn cut_from_array(items: &mut DeArray<'_>, span: &Range<usize>) -> Option<Vec<String>> {
    if let Some(path) = items.iter_mut().find_map(|item| cut_from_value(item, span)) {
        return Some(path);
    }
    let before = items.len();
    let kept = std::mem::replace(items, DeArray::new())
        .into_iter()
        .filter(|item| item.span() != *span);
    let mut rest = DeArray::new();
    for item in kept {
        rest.push(item);
    }
    *items = rest;
    (items.len() < before).then(Vec::new)
}

/// serde's words made a person's.
fn explain(error: &Error, path: &[String]) -> Finding {
    let message = one_line(error.message());
    let (key, tables) = path
        .split_last()
        .map_or(("", path), |(key, tables)| (key.as_str(), tables));
    match message.strip_prefix("unknown field ") {
        Some(rest) => unknown_key(key, tables, rest),
        None => wrong_type(key, tables, message.trim_start_matches("invalid type: ")),
    }
}

/// `rest` reads "`prots`, expected one of `name`, `ports`".
fn unknown_key(key: &str, tables: &[String], rest: &str) -> Finding {
    let known = rest.split_once(", expected ").map_or("", |(_, known)| known);
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    let place = tables
        .first()
        .map_or_else(|| "server.toml".to_owned(), |table| header(table));
    let finding = Finding::error("unknown-key", format!("{key} is no key of {place}"));
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

/// `rest` reads "integer `30`, expected a string".
fn wrong_type(key: &str, tables: &[String], rest: &str) -> Finding {
    let (found, wanted) = rest
        .split_once(", expected ")
        .unwrap_or((rest, "another kind of value"));
    let wanted = match wanted {
        "a string" => "a text in quotes",
        "a sequence" => "a list in brackets",
        "a boolean" => "true or false, without quotes",
        "i64" => "a number without quotes",
        other => other,
    };
    let finding = Finding::error(
        "wrong-type",
        format!("{key} holds the {}; it takes {wanted}", found.replace('`', "")),
    );
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
        "chain" => "\"INPUT\"",
        "to" => "[\"192.0.2.1\"]",
        "protect" | "allow-no-way-back" | "keep-doors" => "true",
        _ => return None,
    })
}

/// toml puts what it expected on lines of their own.
fn one_line(message: &str) -> String {
    message.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}
