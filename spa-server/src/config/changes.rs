//! What differs between two configurations, for the person who has just changed one into the other.

use std::fmt::Display;

use super::{Config, Guard, LogFormat, Sequence, Service};

/// What `new` has otherwise than `old`, one clause for each thing; nothing when they mean the same.
#[must_use]
pub fn changes(old: &Config, new: &Config) -> Vec<String> {
    let mut found = Vec::new();
    if old.host != new.host {
        found.push("the host that invites carry is another".to_owned());
    }
    if old.sandbox_required != new.sandbox_required {
        found.push("[sandbox] required counts from the next start".to_owned());
    }
    differing("interfaces", &old.listen.interfaces, &new.listen.interfaces, &mut found);
    differing("knock ports", &old.listen.ports, &new.listen.ports, &mut found);
    let (before, after) = (&old.lock_out, &new.lock_out);
    differing("always-allow", &before.always_allow, &after.always_allow, &mut found);
    switched(
        "allow-no-way-back",
        before.allow_no_way_back,
        after.allow_no_way_back,
        &mut found,
    );
    switched("keep-doors", before.keep_doors, after.keep_doors, &mut found);
    if old.nftables != new.nftables {
        found.push("nftables: the rules go elsewhere".to_owned());
    }
    if old.tcp_wrappers != new.tcp_wrappers {
        found.push("tcp-wrappers: other files".to_owned());
    }
    if old.guard != new.guard {
        let mode = |guard: &Option<Guard>| guard.as_ref().map_or("off".to_owned(), |guard| guard.mode.to_string());
        found.push(format!(
            "scan-guard: {} before, now {}",
            mode(&old.guard),
            mode(&new.guard)
        ));
    }
    if old.log != new.log {
        let when = if new.log.format == LogFormat::Journal && old.log.format != LogFormat::Journal {
            ", to the journal from the next start of spa-server on"
        } else {
            ""
        };
        found.push(format!("log: {} from {} on{when}", new.log.format, new.log.level));
    }
    if old.audit != new.audit {
        found.push("audit: another bound on what is kept".to_owned());
    }
    if old.metrics != new.metrics {
        found.push("metrics: asked for elsewhere, from the next start of spa-server on".to_owned());
    }
    services(&old.services, &new.services, &mut found);
    sequences(&old.sequences, &new.sequences, &mut found);
    found
}

fn differing<T: PartialEq + Display>(what: &str, old: &[T], new: &[T], found: &mut Vec<String>) {
    let gone = old
        .iter()
        .filter(|item| !new.contains(item))
        .map(|item| format!("-{item}"));
    let come = new
        .iter()
        .filter(|item| !old.contains(item))
        .map(|item| format!("+{item}"));
    let items: Vec<_> = gone.chain(come).collect();
    if !items.is_empty() {
        found.push(format!("{what}: {}", items.join(" ")));
    }
}

fn switched(what: &str, old: bool, new: bool, found: &mut Vec<String>) {
    if old != new {
        found.push(format!("{what} = {new}"));
    }
}

fn services(old: &[Service], new: &[Service], found: &mut Vec<String>) {
    let find = |list: &'_ [Service], name: &str| list.iter().position(|service| service.name == name);
    for gone in old.iter().filter(|service| find(new, &service.name).is_none()) {
        found.push(format!("service {}: gone", gone.name));
    }
    for service in new {
        match find(old, &service.name).and_then(|at| old.get(at)) {
            None => found.push(format!("service {}: new", service.name)),
            Some(before) if before != service => {
                found.push(format!("service {}: {}", service.name, how(before, service)));
            }
            Some(_) => {}
        }
    }
}

/// Their ports are secret: only names are told.
fn sequences(old: &[Sequence], new: &[Sequence], found: &mut Vec<String>) {
    let named = |list: &[Sequence], name: &str| list.iter().find(|sequence| sequence.name == name).cloned();
    for gone in old.iter().filter(|sequence| named(new, &sequence.name).is_none()) {
        found.push(format!("sequence {}: gone", gone.name));
    }
    for sequence in new {
        match named(old, &sequence.name) {
            None => found.push(format!("sequence {}: new", sequence.name)),
            Some(before) if before != *sequence => found.push(format!("sequence {}: another", sequence.name)),
            Some(_) => {}
        }
    }
}

/// Which settings of a service are others, by their names in server.toml.
fn how(old: &Service, new: &Service) -> String {
    let settings = [
        ("backends", old.backends != new.backends),
        ("ports", old.ports != new.ports),
        ("protect", old.protect != new.protect),
        ("duration", old.duration != new.duration),
        ("max-duration", old.max_duration != new.max_duration),
        ("at-end", old.at_end != new.at_end),
        ("chain", old.chain != new.chain),
        ("to", old.to != new.to),
        ("daemon", old.daemon != new.daemon),
        ("open", old.open != new.open),
        ("close", old.close != new.close),
        ("user", old.user != new.user),
    ];
    let names: Vec<_> = settings
        .into_iter()
        .filter(|(_, differs)| *differs)
        .map(|(name, _)| name)
        .collect();
    format!("other {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "gateway.host = \"gw\"\nlock-out.always-allow = [\"192.0.2.7\"]\n\
        [[service]]\nname = \"ssh\"\nbackends = [\"iptables\"]\nports = [\"tcp/22\"]\n\
        [[service]]\nname = \"db\"\nbackends = [\"iptables\"]\nports = [\"tcp/5432\"]\n";

    fn config(text: &str) -> Config {
        Config::from_text("server.toml", text).unwrap().0
    }

    #[test]
    fn each_thing_that_differs_is_named() {
        let new = OLD
            .replace("192.0.2.7", "192.0.2.8")
            .replace("\"db\"", "\"web\"")
            .replace("tcp/22\"]", "tcp/22\", \"tcp/2222\"]\nduration = \"60s\"");
        assert_eq!(
            changes(&config(OLD), &config(&new)),
            [
                "always-allow: -192.0.2.7/32 +192.0.2.8/32",
                "service db: gone",
                "service ssh: other ports, duration",
                "service web: new"
            ]
        );
    }

    #[test]
    fn sequences_are_named_without_their_ports() {
        let with = |keys: &str| format!("{OLD}[[sequence]]\nname = \"card\"\nservice = \"ssh\"\n{keys}\n");
        let (one, other) = (
            with("rolling = true"),
            with("knocks = [\"7311/tcp\", \"9/tcp\", \"5/tcp\"]"),
        );
        assert_eq!(changes(&config(OLD), &config(&one)), ["sequence card: new"]);
        assert_eq!(changes(&config(&one), &config(&other)), ["sequence card: another"]);
        assert_eq!(changes(&config(&other), &config(OLD)), ["sequence card: gone"]);
    }

    #[test]
    fn another_comment_is_no_change() {
        assert_eq!(changes(&config(OLD), &config(&format!("# x\n{OLD}"))), [""; 0]);
    }
}
