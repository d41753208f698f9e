//! What several STUN servers say, taken together.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use spa_keys::{Exit, Failure};
use spa_proto::Address;

use crate::whom::Whom;

/// How many must say the same.
pub(super) const AGREE: usize = 2;

/// What one server says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opinion {
    /// Its own address: two names of one server are one.
    pub(super) server: IpAddr,
    pub(super) said: IpAddr,
}

/// The address of a family that two servers say, and nobody else is said by two.
pub(super) fn agreed(opinions: &[Opinion], ipv4: bool) -> Option<IpAddr> {
    let mut votes: BTreeMap<IpAddr, Vec<IpAddr>> = BTreeMap::new();
    for opinion in opinions.iter().filter(|opinion| opinion.said.is_ipv4() == ipv4) {
        let servers = votes.entry(opinion.said).or_default();
        if !servers.contains(&opinion.server) {
            servers.push(opinion.server);
        }
    }
    let mut enough = votes.iter().filter(|(_, servers)| servers.len() >= AGREE);
    match (enough.next(), enough.next()) {
        (Some((address, _)), None) => Some(*address),
        _ => None,
    }
}

/// Of each family the address that is agreed on; what others said is told.
pub(super) fn judge(opinions: &[Opinion], places: &[SocketAddr]) -> Result<Whom, Failure> {
    let found: Vec<_> = [true, false]
        .iter()
        .filter_map(|ipv4| agreed(opinions, *ipv4))
        .collect();
    let addresses: Vec<_> = found
        .iter()
        .filter_map(|address| Address::explicit(*address).ok())
        .collect();
    if addresses.is_empty() {
        return Err(unknown(opinions, places));
    }
    let other = opinions.iter().filter(|opinion| !found.contains(&opinion.said));
    let warnings =
        other.map(|opinion| format!("the STUN server at {} says otherwise: {}", opinion.server, opinion.said));
    Ok(Whom {
        addresses,
        warnings: warnings.collect(),
    })
}

fn unknown(opinions: &[Opinion], places: &[SocketAddr]) -> Failure {
    let said: Vec<_> = opinions
        .iter()
        .map(|opinion| format!("{} says {}", opinion.server, opinion.said))
        .collect();
    let what = match (places.len(), said.len()) {
        (0, _) => "none of the STUN servers has an address".to_owned(),
        (count, 0) => format!("none of the STUN servers answered (asked at {count} addresses)"),
        _ => format!(
            "the STUN servers do not agree on this device's public address: {}",
            said.join(", ")
        ),
    };
    Failure::new(Exit::Failed, what)
        .hint("--address with this device's public address")
        .hint("--as-seen, if the gateway allows it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opinion((server, said): (&str, &str)) -> Opinion {
        Opinion {
            server: server.parse().unwrap(),
            said: said.parse().unwrap(),
        }
    }

    fn judged(opinions: &[(&str, &str)]) -> Result<(Vec<String>, usize), String> {
        let opinions: Vec<_> = opinions.iter().copied().map(opinion).collect();
        let whom = judge(&opinions, &["192.0.2.1:3478".parse().unwrap()]).map_err(|failure| failure.what)?;
        let named = whom.addresses.iter().filter_map(|address| address.named());
        Ok((named.map(|address| address.to_string()).collect(), whom.warnings.len()))
    }

    #[test]
    fn two_must_agree() {
        let one = ("198.51.100.1", "203.0.113.7");
        let two = ("198.51.100.2", "203.0.113.7");
        let three = ("198.51.100.3", "203.0.113.9");
        assert_eq!(judged(&[one, two]), Ok((vec!["203.0.113.7".into()], 0)));
        assert_eq!(judged(&[one, two, three]), Ok((vec!["203.0.113.7".into()], 1)));
        assert!(judged(&[one]).unwrap_err().contains("198.51.100.1 says 203.0.113.7"));
        assert!(judged(&[one, three]).unwrap_err().contains("do not agree"));
        assert!(judged(&[one, one]).is_err(), "two names of one server");
        assert!(judged(&[]).unwrap_err().contains("none of the STUN servers answered"));
    }

    #[test]
    fn two_against_two_is_no_answer() {
        let said = [
            ("1.1.1.1", "9.9.9.9"),
            ("1.1.1.2", "9.9.9.9"),
            ("1.1.1.3", "8.8.8.8"),
            ("1.1.1.4", "8.8.8.8"),
        ];
        assert!(judged(&said).is_err());
    }

    #[test]
    fn each_family_by_itself() {
        let six = [("2001:db8::1", "2001:db8::7"), ("2001:db8::2", "2001:db8::7")];
        let four = [("192.0.2.1", "192.0.2.7"), ("192.0.2.2", "192.0.2.7")];
        assert_eq!(
            judged(&[six, four].concat()),
            Ok((vec!["192.0.2.7".into(), "2001:db8::7".into()], 0))
        );
        assert_eq!(judged(&[six[0], six[1], four[0]]), Ok((vec!["2001:db8::7".into()], 1)));
    }

    #[test]
    fn addresses_that_no_host_has_are_not_taken() {
        assert!(judged(&[("192.0.2.1", "0.0.0.0"), ("192.0.2.2", "0.0.0.0")]).is_err());
    }
}
