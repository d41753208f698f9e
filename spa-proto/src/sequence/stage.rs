//! One stage of a sequence: a port and how it is to be touched.

use core::fmt;
use core::num::NonZeroU16;
use core::str::FromStr;

use crate::frame::{Content, Probe, TcpFlags};

/// One stage of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stage {
    /// By which protocol.
    pub transport: Transport,
    /// Which port.
    pub port: NonZeroU16,
}

/// The protocol of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP, a segment with exactly these control bits.
    Tcp(TcpFlags),
    /// UDP.
    Udp,
}

impl Stage {
    /// The stage that a probe would be; none for port 0.
    #[must_use]
    pub fn of(probe: &Probe<'_>) -> Option<Self> {
        let transport = match probe.content {
            Content::Tcp { flags, .. } => Transport::Tcp(flags),
            Content::Udp { .. } => Transport::Udp,
        };
        let port = NonZeroU16::new(probe.destination.port())?;
        Some(Self { transport, port })
    }

    /// Whether it is UDP.
    #[must_use]
    pub fn is_udp(&self) -> bool {
        self.transport == Transport::Udp
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.transport {
            Transport::Tcp(TcpFlags::SYN) => write!(f, "{}/tcp", self.port),
            Transport::Tcp(flags) => write!(f, "{}/tcp ({flags})", self.port),
            Transport::Udp => write!(f, "{}/udp", self.port),
        }
    }
}

/// Reads `7000/tcp`, and knock(1)'s `7000:tcp`. TCP means the SYN that begins a connection.
impl FromStr for Stage {
    type Err = StageError;

    fn from_str(text: &str) -> Result<Self, StageError> {
        let (port, transport) = text.split_once(['/', ':']).ok_or(StageError::NoTransport)?;
        let transport = match transport {
            "tcp" => Transport::Tcp(TcpFlags::SYN),
            "udp" => Transport::Udp,
            _ if matches!(port, "tcp" | "udp") => return Err(StageError::Swapped),
            _ => return Err(StageError::Transport),
        };
        // `u16::from_str` alone would take `+22`.
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(StageError::Number);
        }
        let port = port.parse::<u16>().map_err(|_| StageError::TooLarge)?;
        let port = NonZeroU16::new(port).ok_or(StageError::Zero)?;
        Ok(Self { transport, port })
    }
}

/// Why a text is no stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StageError {
    /// A bare number, or anything else without a slash.
    NoTransport,
    /// What stands behind the port is neither `tcp` nor `udp`.
    Transport,
    /// `tcp/22`, the order services use.
    Swapped,
    /// What stands in front is no number.
    Number,
    /// Port 0 cannot be reached.
    Zero,
    /// More than 65535.
    TooLarge,
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoTransport => "does not say tcp or udp",
            Self::Transport => "names a protocol that is neither tcp nor udp",
            Self::Swapped => "has the protocol in front of the port",
            Self::Number => "has no whole number where the port belongs",
            Self::Zero => "names port 0, which nobody can reach",
            Self::TooLarge => "names a port above 65535",
        })
    }
}

impl core::error::Error for StageError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn reads_both_ways_and_writes_one() {
        for text in ["7000/tcp", "65535/udp", "1/udp"] {
            let stage: Stage = text.parse().unwrap();
            assert_eq!(stage.to_string(), text);
            assert_eq!(text.replace('/', ":").parse(), Ok(stage));
        }
    }

    #[test]
    fn each_refusal_has_its_reason() {
        let cases = [
            ("7000", StageError::NoTransport),
            ("", StageError::NoTransport),
            ("7000/sctp", StageError::Transport),
            ("7000/TCP", StageError::Transport),
            ("tcp/7000", StageError::Swapped),
            ("/tcp", StageError::Number),
            ("+7/tcp", StageError::Number),
            ("7000/tcp/udp", StageError::Transport),
            ("0/tcp", StageError::Zero),
            ("70000/tcp", StageError::TooLarge),
            ("99999999999999999999/udp", StageError::TooLarge),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Stage>(), Err(error), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[0-9tcpud:/+-]{0,12}") {
            let _ = text.parse::<Stage>();
        }
    }
}
