//! The language of hosts.allow and hosts.deny (hosts_access(5), hosts_options(5)), read as libwrap reads it. Pure.
//!
//! Who connects is not known here, only that no grant names him: what depends on who he is may match.

use std::ops::Range;

/// How sure a match is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// Nobody without a grant is meant.
    Never,
    /// It depends on who connects.
    Perhaps,
    /// Everybody is meant.
    Always,
}

/// What a rule does to whom it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Lets in.
    Admit,
    /// Turns away.
    Refuse,
    /// A program decides.
    Unsure,
}

/// Which of the two files it is: what a rule does unless it says so itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// hosts.allow
    Allow,
    /// hosts.deny
    Deny,
}

/// One rule that concerns a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where it stands, in octets.
    pub span: Range<usize>,
    /// Whether the daemon is meant.
    pub daemon: Match,
    /// Whether somebody without a grant is meant.
    pub clients: Match,
    /// What becomes of him.
    pub effect: Effect,
    /// It names the pattern file of the gateway.
    pub is_ours: bool,
}

/// A line that libwrap passes over, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where it stands, in octets.
    pub span: Range<usize>,
    /// What is wrong with it.
    pub what: &'static str,
}

impl Rule {
    /// Whether it can decide about somebody without a grant.
    #[must_use]
    pub fn concerns(&self) -> bool {
        self.daemon > Match::Never && self.clients > Match::Never
    }

    /// Whether it decides about everybody whom no earlier rule has met.
    #[must_use]
    pub fn is_final(&self) -> bool {
        self.daemon == Match::Always && self.clients == Match::Always && self.effect != Effect::Unsure
    }
}

/// The rules for `daemon` in the order of the file, and the lines that are none; `ours` is the pattern file.
#[must_use]
pub fn read(text: &str, table: Table, daemon: &str, ours: &str) -> (Vec<Rule>, Vec<Fault>) {
    let (mut rules, mut faults) = (Vec::new(), Vec::new());
    for (span, line) in logical_lines(text) {
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let Some(line) = line.strip_suffix('\n') else {
            let what = "the last line does not end: libwrap passes over it";
            faults.push(Fault { span, what });
            continue;
        };
        match rule(line, table, daemon, ours) {
            Some(rule) if rule.daemon > Match::Never => rules.push(Rule { span, ..rule }),
            Some(_) => {}
            None => faults.push(Fault {
                span,
                what: "there is no colon: libwrap passes over it",
            }),
        }
    }
    (rules, faults)
}

/// Lines joined where a backslash ends them, each with its place and, unless the text ends before, its line end.
fn logical_lines(text: &str) -> Vec<(Range<usize>, String)> {
    let mut lines: Vec<(Range<usize>, String)> = Vec::new();
    let (mut start, mut joined, mut end) = (0, String::new(), 0);
    for line in text.split_inclusive('\n') {
        end += line.len();
        if let Some(part) = line.strip_suffix("\\\n") {
            joined.push_str(part);
        } else {
            joined.push_str(line);
            lines.push((start..end, std::mem::take(&mut joined)));
            start = end;
        }
    }
    if !joined.is_empty() {
        lines.push((start..end, joined));
    }
    lines
}

fn rule(line: &str, table: Table, daemon: &str, ours: &str) -> Option<Rule> {
    let (daemons, rest) = split(line)?;
    let (clients, options) = split(rest).unwrap_or((rest, ""));
    Some(Rule {
        span: 0..0,
        daemon: list(&words(daemons), &|word| daemon_match(word, daemon)),
        clients: list(&words(clients), &|word| client_match(word, ours)),
        effect: effect(options, table),
        is_ours: words(clients).contains(&ours),
    })
}

/// At the first colon outside brackets.
fn split(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0_i32;
    let place = text.char_indices().find(|(_, c)| {
        depth += i32::from(*c == '[') - i32::from(*c == ']');
        *c == ':' && depth <= 0
    });
    place.map(|(at, _)| (&text[..at], &text[at + 1..]))
}

fn words(list: &str) -> Vec<&str> {
    list.split([',', ' ', '\t', '\r', '\n'])
        .filter(|word| !word.is_empty())
        .collect()
}

/// `a b EXCEPT c EXCEPT d` is (a or b) and not (c and not d).
fn list(words: &[&str], matches: &dyn Fn(&str) -> Match) -> Match {
    let except = words.iter().position(|word| word.eq_ignore_ascii_case("EXCEPT"));
    let (own, rest) = words.split_at(except.unwrap_or(words.len()));
    let found = own.iter().map(|word| matches(word)).max().unwrap_or(Match::Never);
    match rest.split_first() {
        Some((_, exceptions)) => found.min(list(exceptions, matches).inverse()),
        None => found,
    }
}

impl Match {
    const fn inverse(self) -> Self {
        match self {
            Self::Never => Self::Always,
            Self::Perhaps => Self::Perhaps,
            Self::Always => Self::Never,
        }
    }
}

fn daemon_match(word: &str, daemon: &str) -> Match {
    let (name, host) = word
        .split_once('@')
        .map_or((word, None), |(name, host)| (name, Some(host)));
    match (is_named(name, daemon), host) {
        (false, _) => Match::Never,
        (true, Some(_)) => Match::Perhaps,
        (true, None) => Match::Always,
    }
}

fn is_named(pattern: &str, daemon: &str) -> bool {
    let (pattern, daemon) = (pattern.to_ascii_lowercase(), daemon.to_ascii_lowercase());
    let begins = |prefix: &str| pattern.ends_with('.') && daemon.starts_with(prefix);
    pattern == "all"
        || pattern == daemon
        || (pattern.starts_with('.') && daemon.ends_with(&pattern))
        || begins(&pattern)
        || (pattern.contains(['*', '?']) && glob(pattern.as_bytes(), daemon.as_bytes()))
}

