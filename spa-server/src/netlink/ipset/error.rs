//! What ip_set's refusals mean: its own numbers begin at 4096 (linux/netfilter/ipset/ip_set.h).

use std::fmt;

use rustix::io::Errno;

use crate::netlink::NetlinkError;

/// `IPSET_ERR_PROTOCOL`.
pub(super) const PROTOCOL_MISMATCH: i32 = 4097;
/// `IPSET_ERR_FIND_TYPE`.
const UNKNOWN_TYPE: i32 = 4098;
/// `IPSET_ERR_BUSY`.
const BUSY: i32 = 4100;
/// `IPSET_ERR_EXIST`: the element is there already, or at deletion is not.
pub(super) const EXIST: i32 = 4103;

/// What was attempted with which set, and why it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpsetError {
    /// What was attempted, to be read after "could not".
    pub doing: String,
    /// Why it failed.
    pub cause: IpsetCause,
}

/// Why something failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IpsetCause {
    /// The kernel said no, or nothing.
    Netlink(NetlinkError),
    /// A set of that name has another type, named here.
    OtherKind(String),
}

impl IpsetError {
    pub(super) fn new(doing: String, cause: NetlinkError) -> Self {
        Self {
            doing,
            cause: IpsetCause::Netlink(cause),
        }
    }

    pub(super) fn other_kind(name: &str, kind: &str) -> Self {
        Self {
            doing: format!("use the set {name}"),
            cause: IpsetCause::OtherKind(kind.to_owned()),
        }
    }

    /// Whether a rule still names the set.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.cause == IpsetCause::Netlink(NetlinkError::Refused(BUSY))
    }

    /// Whether sets are for others: iptables may be had without them.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.cause == IpsetCause::Netlink(NetlinkError::Refused(Errno::PERM.raw_os_error()))
    }

    /// Whether the kernel does not know the type of set.
    #[must_use]
    pub fn is_unknown_type(&self) -> bool {
        self.cause == IpsetCause::Netlink(NetlinkError::Refused(UNKNOWN_TYPE))
    }

    /// Whether the kernel has no ip_set at all, so that there can be no set either.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        match self.cause {
            IpsetCause::Netlink(cause) => {
                cause.is(Errno::INVAL)
                    || matches!(
                        cause,
                        NetlinkError::Call {
                            errno: Errno::PROTONOSUPPORT | Errno::AFNOSUPPORT,
                            ..
                        }
                    )
            }
            IpsetCause::OtherKind(_) => false,
        }
    }

    /// What to try, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self.cause {
            IpsetCause::OtherKind(_) => Some("look at it with `ipset list -t`; rename or destroy it"),
            IpsetCause::Netlink(NetlinkError::Refused(UNKNOWN_TYPE)) => Some("modprobe ip_set_hash_net"),
            IpsetCause::Netlink(_) if self.is_unsupported() => Some("modprobe ip_set"),
            IpsetCause::Netlink(cause) => cause.hint(),
        }
    }
}

impl fmt::Display for IpsetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not {}: ", self.doing)?;
        match &self.cause {
            IpsetCause::OtherKind(kind) => write!(f, "it has another type ({})", kind.escape_debug()),
            IpsetCause::Netlink(NetlinkError::Refused(code)) => match reason(*code) {
                Some(reason) => f.write_str(reason),
                None => NetlinkError::Refused(*code).fmt(f),
            },
            IpsetCause::Netlink(cause) => cause.fmt(f),
        }
    }
}

impl std::error::Error for IpsetError {}

/// The kernel's number in words, where errno's own words would mislead.
fn reason(code: i32) -> Option<&'static str> {
    let reason = match code {
        2 => "there is no set of that name",
        22 => "the kernel has no ipset support or did not understand the request",
        PROTOCOL_MISMATCH => "the kernel speaks another ipset protocol than 6 or 7",
        UNKNOWN_TYPE => "the kernel does not know the set type hash:net",
        4099 => "the kernel holds as many sets as it can",
        BUSY => "a rule still names it",
        4101 => "a set of that name exists",
        4102 => "the set has another type",
        EXIST => "the element is there already",
        4104 => "the prefix length is not valid in a set",
        4105 => "the netmask is not valid",
        4106 => "the set is of the other address family",
        4107 => "the set was made without time-outs",
        4108 => "the set is a member of another set",
        4109 => "an IPv4 address was expected",
        4110 => "an IPv6 address was expected",
        4352 => "the set is full",
        4353 => "the address cannot be an element of a set",
        4096..=4400 => "ipset refused it",
        _ => return None,
    };
    Some(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_said_in_words_with_what_to_try() {
        let refused = |code| {
            IpsetError::new(
                "put 192.0.2.5/32 into the set spa4-ssh".into(),
                NetlinkError::Refused(code),
            )
        };
        let cases = [
            (
                1,
                "not permitted: CAP_NET_ADMIN is missing",
                Some("run as root, or give the process CAP_NET_ADMIN"),
            ),
            (2, "there is no set of that name", None),
            (4352, "the set is full", None),
            (
                4098,
                "the kernel does not know the set type hash:net",
                Some("modprobe ip_set_hash_net"),
            ),
        ];
        for (code, reason, hint) in cases {
            let text = format!("could not put 192.0.2.5/32 into the set spa4-ssh: {reason}");
            assert_eq!((refused(code).to_string(), refused(code).hint()), (text, hint));
        }
    }
}
