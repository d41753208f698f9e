//! What is asked: open, close or enroll, in types that cannot hold what the wire refuses ("Payload").

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::ops::Deref;
use core::str::FromStr;

use crate::key::{Psk, PublicKey};
use crate::time::UnixTime;

/// One request as a client makes it.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// The client's own clock when it was made; also what makes it unique.
    pub timestamp: UnixTime,
    /// The one-time code or PIN, where there is one.
    pub code: Option<Code>,
    /// What is asked.
    pub act: Act,
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Act {
    /// Let new connections of `address` to these services begin.
    Open {
        /// For whom.
        address: Address,
        /// For how many seconds; 0 stands for each service's own default.
        duration_s: u32,
        /// Which services.
        services: Services,
    },
    /// End the sender's own grants for that address and these services.
    Close {
        /// For whom.
        address: Address,
        /// Which services.
        services: Services,
    },
    /// Become a client, under an invite's key.
    Enroll(Enrollment),
}

/// For whom a door is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// The source address the gateway sees.
    AsSeen,
    /// This address; made by [`Address::explicit`].
    Explicit(ExplicitAddress),
}

/// An address that a request may name: not unspecified, multicast or the limited broadcast, and not IPv4-mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExplicitAddress(IpAddr);

impl Address {
    /// Names an address. An IPv4-mapped IPv6 address becomes the IPv4 address it stands for.
    ///
    /// # Errors
    ///
    /// [`AddressError`] for the unspecified address, multicast and the limited broadcast.
    pub fn explicit(address: IpAddr) -> Result<Self, AddressError> {
        let address = address.to_canonical();
        let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
        if address.is_unspecified() || address.is_multicast() || broadcast {
            return Err(AddressError(address));
        }
        Ok(Self::Explicit(ExplicitAddress(address)))
    }

    /// The address itself: the one named, or `source`.
    #[must_use]
    pub fn resolve(self, source: IpAddr) -> IpAddr {
        self.named().unwrap_or(source.to_canonical())
    }

    /// The address named, if one is.
    #[must_use]
    pub const fn named(self) -> Option<IpAddr> {
        match self {
            Self::AsSeen => None,
            Self::Explicit(ExplicitAddress(address)) => Some(address),
        }
    }
}

/// An address that nobody's packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressError(pub IpAddr);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not the address of one host", self.0)
    }
}

impl core::error::Error for AddressError {}

/// A one-time code or PIN: a number of up to 8 decimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Code(u32);

/// Without the number, which is a secret.
impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(..)")
    }
}

impl Code {
    /// Takes a number below 100 000 000.
    ///
    /// # Errors
    ///
    /// [`CodeError`] for a greater one.
    pub const fn new(number: u32) -> Result<Self, CodeError> {
        if number < 100_000_000 {
            Ok(Self(number))
        } else {
            Err(CodeError)
        }
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// A code of more than 8 digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeError;

impl fmt::Display for CodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a one-time code has at most 8 digits")
    }
}

impl core::error::Error for CodeError {}

/// A service's name as it travels: 1 to 63 octets, `[a-z0-9]` first and `[a-z0-9._/-]` after.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(String);

impl ServiceName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = ServiceNameError;

    fn from_str(name: &str) -> Result<Self, ServiceNameError> {
        let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let good_first = name.as_bytes().first().is_some_and(alphanumeric);
        let good_rest = name.bytes().all(|byte| alphanumeric(&byte) || b"._/-".contains(&byte));
        if good_first && good_rest && name.len() <= 63 {
            Ok(Self(name.into()))
        } else {
            Err(ServiceNameError)
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name that no service can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceNameError;

impl fmt::Display for ServiceNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a service name is 1 to 63 characters, a-z or 0-9 first, then a-z 0-9 . _ / -")
    }
}

impl core::error::Error for ServiceNameError {}

/// 1 to 16 different services, in the order they were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Services(Vec<ServiceName>);

impl Services {
    /// The most services one request can name.
    pub const MOST: usize = 16;

    /// Takes a list of services.
    ///
    /// # Errors
    ///
    /// [`ServicesError`] when there are none, more than 16, or one twice.
    pub fn new(names: Vec<ServiceName>) -> Result<Self, ServicesError> {
        if names.is_empty() || names.len() > Self::MOST {
            return Err(ServicesError::Count { have: names.len() });
        }
        let twice = names
            .iter()
            .enumerate()
            .find(|(i, name)| names.iter().take(*i).any(|other| other == *name));
        match twice {
            Some((_, name)) => Err(ServicesError::Twice { name: name.clone() }),
            None => Ok(Self(names)),
        }
    }
}

impl Deref for Services {
    type Target = [ServiceName];

    fn deref(&self) -> &[ServiceName] {
        &self.0
    }
}

/// A list of services that cannot travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServicesError {
    /// None, or more than 16.
    Count {
        /// How many there are.
        have: usize,
    },
    /// One stands in the list twice.
    Twice {
        /// Which.
        name: ServiceName,
    },
}

