//! Whether a rule is for a packet, from its match as nft writes it in JSON.

use serde_json::Value;

use crate::config::Protocol;

/// A new connection from an address that nobody has written into a rule: its protocol and port.
pub type Packet = (Protocol, u16);

/// Whether a rule is for the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    Yes,
    No,
    /// It depends on what a person chose on purpose: an interface, an own address. A door that is opened so is open.
    Chosen,
    /// It depends on who sends, or cannot be told.
    Unknown,
}

impl Fit {
    /// Of two statements of one rule.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Chosen, _) | (_, Self::Chosen) => Self::Chosen,
            (Self::Yes, Self::Yes) => Self::Yes,
        }
    }
}

/// Whether a statement that is no verdict lets the packet go on to the next.
pub fn fit(statement: &Value, packet: Packet) -> Fit {
    let Some(matched) = statement.get("match") else {
        // A limit decides by the moment, and what iptables-nft writes beside its own matches cannot be told.
        let is_plain = ["counter", "log", "comment", "mangle"]
            .iter()
            .any(|name| statement.get(*name).is_some());
        return if is_plain { Fit::Yes } else { Fit::Unknown };
    };
    let is_equal = match matched["op"].as_str() {
        Some("==" | "in") => true,
        Some("!=") => false,
        _ => return Fit::Unknown,
    };
    match compared(&matched["left"], &matched["right"], packet) {
        Some(Compared::Is(holds)) if holds == is_equal => Fit::Yes,
        Some(Compared::Is(_)) => Fit::No,
        Some(Compared::Chosen) => Fit::Chosen,
        None => Fit::Unknown,
    }
}

enum Compared {
    Is(bool),
    Chosen,
}

fn compared(left: &Value, right: &Value, (protocol, port): Packet) -> Option<Compared> {
    let name = protocol.name();
    if let Some(field) = left.get("payload") {
        return match (field["protocol"].as_str()?, field["field"].as_str()?) {
            ("th", "dport") => holds_port(right, port).map(Compared::Is),
            (of, "dport") if of == name => holds_port(right, port).map(Compared::Is),
            ("tcp" | "udp" | "sctp" | "dccp" | "icmp" | "icmpv6" | "igmp", _) if field["protocol"] != name => {
                Some(Compared::Is(false))
            }
            ("ip" | "ip6", "protocol" | "nexthdr") => holds_word(right, name).map(Compared::Is),
            ("ip" | "ip6", "daddr") => Some(Compared::Chosen),
            _ => None,
        };
    }
    if let Some(state) = left["ct"]["key"].as_str() {
        return (state == "state")
            .then(|| holds_word(right, "new").map(Compared::Is))
            .flatten();
    }
    match left["meta"]["key"].as_str()? {
        "l4proto" => holds_word(right, name).map(Compared::Is),
        "iif" | "iifname" if right == "lo" => Some(Compared::Is(false)),
        "iif" | "iifname" | "iifgroup" | "mark" | "nfproto" => Some(Compared::Chosen),
        _ => None,
    }
}

/// What a verdict map has for the packet.
pub fn looked_up(map: &Value, packet: Packet) -> Option<&Value> {
    let pairs = map["data"]["set"].as_array()?;
    let fits = |pair: &&Value| matches!(compared(&map["key"], &pair[0], packet), Some(Compared::Is(true)));
    pairs.iter().find(fits).map(|pair| &pair[1])
}

/// What a verdict map may have for the packet: all but what is surely for others.
pub fn candidates(map: &Value, packet: Packet) -> impl Iterator<Item = &Value> {
    let pairs = map["data"]["set"].as_array().into_iter().flatten();
    let may = move |pair: &&Value| !matches!(compared(&map["key"], &pair[0], packet), Some(Compared::Is(false)));
    pairs.filter(may).map(|pair| &pair[1])
}

/// A number, a range, or a set of them; none for a named set, whose content is elsewhere.
fn holds_port(value: &Value, port: u16) -> Option<bool> {
    if let Some(range) = value["range"].as_array() {
        let ends = (range.first()?.as_u64()?, range.get(1)?.as_u64()?);
        return Some((ends.0..=ends.1).contains(&u64::from(port)));
    }
    match items(value) {
        Some(items) => Some(items.iter().any(|item| holds_port(item, port) == Some(true))),
        None => Some(value.as_u64()? == u64::from(port)),
    }
}

fn holds_word(value: &Value, word: &str) -> Option<bool> {
    match items(value) {
        Some(items) => Some(items.iter().any(|item| item == word)),
        None => Some(value.as_str().filter(|text| !text.starts_with('@'))? == word),
    }
}

fn items(value: &Value) -> Option<&Vec<Value>> {
    value["set"].as_array().or_else(|| value.as_array())
}
