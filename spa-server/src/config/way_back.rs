//! The address an administrator works from: the ssh connection that `spa-server init` runs in.

use std::fs;
use std::net::IpAddr;

use ipnet::IpNet;

/// More ancestors than this are no shell session.
const MOST_ANCESTORS: usize = 64;

/// What has to be known about processes. `/proc` answers it ([`Proc`]); tests have their own.
pub trait Processes {
    /// The environment a process was started with: `NAME=value`, each ended by a zero octet.
    fn environment(&self, pid: u32) -> Option<Vec<u8>>;
    /// Who started it.
    fn parent(&self, pid: u32) -> Option<u32>;
}

/// The peer of the ssh connection that process `pid` or the nearest of its ancestors was started in, as one address.
///
/// sudo drops the variables, so the ancestors are asked. A peer on this host itself is no way back; the search goes on
/// above it.
#[must_use]
pub fn find(processes: &impl Processes, pid: u32) -> Option<IpNet> {
    let parent = |pid: &u32| processes.parent(*pid).filter(|parent| *parent != 0);
    let line = std::iter::successors(Some(pid), parent).take(MOST_ANCESTORS);
    line.filter_map(|pid| processes.environment(pid))
        .find_map(|environment| peer_in(&environment))
}

/// The peer that an environment names.
fn peer_in(environment: &[u8]) -> Option<IpNet> {
    let value = |name: &str| {
        let mut all = environment
            .split(|octet| *octet == 0)
            .filter_map(|entry| std::str::from_utf8(entry).ok());
        all.find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
    };
    let peer = |name| value(name).and_then(peer);
    peer("SSH_CONNECTION").or_else(|| peer("SSH_CLIENT"))
}

/// The first word of SSH_CONNECTION ("peer port own port") or SSH_CLIENT ("peer port port").
///
/// An IPv4-mapped address is its IPv4 address, the zone of a link-local one is left out. None for anything that is no
/// address, or none that packets come from.
#[must_use]
pub fn peer(value: &str) -> Option<IpNet> {
    let mut words = value.split_ascii_whitespace();
    let word = words.next()?;
    // sshd always gives the port as well; a lone word came from somewhere else.
    words.next()?.parse::<u16>().ok()?;
    let bare = word.split_once('%').map_or(word, |(address, _zone)| address);
    let address = bare.parse::<IpAddr>().ok()?.to_canonical();
    let usable = !address.is_loopback() && !address.is_unspecified() && !address.is_multicast();
    (usable && (address.is_ipv6() || bare == word)).then(|| IpNet::from(address))
}

/// This machine's processes.
#[derive(Clone, Copy, Debug)]
pub struct Proc;

impl Processes for Proc {
    fn environment(&self, pid: u32) -> Option<Vec<u8>> {
        fs::read(format!("/proc/{pid}/environ")).ok()
    }

    fn parent(&self, pid: u32) -> Option<u32> {
        parent_in(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }
}

/// The fourth field of proc(5) stat; the second is a name in parentheses that may hold anything, also `)`.
fn parent_in(stat: &str) -> Option<u32> {
    let (_, behind) = stat.rsplit_once(')')?;
    behind.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use proptest::prelude::*;

    /// pid → (parent, environment)
    struct Fake(HashMap<u32, (u32, &'static str)>);

    impl Processes for Fake {
        fn environment(&self, pid: u32) -> Option<Vec<u8>> {
            self.0
                .get(&pid)
                .map(|(_, environment)| environment.replace(' ', "\0").replace('+', " ").into_bytes())
        }

        fn parent(&self, pid: u32) -> Option<u32> {
            self.0.get(&pid).map(|(parent, _)| *parent)
        }
    }

    fn found(processes: &[(u32, u32, &'static str)]) -> Option<String> {
        let all = processes
            .iter()
            .map(|(pid, parent, environment)| (*pid, (*parent, *environment)));
        find(&Fake(all.collect()), 9).map(|network| network.to_string())
    }

    #[test]
    fn the_own_environment_comes_first() {
        let own = (9, 8, "A=b SSH_CONNECTION=192.0.2.7+50000+198.51.100.1+22");
        let parent = (8, 1, "SSH_CONNECTION=192.0.2.8+50000+198.51.100.1+22");
        assert_eq!(found(&[own, parent]).as_deref(), Some("192.0.2.7/32"));
    }

    #[test]
    fn what_sudo_dropped_is_found_above() {
        let sshd = (6, 1, "");
        let shell = (7, 6, "SSH_CLIENT=2001:db8::7+50000+22");
        assert_eq!(
            found(&[(9, 8, "SUDO_UID=1000"), (8, 7, ""), shell, sshd]).as_deref(),
            Some("2001:db8::7/128")
        );
    }

    #[test]
    fn a_session_from_this_host_is_looked_through() {
        let inner = (9, 8, "SSH_CONNECTION=127.0.0.1+50000+127.0.0.1+22");
        assert_eq!(
            found(&[inner, (8, 1, "SSH_CLIENT=192.0.2.7+1+22")]).as_deref(),
            Some("192.0.2.7/32")
        );
    }

    #[test]
    fn no_session_is_no_address() {
        assert_eq!(found(&[]), None);
        assert_eq!(
            found(&[(9, 1, "HOME=/root XSSH_CLIENT=192.0.2.7+1+22"), (1, 0, "")]),
            None
        );
        assert_eq!(found(&[(9, 9, "")]), None);
    }

    #[test]
    fn peers_are_addresses_others_can_be_let_in_by() {
        let cases = [
            ("192.0.2.7 50000 198.51.100.1 22", Some("192.0.2.7/32")),
            ("::ffff:192.0.2.7 50000 22", Some("192.0.2.7/32")),
            ("fe80::1%eth0 50000 22", Some("fe80::1/128")),
            ("192.0.2.7%x 50000 22", None),
            ("UNKNOWN 65535 UNKNOWN 65535", None),
            ("192.0.2.7", None),
            ("192.0.2.7 x", None),
            ("::1 1 22", None),
            ("::ffff:127.0.0.1 1 22", None),
            ("0.0.0.0 1 22", None),
            ("", None),
        ];
        for (value, expected) in cases {
            assert_eq!(
                peer(value).map(|network| network.to_string()).as_deref(),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn a_process_name_does_not_hide_the_parent() {
        assert_eq!(parent_in("9 (a) R 5 (b) S 7 1 1"), Some(7));
        assert_eq!(parent_in("9 (sh) S"), None);
        let pid = std::process::id();
        assert_eq!(Proc.parent(pid), Some(std::os::unix::process::parent_id()));
        assert!(Proc.environment(pid).is_some());
    }

    proptest! {
        #[test]
        fn no_environment_panics(octets: Vec<u8>, value: String, stat: String) {
            let _ = peer_in(&octets);
            let _ = peer_in(format!("SSH_CONNECTION={value}").as_bytes());
            let _ = parent_in(&stat);
        }
    }
}
