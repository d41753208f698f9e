//! Arguments with their placeholders filled. Pure.

use ipnet::IpNet;
use spa_keys::units::format_time;
use spa_proto::UnixTime;

/// What the placeholders stand for. There is no shell: whatever stands here stays one argument.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// `{address}` and `{family}`: `192.0.2.5` or `2001:db8::/64`, and `4` or `6`.
    pub opened: IpNet,
    /// `{client}`: the name, or nothing for a sequence.
    pub client: Option<&'a str>,
    /// `{service}`: the name.
    pub service: &'a str,
    /// `{end}`: such as `2026-12-31T00:00:00Z`.
    pub end: UnixTime,
}

impl Values<'_> {
    fn of(&self, word: &str) -> Option<String> {
        Some(match word {
            "address" => address(self.opened),
            "family" => if self.opened.addr().is_ipv4() { "4" } else { "6" }.to_owned(),
            "client" => self.client.unwrap_or_default().to_owned(),
            "service" => self.service.to_owned(),
            "end" => format_time(self.end),
            _ => return None,
        })
    }
}

/// Every argument filled once: what comes out of a placeholder is not looked at again.
#[must_use]
pub fn fill(template: &[String], values: &Values<'_>) -> Vec<String> {
    template.iter().map(|argument| fill_one(argument, values)).collect()
}

/// Whether the end is told, so that the program must be run again when it moves.
#[must_use]
pub fn tells_end(template: &[String]) -> bool {
    template.iter().any(|argument| argument.contains("{end}"))
}

fn fill_one(argument: &str, values: &Values<'_>) -> String {
    let (mut out, mut rest) = (String::new(), argument);
    while let Some((before, behind)) = rest.split_once('{') {
        out.push_str(before);
        let filled = behind
            .split_once('}')
            .and_then(|(word, behind)| Some((values.of(word)?, behind)));
        if let Some((value, behind)) = filled {
            out.push_str(&value);
            rest = behind;
        } else {
            out.push('{');
            rest = behind;
        }
    }
    out + rest
}

fn address(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(argument: &str, opened: &str, client: Option<&str>) -> String {
        let values = Values {
            opened: opened.parse().unwrap(),
            client,
            service: "vpn",
            end: UnixTime::from_secs(1_798_675_200),
        };
        fill(&[argument.to_owned()], &values).remove(0)
    }

    #[test]
    fn each_placeholder_has_its_value() {
        let all = "{address} -{family} {client}/{service} {end}";
        assert_eq!(
            filled(all, "192.0.2.5/32", Some("alice")),
            "192.0.2.5 -4 alice/vpn 2026-12-31T00:00:00Z"
        );
        assert_eq!(
            filled(all, "2001:db8::/64", None),
            "2001:db8::/64 -6 /vpn 2026-12-31T00:00:00Z"
        );
    }

    #[test]
    fn braces_that_are_no_placeholder_stay() {
        assert_eq!(
            filled("{\"a\": \"{family}\"} {x} {", "192.0.2.5/32", None),
            "{\"a\": \"4\"} {x} {"
        );
        assert_eq!(filled("{client}", "192.0.2.5/32", Some("{end}")), "{end}");
    }
}
