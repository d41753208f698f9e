//! An invite as text: what a gateway hands a new device ("Enrollment in one packet").

use std::fmt;

use base64::engine::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use spa_proto::{HmacKey, InviteSeed, PublicKey, UnixTime};
use zeroize::Zeroizing;

use crate::name::{ClientName, Host, NameError};
use crate::text::{TextError, check_characters};

mod lists;

pub use lists::{Ports, ServiceHints};

const PREFIX: &str = "spa1-invite:";
const VERSION: u8 = 1;
const FLAG_PIN: u8 = 1;
const FLAG_EXPLICIT: u8 = 2;
const FLAG_CODE: u8 = 4;

/// What an invite's text says. Name, services and end are for reading; what the gateway stored is what counts.
#[derive(Debug)]
pub struct InviteText {
    /// What the gateway will ask of the device.
    pub demands: Demands,
    /// The end, seconds since the epoch, by the gateway's clock.
    pub end_s: u64,
    /// The gateway's static public key `S`.
    pub gateway: PublicKey,
    /// The gateway's HMAC key `K`.
    pub hmac_key: HmacKey,
    /// The seed of the invite's own keys.
    pub seed: InviteSeed,
    /// UDP ports in the order of trial.
    pub ports: Ports,
    /// Where the gateway is.
    pub host: Host,
    /// The name the new client will have.
    pub name: ClientName,
    /// The services it will be allowed.
    pub services: ServiceHints,
}

/// What a gateway will ask of a device beyond its keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// A PIN must be sent with the enroll.
    pub pin: bool,
    /// Address form 0 is refused.
    pub explicit_address: bool,
    /// Opening needs a one-time code.
    pub one_time_code: bool,
}

impl InviteText {
    /// The end as a time.
    #[must_use]
    pub const fn end(&self) -> UnixTime {
        UnixTime::from_secs(self.end_s)
    }

    /// Reads an invite.
    ///
    /// # Errors
    ///
    /// [`InviteError`] for everything that is not written back as the same text.
    pub fn parse(text: &str) -> Result<Self, InviteError> {
        let octets = decode(text)?;
        let (contents, checksum) = octets.split_last_chunk().ok_or(InviteError::Cut)?;
        if *checksum != check(contents) {
            return Err(InviteError::Checksum);
        }
        let mut input = Reader(contents);
        match input.array()? {
            [VERSION] => {}
            [version] => return Err(InviteError::Version { version }),
        }
        let invite = Self::read(&mut input)?;
        match input.0.len() {
            0 => Ok(invite),
            over => Err(InviteError::LeftOver { over }),
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, InviteError> {
        Ok(Self {
            demands: Demands::from_flags(input.array()?)?,
            end_s: u64::from_be_bytes(input.array()?),
            gateway: PublicKey(input.array()?),
            hmac_key: HmacKey::from_bytes(&*input.secret()?),
            seed: InviteSeed::from_bytes(&*input.secret()?),
            ports: Ports::read(input)?,
            host: input.text()?.parse().map_err(InviteError::Name)?,
            name: input.text()?.parse().map_err(InviteError::Name)?,
            services: ServiceHints::parse(input.text()?)?,
        })
    }

    /// Writes the invite. It is a secret until it is spent.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let octets = self.to_octets();
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + octets.len() * 4 / 3 + 4));
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(&*octets, &mut text);
        text
    }

    fn to_octets(&self) -> Zeroizing<Vec<u8>> {
        // More than any invite has, so that the secrets in it are never moved.
        let mut octets = Zeroizing::new(Vec::with_capacity(1024));
        octets.extend([VERSION, self.demands.flags()]);
        octets.extend(self.end_s.to_be_bytes());
        octets.extend(self.gateway.as_bytes());
        octets.extend(self.hmac_key.expose());
        octets.extend(self.seed.expose());
        self.ports.write(&mut octets);
        write_text(self.host.as_str(), &mut octets);
        write_text(self.name.as_str(), &mut octets);
        write_text(&self.services.to_string(), &mut octets);
        let checksum = check(&octets);
        octets.extend(checksum);
        octets
    }
}

impl Demands {
    fn from_flags([flags]: [u8; 1]) -> Result<Self, InviteError> {
        if flags & !(FLAG_PIN | FLAG_EXPLICIT | FLAG_CODE) != 0 {
            return Err(InviteError::Flags { flags });
        }
        Ok(Self {
            pin: flags & FLAG_PIN != 0,
            explicit_address: flags & FLAG_EXPLICIT != 0,
            one_time_code: flags & FLAG_CODE != 0,
        })
    }

