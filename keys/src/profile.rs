//! A client's profile, `PROFILE.toml`: where a gateway is, its keys, and this device's own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use spa_proto::{Address, HmacKey, Psk, PublicKey, SecretKey, ServiceName};
use zeroize::Zeroizing;

use crate::invite::Ports;
use crate::name::{ClientName, Host, NameError, ServicePort};
use crate::text;
use crate::units::{format_duration, parse_duration};

mod error;
mod folder;
mod raw;
mod sealed;
mod server;
#[cfg(test)]
mod tests;

pub use error::{ProfileError, SyntaxError};
pub use folder::{Folder, ProfileName, ProfileNameError, Stored};
pub use sealed::{Cost, Passphrase, Sealed, SealedError};
pub use server::{Server, ServerError};

/// Everything that a device knows of one door it may ask for. It holds secrets: its file has mode 0600.
#[derive(Debug)]
pub struct Profile {
    /// The gateway that is asked first.
    pub home: Membership,
    /// Gateways that are asked when those before them stay shut, `[[also]]`.
    pub also: Vec<Membership>,
    /// For whom doors are opened.
    pub address: AddressMode,
    /// Opening needs a one-time code.
    pub one_time_code: bool,
    /// STUN servers that tell the public addresses; two must agree.
    pub stun: Vec<Server>,
    /// NTP servers that `check` compares the clock with.
    pub ntp: Vec<Server>,
    /// What is known of the services; the gateway decides which there are.
    pub services: BTreeMap<ServiceName, ProfileService>,
}

/// What this device is at one gateway.
#[derive(Debug)]
pub struct Membership {
    /// Where the gateway is.
    pub host: Host,
    /// Its UDP ports in the order of trial.
    pub ports: Ports,
    /// Its static public key `S`.
    pub gateway: PublicKey,
    /// Its HMAC key `K`.
    pub hmac_key: HmacKey,
    /// This device's static private key `C`.
    pub secret: SecretKey,
    /// This device's PSK `P`.
    pub psk: Psk,
    /// What the gateway calls this device.
    pub name: ClientName,
    /// The public key of the invite that this was made from: with the same invite, the same enrollment can be sent
    /// again.
    pub invite: Option<PublicKey>,
}

/// For whom doors are opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressMode {
    /// The address that the gateway sees.
    AsSeen,
    /// The public addresses, looked up each time.
    Resolve,
    /// These addresses, at most one of each family.
    Explicit(Vec<Address>),
}

/// What a profile says of one service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProfileService {
    /// Where a connection shows that it is open.
    pub connect: Option<ServicePort>,
    /// How long it is asked for, in seconds, unless told otherwise.
    pub duration: Option<NonZeroU32>,
}

impl Profile {
    /// Reads a profile's text.
    ///
    /// # Errors
    ///
    /// [`SyntaxError`], which never holds a value: that may be a secret.
    pub fn parse(text: &str) -> Result<Self, SyntaxError> {
        raw::parse(text)
    }

    /// The gateways in the order of trial.
    pub fn memberships(&self) -> impl Iterator<Item = &Membership> {
        std::iter::once(&self.home).chain(&self.also)
    }

    /// Writes the profile's text, secrets included.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        // More than a profile takes, so that the secrets in it are not moved.
        let mut out = Zeroizing::new(String::with_capacity(16 * 1024));
        out.push_str("# A profile of spa-client. It holds secrets: keep its mode 0600.\n");
        self.home.write_place(&mut out);
        self.write_manner(&mut out);
        self.home.write_keys(&mut out);
        for (name, service) in &self.services {
            service.write(name, &mut out);
        }
        self.home.write_invite("enroll", &mut out);
        for other in &self.also {
            out.push_str("\n# Asked when the gateways before it stay shut.\n[[also]]\n");
            other.write_place(&mut out);
            other.write_keys(&mut out);
            other.write_invite("also.enroll", &mut out);
        }
        out
    }

    fn write_manner(&self, out: &mut String) {
        let _ = writeln!(out, "address = {}", self.address.to_toml());
        if self.one_time_code {
            out.push_str("one-time-code = true\n");
        }
        for (key, servers) in [("stun", &self.stun), ("ntp", &self.ntp)] {
            if !servers.is_empty() {
                let _ = writeln!(out, "{key} = {}", quoted(servers));
            }
        }
    }
}