/// Goes back to the last star alone: any number of them costs no more than the lengths multiplied.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut place, mut at, mut star) = (0, 0, None);
    while let Some(octet) = text.get(at) {
        match (pattern.get(place), star) {
            (Some(b'*'), _) => (place, star) = (place + 1, Some((place + 1, at))),
            (Some(own), _) if *own == b'?' || own == octet => (place, at) = (place + 1, at + 1),
            (_, Some((behind, from))) => (place, at, star) = (behind, from + 1, Some((behind, from + 1))),
            (_, None) => return false,
        }
    }
    pattern.iter().skip(place).all(|own| *own == b'*')
}

fn client_match(word: &str, ours: &str) -> Match {
    if word == ours {
        Match::Never
    } else if word.eq_ignore_ascii_case("ALL") {
        Match::Always
    } else {
        Match::Perhaps
    }
}

fn effect(options: &str, table: Table) -> Effect {
    let mut effect = match table {
        Table::Allow => Effect::Admit,
        Table::Deny => Effect::Refuse,
    };
    for option in options.split(':') {
        match option
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_ascii_lowercase()
            .as_str()
        {
            "allow" => return Effect::Admit,
            "deny" => return Effect::Refuse,
            "twist" => effect = Effect::Refuse,
            "aclexec" => effect = Effect::Unsure,
            _ => {}
        }
    }
    effect
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "/run/spa/wrappers/sshd";

    fn one(line: &str) -> Option<(Match, Match, Effect)> {
        let (rules, faults) = read(&format!("{line}\n"), Table::Allow, "sshd", OURS);
        assert_eq!(faults, []);
        rules.first().map(|rule| (rule.daemon, rule.clients, rule.effect))
    }

    #[test]
    fn daemons_are_named_in_many_ways() {
        for line in [
            "ALL: ALL",
            "sshd: all",
            "a, SSHD b:ALL",
            "ssh*: ALL",
            "s?hd: ALL",
            "ALL EXCEPT ftpd: ALL",
        ] {
            assert_eq!(one(line), Some((Match::Always, Match::Always, Effect::Admit)), "{line}");
        }
        for line in [
            "ftpd: ALL",
            "ALL EXCEPT sshd: ALL",
            "sshd-x: ALL",
            "ssh: ALL",
            "x*: ALL",
            "a EXCEPT b: ALL",
        ] {
            assert_eq!(one(line), None, "{line}");
        }
        assert_eq!(one("sshd@192.0.2.1: ALL").unwrap().0, Match::Perhaps);
        assert_eq!(one("ALL EXCEPT ssh* EXCEPT sshd: ALL").unwrap().0, Match::Always);
    }

    /// Found by the fuzzer: each star once doubled the work.
    #[test]
    fn stars_in_a_row_are_one() {
        let stars = "*".repeat(200);
        assert_eq!(one(&format!("{stars}: ALL")).unwrap().0, Match::Always);
        assert_eq!(one(&format!("s{stars}d{stars}: ALL")).unwrap().0, Match::Always);
        for line in [
            format!("{stars}x: ALL"),
            format!("s{stars}.{stars}d: ALL"),
            "s*s*s*h*d: ALL".into(),
        ] {
            assert_eq!(one(&line), None, "{line}");
        }
        assert_eq!(one("*s?h*: ALL").unwrap().0, Match::Always);
    }

    #[test]
    fn clients_are_everybody_somebody_or_those_with_a_grant() {
        let clients = |text: &str| one(&format!("sshd: {text}")).unwrap().1;
        assert_eq!(clients("ALL"), Match::Always);
        assert_eq!(clients("ALL EXCEPT 10.0.0.0/8"), Match::Perhaps);
        assert_eq!(clients("ALL EXCEPT /run/spa/wrappers/sshd"), Match::Always);
        assert_eq!(clients("[2001:db8::]/32"), Match::Perhaps);
        assert_eq!(clients("PARANOID"), Match::Perhaps);
        assert_eq!(clients(OURS), Match::Never);
    }

    #[test]
    fn options_have_the_last_word() {
        let effect = |options: &str| one(&format!("sshd: [::1] x : {options}")).unwrap().2;
        assert_eq!(effect("deny"), Effect::Refuse);
        assert_eq!(effect("severity auth.info : DENY"), Effect::Refuse);
        assert_eq!(effect("spawn (echo %h : x) &"), Effect::Admit);
        assert_eq!(effect("twist /bin/echo no"), Effect::Refuse);
        assert_eq!(effect("aclexec /bin/x"), Effect::Unsure);
        let (rules, _) = read("ALL: ALL\n", Table::Deny, "sshd", OURS);
        assert!(rules[0].is_final() && rules[0].effect == Effect::Refuse);
    }

    #[test]
    fn lines_are_joined_and_the_last_must_end() {
        let text = "# a \\\nsshd: ALL\nsshd: 192.0.2.1, \\\n 192.0.2.2\r\nnothing\n\n  \nsshd: ALL";
        let (rules, faults) = read(text, Table::Deny, "sshd", OURS);
        assert_eq!(rules.len(), 1);
        assert_eq!(&text[rules[0].span.clone()], "sshd: 192.0.2.1, \\\n 192.0.2.2\r\n");
        let said: Vec<_> = faults
            .iter()
            .map(|fault| (&text[fault.span.clone()], fault.what))
            .collect();
        let expected = [
            ("nothing\n", "there is no colon: libwrap passes over it"),
            ("sshd: ALL", "the last line does not end: libwrap passes over it"),
        ];
        assert_eq!(said, expected);
    }
}