impl fmt::Display for ServicesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count { have } => write!(
                f,
                "{have} services, where 1 to {} can be asked for at once",
                Services::MOST
            ),
            Self::Twice { name } => write!(f, "service {name} stands there twice"),
        }
    }
}

impl core::error::Error for ServicesError {}

/// What a device sends under an invite: its new keys and how it wants to be called in lists.
#[derive(Debug, PartialEq, Eq)]
pub struct Enrollment {
    /// The device's new static public key.
    pub public_key: PublicKey,
    /// The device's new pre-shared key.
    pub psk: Psk,
    /// A text for people, such as the device's host name.
    pub label: Label,
}

/// Up to 63 octets of UTF-8 without control, direction or invisible characters.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Label(String);

impl Label {
    /// The most octets a label can have.
    pub const MOST: usize = 63;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        if text.len() > Self::MOST {
            return Err(LabelError::Long { have: text.len() });
        }
        match text.chars().find(|character| is_hidden(*character)) {
            Some(character) => Err(LabelError::Hidden { character }),
            None => Ok(Self(text.into())),
        }
    }
}

/// Characters that could deceive who reads a list or a log.
const fn is_hidden(character: char) -> bool {
    matches!(character,
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A label that cannot travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelError {
    /// More than 63 octets.
    Long {
        /// How many octets there are.
        have: usize,
    },
    /// A control, direction or invisible character.
    Hidden {
        /// Which.
        character: char,
    },
}

impl fmt::Display for LabelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Long { have } => write!(f, "a label of {have} bytes, where {} fit", Label::MOST),
            Self::Hidden { character } => write!(f, "a label with the hidden character {}", character.escape_unicode()),
        }
    }
}

impl core::error::Error for LabelError {}

/// A request that the gateway found genuine, fresh and new. Only [`Gateway::handle`](crate::Gateway::handle) makes one.
#[derive(Debug)]
pub struct Knock {
    pub(crate) client: PublicKey,
    pub(crate) gateway: PublicKey,
    pub(crate) source: SocketAddr,
    pub(crate) request: Request,
}

impl Knock {
    /// The key that sealed it: a client's for open and close, an invite's for enroll.
    #[must_use]
    pub const fn client(&self) -> &PublicKey {
        &self.client
    }

    /// The public key of the gateway identity it was sealed for.
    #[must_use]
    pub const fn gateway(&self) -> &PublicKey {
        &self.gateway
    }

    /// Where the datagram came from.
    #[must_use]
    pub const fn source(&self) -> SocketAddr {
        self.source
    }

    /// What is asked.
    #[must_use]
    pub const fn request(&self) -> &Request {
        &self.request
    }

    /// What is asked, taken out.
    #[must_use]
    pub fn into_request(self) -> Request {
        self.request
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use std::string::ToString;

    #[test]
    fn mapped_addresses_become_ipv4() {
        let address = Address::explicit("::ffff:192.0.2.1".parse().unwrap()).unwrap();
        assert_eq!(address.named(), Some("192.0.2.1".parse().unwrap()));
        for nobody in [
            "0.0.0.0",
            "::",
            "224.0.0.1",
            "ff02::1",
            "255.255.255.255",
            "::ffff:0.0.0.0",
        ] {
            assert!(Address::explicit(nobody.parse().unwrap()).is_err(), "{nobody}");
        }
    }

    #[test]
    fn names_are_plain() {
        for good in ["a", "ssh", "tcp/22", "0.a_b-c/d", &"x".repeat(63)] {
            assert_eq!(good.parse::<ServiceName>().unwrap().to_string(), good);
        }
        for bad in ["", ".a", "-a", "/a", "A", "a b", "a\0", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn services_are_few_and_different() {
        let name = |text: &str| text.parse::<ServiceName>().unwrap();
        assert_eq!(Services::new(vec![]), Err(ServicesError::Count { have: 0 }));
        assert_eq!(
            Services::new(vec![name("a"); 17]),
            Err(ServicesError::Count { have: 17 })
        );
        assert_eq!(
            Services::new(vec![name("a"), name("b"), name("a")]),
            Err(ServicesError::Twice { name: name("a") })
        );
    }

    #[test]
    fn labels_hide_nothing() {
        for good in [
            "",
            "Anna's phone",
            "Ünïcode ✓",
            "\u{200a}\u{2010}\u{2027}\u{202f}\u{205f}\u{2070}",
        ] {
            assert!(good.parse::<Label>().is_ok(), "{good:?}");
        }
        for bad in [
            "\u{1b}[2J",
            "a\u{7f}",
            "\u{9f}",
            "\u{200b}",
            "\u{202e}",
            "\u{2028}",
            "\u{2066}",
            "\u{feff}",
        ] {
            assert!(bad.parse::<Label>().is_err(), "{bad:?}");
        }
    }
}
