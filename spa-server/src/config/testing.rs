//! Short texts in, findings as short lines out.

use super::{Config, Finding, Level};

/// A line for each finding: level, code, place, text, and what to try behind an arrow.
pub(super) fn told(source: &str) -> String {
    let findings = match Config::from_text("server.toml", source) {
        Ok((_, warnings)) => warnings,
        Err(findings) => findings,
    };
    findings.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn line(finding: &Finding) -> String {
    let level = match finding.level {
        Level::Error => "error",
        Level::Warning => "warning",
    };
    let number = |n: Option<usize>| n.map_or("-".to_owned(), |n| n.to_string());
    let place = format!("{}:{}", number(finding.line), number(finding.column));
    let remedy = finding
        .remedy
        .as_ref()
        .map_or(String::new(), |text| format!(" -> {text}"));
    format!("{level} {} {place} {}{remedy}", finding.code, finding.text)
}

/// What is told about each of `values`, written into `{}` of `template`.
pub(super) fn told_of_each(template: &str, values: &[&str]) -> String {
    let tell = |value: &&str| {
        format!(
            "`{value}`\n    {}",
            told(&template.replace("{}", value)).replace('\n', "\n    ")
        )
    };
    values.iter().map(tell).collect::<Vec<_>>().join("\n")
}

/// A file without any finding, its one service ssh with `keys` besides.
pub(super) fn with_service(keys: &str) -> String {
    format!("gateway.host = \"gw.example.net\"\n[[service]]\nname = \"ssh\"\nbackends = [\"iptables\"]\n{keys}\n")
}

/// The same with a port of its own; `tables` stand before the service.
pub(super) fn with_tables(tables: &str) -> String {
    let service = "[[service]]\nname = \"ssh\"\nbackends = [\"iptables\"]\nports = [\"tcp/22\"]\n";
    format!("{tables}\n{service}")
}
