//! The text form of ports: `tcp/22`, `udp/60000-61000`.

use std::fmt;
use std::str::FromStr;

use super::{PortRange, Protocol};

impl PortRange {
    /// Whether the two have a port of the same protocol in common.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.protocol == other.protocol && self.first <= other.last && other.first <= self.last
    }

    /// Whether `port` of `protocol` is one of these.
    #[must_use]
    pub fn contains(&self, protocol: Protocol, port: u16) -> bool {
        self.protocol == protocol && (self.first..=self.last).contains(&port)
    }
}

impl Protocol {
    /// `tcp` or `udp`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// The number in IP headers.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// From the number in IP headers.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol, self.first)?;
        if self.last == self.first {
            return Ok(());
        }
        write!(f, "-{}", self.last)
    }
}

impl FromStr for PortRange {
    type Err = PortError;

    fn from_str(text: &str) -> Result<Self, PortError> {
        let (protocol, ports) = text.split_once('/').ok_or(PortError::NoProtocol)?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ if matches!(ports, "tcp" | "udp") => return Err(PortError::Swapped),
            _ => return Err(PortError::Protocol),
        };
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let (first, last) = (number(first)?, number(last)?);
        if last < first {
            return Err(PortError::Backwards { first, last });
        }
        Ok(Self { protocol, first, last })
    }
}

/// One port; `u16::from_str` alone would take `+22`.
fn number(text: &str) -> Result<u16, PortError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(PortError::Number);
    }
    match text.parse() {
        Ok(0) => Err(PortError::Zero),
        Ok(port) => Ok(port),
        Err(_) => Err(PortError::TooLarge),
    }
}

/// Why a text names no ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortError {
    /// A bare number, or anything else without a slash.
    NoProtocol,
    /// What stands before the slash is neither `tcp` nor `udp`.
    Protocol,
    /// `22/tcp`, the order knock programs use.
    Swapped,
    /// What stands after the slash is no number.
    Number,
    /// Port 0 cannot be reached.
    Zero,
    /// More than 65535.
    TooLarge,
    /// A range whose end comes before its beginning.
    Backwards {
        /// The number before the dash.
        first: u16,
        /// The number after it.
        last: u16,
    },
}

impl PortError {
    /// What `text` was most likely meant to be, where that can be guessed.
    #[must_use]
    pub fn meant(&self, text: &str) -> Option<String> {
        let guess = match self {
            Self::NoProtocol => format!("tcp/{text}"),
            Self::Swapped => text
                .split_once('/')
                .map(|(ports, protocol)| format!("{protocol}/{ports}"))?,
            Self::Backwards { first, last } => format!("{}/{last}-{first}", text.split_once('/')?.0),
            _ => return None,
        };
        guess.parse::<PortRange>().ok().map(|range| range.to_string())
    }
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProtocol => f.write_str("does not say tcp or udp"),
            Self::Protocol => f.write_str("names a protocol that is neither tcp nor udp"),
            Self::Swapped => f.write_str("has the protocol behind the port"),
            Self::Number => f.write_str("has no whole number where the port belongs"),
            Self::Zero => f.write_str("names port 0, which nobody can reach"),
            Self::TooLarge => f.write_str("names a port above 65535"),
            Self::Backwards { first, last } => write!(f, "runs backwards, from {first} to {last}"),
        }
    }
}

impl std::error::Error for PortError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(text: &str) -> PortRange {
        text.parse().unwrap()
    }

    #[test]
    fn reads_and_writes() {
        for text in ["tcp/22", "udp/60000-61000", "tcp/1-65535"] {
            assert_eq!(range(text).to_string(), text);
        }
        assert_eq!(range("tcp/22-22").to_string(), "tcp/22");
    }

    #[test]
    fn each_refusal_has_its_reason() {
        let cases = [
            ("22", PortError::NoProtocol),
            ("", PortError::NoProtocol),
            ("22/tcp", PortError::Swapped),
            ("sctp/22", PortError::Protocol),
            ("TCP/22", PortError::Protocol),
            ("tcp/", PortError::Number),
            ("tcp/+22", PortError::Number),
            ("tcp/ssh", PortError::Number),
            ("tcp/1-2-3", PortError::Number),
            ("tcp/0", PortError::Zero),
            ("tcp/70000", PortError::TooLarge),
            ("udp/9-5", PortError::Backwards { first: 9, last: 5 }),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<PortRange>(), Err(error), "{text}");
        }
    }

    #[test]
    fn guesses_what_was_meant() {
        assert_eq!(PortError::NoProtocol.meant("22").as_deref(), Some("tcp/22"));
        assert_eq!(PortError::Swapped.meant("60-70/udp").as_deref(), Some("udp/60-70"));
        assert_eq!(
            PortError::Backwards { first: 9, last: 5 }.meant("udp/9-5").as_deref(),
            Some("udp/5-9")
        );
        assert_eq!(PortError::NoProtocol.meant("\x1b").as_deref(), None);
    }

    #[test]
    fn overlap_is_within_one_protocol() {
        assert!(range("tcp/20-30").overlaps(&range("tcp/30-40")));
        assert!(!range("tcp/20-30").overlaps(&range("udp/20-30")));
        assert!(!range("tcp/20-30").overlaps(&range("tcp/31")));
        assert!(range("udp/1-9").contains(Protocol::Udp, 9) && !range("udp/1-9").contains(Protocol::Tcp, 9));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(tcp|udp)?/?[0-9-]{0,12}") {
            if let Err(error) = text.parse::<PortRange>() {
                let _ = error.meant(&text);
            }
        }
    }
}