impl Membership {
    fn write_place(&self, out: &mut String) {
        let ports: Vec<_> = self.ports.numbers().map(|port| port.to_string()).collect();
        line(out, "host", self.host.as_str());
        let _ = writeln!(out, "ports = [{}]", ports.join(", "));
        line(out, "name", self.name.as_str());
    }

    fn write_keys(&self, out: &mut String) {
        line(out, "gateway-public-key", &text::encode(self.gateway.as_bytes()));
        line(out, "gateway-hmac-key", &text::encode_secret(self.hmac_key.expose()));
        line(out, "private-key", &text::encode_secret(self.secret.expose()));
        line(out, "psk", &text::encode_secret(self.psk.expose()));
    }

    fn write_invite(&self, table: &str, out: &mut String) {
        if let Some(invite) = &self.invite {
            let _ = writeln!(
                out,
                "\n# The invite it was made from: enroll with the same one repeats the enrollment.\n[{table}]"
            );
            line(out, "invite-public-key", &text::encode(invite.as_bytes()));
        }
    }
}

/// A list of texts.
fn quoted<T: std::fmt::Display>(list: &[T]) -> String {
    let quoted: Vec<_> = list.iter().map(|item| format!("\"{item}\"")).collect();
    format!("[{}]", quoted.join(", "))
}

/// Nothing that is written so holds a quote, a backslash or a control character.
fn line(out: &mut String, key: &str, value: &str) {
    let _ = writeln!(out, "{key} = \"{value}\"");
}

impl AddressMode {
    /// Takes addresses that are named.
    ///
    /// # Errors
    ///
    /// In words, when there are none or two of one family: one message is sent for each family.
    pub fn explicit(addresses: Vec<Address>) -> Result<Self, &'static str> {
        let families = |ipv4| {
            let named = addresses.iter().filter_map(|address| address.named());
            named.filter(|address| address.is_ipv4() == ipv4).count()
        };
        match (families(true), families(false)) {
            (0, 0) => Err("no address"),
            (0 | 1, 0 | 1) => Ok(Self::Explicit(addresses)),
            _ => Err("two addresses of one family, where one IPv4 and one IPv6 address can be named"),
        }
    }

    /// The addresses that are named, if any.
    #[must_use]
    pub fn named(&self) -> Vec<IpAddr> {
        match self {
            Self::AsSeen | Self::Resolve => Vec::new(),
            Self::Explicit(addresses) => addresses.iter().filter_map(|address| address.named()).collect(),
        }
    }

    fn to_toml(&self) -> String {
        match self {
            Self::AsSeen => "\"as-seen\"".into(),
            Self::Resolve => "\"resolve\"".into(),
            Self::Explicit(_) => quoted(&self.named()),
        }
    }
}

impl ProfileService {
    fn write(self, name: &ServiceName, out: &mut String) {
        let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let quote = if name.as_str().chars().all(bare) { "" } else { "\"" };
        let _ = writeln!(out, "\n[services.{quote}{name}{quote}]");
        if let Some(connect) = self.connect {
            line(out, "connect", &connect.to_string());
        }
        if let Some(duration) = self.duration {
            line(out, "for", &format_duration(Duration::from_secs(duration.get().into())));
        }
    }
}

/// Reads how long a door is asked for, such as `1h`: from 1 s to what 32 bits count.
///
/// # Errors
///
/// In words.
pub fn seconds(text: &str) -> Result<NonZeroU32, String> {
    let length = parse_duration(text).map_err(|error| error.to_string())?;
    let seconds = u32::try_from(length.as_secs()).map_err(|_| "longer than a request can carry (136 years)")?;
    NonZeroU32::new(seconds).ok_or_else(|| "no time at all; leave it away for the default".into())
}

/// Reads a host as a person types it: a name in any case, an address in any form.
///
/// # Errors
///
/// [`NameError`] when it is neither.
pub fn host(text: &str) -> Result<Host, NameError> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    match bare.unwrap_or(text).parse::<IpAddr>() {
        Ok(address) => address.to_canonical().to_string().parse(),
        Err(_) => text.to_ascii_lowercase().parse(),
    }
}
