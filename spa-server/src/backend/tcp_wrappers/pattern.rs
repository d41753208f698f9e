//! The pattern file: who is let in, one line each, in the forms that libwrap understands. Pure.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The text of a pattern file that lets in `nets` and nobody else.
///
/// libwrap takes every word for a pattern, `# 192.0.2.5` too: there are no comments. A single IPv6 address has its
/// length behind it, since libwrap asks a name server about whoever connects when it meets `[2001:db8::5]`, and does
/// not for `[2001:db8::5]/128` (tried): no connection should wait for a name server that is down.
#[must_use]
pub fn render(nets: &BTreeSet<IpNet>) -> Vec<u8> {
    nets.iter()
        .map(|net| line(*net) + "\n")
        .collect::<String>()
        .into_bytes()
}

fn line(net: IpNet) -> String {
    match net {
        IpNet::V4(net) if net.prefix_len() == 32 => net.addr().to_string(),
        IpNet::V4(net) => net.to_string(),
        IpNet::V6(net) => format!("[{}]/{}", net.addr(), net.prefix_len()),
    }
}

/// Who is let in by a pattern file; what is no line of ours is passed over.
#[must_use]
pub fn parse(text: &[u8]) -> BTreeSet<IpNet> {
    String::from_utf8_lossy(text)
        .split_ascii_whitespace()
        .filter_map(net)
        .collect()
}

fn net(word: &str) -> Option<IpNet> {
    let (address, length) = match word.split_once('/') {
        Some((address, length)) => (address, Some(length.parse().ok()?)),
        None => (word, None),
    };
    if let Some(inside) = address.strip_prefix('[') {
        let address: Ipv6Addr = inside.strip_suffix(']')?.parse().ok()?;
        return Some(Ipv6Net::new(address, length.unwrap_or(128)).ok()?.trunc().into());
    }
    let address: Ipv4Addr = address.parse().ok()?;
    Some(Ipv4Net::new(address, length.unwrap_or(32)).ok()?.trunc().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> BTreeSet<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn both_families_have_their_forms() {
        let table = [
            ("192.0.2.5/32", "192.0.2.5\n"),
            ("192.0.2.0/24", "192.0.2.0/24\n"),
            ("2001:db8::5/128", "[2001:db8::5]/128\n"),
            ("2001:db8::/64", "[2001:db8::]/64\n"),
        ];
        for (net, text) in table {
            assert_eq!(String::from_utf8(render(&nets(&[net]))).unwrap(), text);
            assert_eq!(parse(text.as_bytes()), nets(&[net]));
        }
        assert_eq!(parse(b"[2001:db8::5]"), nets(&["2001:db8::5/128"]));
        assert_eq!(render(&BTreeSet::new()), b"");
    }

    #[test]
    fn what_is_not_ours_is_passed_over() {
        let text = b"ALL\n# 192.0.2.7 \xff\n192.0.2.0/33 .example.net [::1 300.1.1.1\n[2001:db8::]/x";
        assert_eq!(parse(text), nets(&["192.0.2.7/32"]));
    }
}