    fn flags(self) -> u8 {
        let all = [
            (self.pin, FLAG_PIN),
            (self.explicit_address, FLAG_EXPLICIT),
            (self.one_time_code, FLAG_CODE),
        ];
        all.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum()
    }
}

fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, InviteError> {
    let encoded = text.strip_prefix(PREFIX).ok_or(InviteError::Prefix)?;
    check_characters(encoded).map_err(InviteError::Text)?;
    let mut octets = Zeroizing::new(vec![0; encoded.len() / 4 * 3 + 3]);
    match URL_SAFE_NO_PAD.decode_slice(encoded, &mut octets) {
        Ok(length) => {
            octets.truncate(length);
            Ok(octets)
        }
        Err(_) if encoded.len() % 4 == 1 => Err(InviteError::Cut),
        Err(_) => Err(InviteError::Text(TextError::UnusedBits)),
    }
}

/// The first 4 bytes of SHA-256.
fn check(contents: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(contents));
    [a, b, c, d]
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    // All of these were checked to be at most 255 when they were made.
    out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    out.extend(text.as_bytes());
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], InviteError> {
        let (array, rest) = self.0.split_first_chunk().ok_or(InviteError::Cut)?;
        self.0 = rest;
        Ok(*array)
    }

    fn secret(&mut self) -> Result<Zeroizing<[u8; 32]>, InviteError> {
        self.array().map(Zeroizing::new)
    }

    fn text(&mut self) -> Result<&'a str, InviteError> {
        let [length] = self.array()?;
        let (text, rest) = self.0.split_at_checked(length.into()).ok_or(InviteError::Cut)?;
        self.0 = rest;
        std::str::from_utf8(text).map_err(|_| InviteError::NotText)
    }
}

/// A text that is no invite. It never holds the text itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InviteError {
    /// Does not begin with `spa1-invite:`.
    Prefix,
    /// Not base64url.
    Text(TextError),
    /// Ends too early.
    Cut,
    /// The checksum is another.
    Checksum,
    /// A version that this program does not know.
    Version {
        /// Which.
        version: u8,
    },
    /// A flag that this program does not know.
    Flags {
        /// All flags.
        flags: u8,
    },
    /// Not 1 to 8 ports.
    PortCount {
        /// How many there are.
        have: usize,
    },
    /// Port 0.
    PortZero,
    /// Host, name or a service is none.
    Name(NameError),
    /// A field that is not UTF-8.
    NotText,
    /// The list of services takes more than 255 bytes.
    ServicesLong {
        /// How many it takes.
        have: usize,
    },
    /// A service stands there twice.
    ServiceTwice {
        /// Which.
        name: String,
    },
    /// Bytes after the last field.
    LeftOver {
        /// How many.
        over: usize,
    },
}

impl fmt::Display for InviteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix => write!(f, "an invite begins with {PREFIX}"),
            Self::Text(TextError::WhiteSpace { at }) => {
                write!(
                    f,
                    "white space after the prefix, at character {at}; an invite is one line"
                )
            }
            Self::Text(error) => write!(f, "after the prefix: {error}"),
            Self::Cut => f.write_str("the invite is cut short"),
            Self::Checksum => f.write_str("the invite is damaged or cut: its checksum does not match"),
            Self::Version { version } => write!(f, "an invite of version {version}, where {VERSION} is known"),
            Self::Flags { flags } => write!(f, "the invite demands what is not known here (flags {flags:#04x})"),
            Self::PortCount { have } => write!(f, "{have} knock ports, where an invite has 1 to {}", Ports::MOST),
            Self::PortZero => f.write_str("the knock port 0"),
            Self::Name(error) => error.fmt(f),
            Self::NotText => f.write_str("a field that is not text"),
            Self::ServicesLong { have } => {
                write!(
                    f,
                    "a list of services of {have} bytes, where {} fit",
                    ServiceHints::MOST
                )
            }
            Self::ServiceTwice { name } => write!(f, "the service {name} stands there twice"),
            Self::LeftOver { over } => write!(f, "{over} bytes after the invite's end"),
        }
    }
}

impl std::error::Error for InviteError {}

#[cfg(test)]
mod tests;
