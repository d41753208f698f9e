//! A profile as it was typed.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;

use serde::de::{Error, SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde::{Deserialize, Deserializer};
use spa_proto::{Address, HmacKey, Psk, PublicKey, SecretKey, ServiceName};
use zeroize::Zeroizing;

use super::{AddressMode, Membership, Profile, ProfileService, Server, SyntaxError, host, seconds};
use crate::invite::Ports;
use crate::name::{ClientName, Host, ServicePort};
use crate::text;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Raw {
    host: Text<Host>,
    ports: RawPorts,
    name: Text<ClientName>,
    #[serde(default = "as_seen")]
    address: RawAddress,
    #[serde(default)]
    one_time_code: bool,
    #[serde(default)]
    stun: RawServers<{ Server::STUN_PORT }>,
    #[serde(default)]
    ntp: RawServers<{ Server::NTP_PORT }>,
    gateway_public_key: Text<PublicKey>,
    gateway_hmac_key: Text<HmacKey>,
    private_key: Text<SecretKey>,
    psk: Text<Psk>,
    #[serde(default)]
    services: BTreeMap<RawServiceName, RawService>,
    enroll: Option<RawEnroll>,
    #[serde(default)]
    also: Vec<RawMembership>,
}

/// The same gateway fields once more, `[[also]]`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawMembership {
    host: Text<Host>,
    ports: RawPorts,
    name: Text<ClientName>,
    gateway_public_key: Text<PublicKey>,
    gateway_hmac_key: Text<HmacKey>,
    private_key: Text<SecretKey>,
    psk: Text<Psk>,
    enroll: Option<RawEnroll>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawService {
    connect: Option<Text<ServicePort>>,
    #[serde(rename = "for")]
    duration: Option<Text<NonZeroU32>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RawEnroll {
    invite_public_key: Text<PublicKey>,
}

pub(super) fn parse(text: &str) -> Result<Profile, SyntaxError> {
    let raw: Raw = toml::from_str(text).map_err(|error| SyntaxError::locate(text, &error))?;
    let home = RawMembership {
        host: raw.host,
        ports: raw.ports,
        name: raw.name,
        gateway_public_key: raw.gateway_public_key,
        gateway_hmac_key: raw.gateway_hmac_key,
        private_key: raw.private_key,
        psk: raw.psk,
        enroll: raw.enroll,
    };
    Ok(Profile {
        home: home.into(),
        also: raw.also.into_iter().map(Membership::from).collect(),
        address: raw.address.0,
        one_time_code: raw.one_time_code,
        stun: raw.stun.0,
        ntp: raw.ntp.0,
        services: raw.services.into_iter().map(service).collect(),
    })
}

impl From<RawMembership> for Membership {
    fn from(raw: RawMembership) -> Self {
        Self {
            host: raw.host.0,
            ports: raw.ports.0,
            gateway: raw.gateway_public_key.0,
            hmac_key: raw.gateway_hmac_key.0,
            secret: raw.private_key.0,
            psk: raw.psk.0,
            name: raw.name.0,
            invite: raw.enroll.map(|enroll| enroll.invite_public_key.0),
        }
    }
}

fn service((name, service): (RawServiceName, RawService)) -> (ServiceName, ProfileService) {
    let service = ProfileService {
        connect: service.connect.map(|connect| connect.0),
        duration: service.duration.map(|duration| duration.0),
    };
    (name.0, service)
}

const fn as_seen() -> RawAddress {
    RawAddress(AddressMode::AsSeen)
}

/// A string that is read by a function of its type.
struct Text<T>(T);

trait Read: Sized {
    fn read(text: &str) -> Result<Self, String>;
}

macro_rules! read {
    ($($type:ty => $read:expr),* $(,)?) => {
        $(impl Read for $type {
            fn read(text: &str) -> Result<Self, String> {
                $read(text).map_err(|error| error.to_string())
            }
        })*
    };
}

read! {
    Host => host,
    ClientName => str::parse::<Self>,
    ServicePort => str::parse::<Self>,
    ServiceName => str::parse::<Self>,
    NonZeroU32 => seconds,
    PublicKey => text::public_key,
    HmacKey => text::hmac_key,
    SecretKey => text::secret_key,
    Psk => text::psk,
}

impl<'de, T: Read> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        T::read(&text).map(Self).map_err(D::Error::custom)
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct RawServiceName(ServiceName);

impl<'de> Deserialize<'de> for RawServiceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::deserialize(deserializer).map(|text| Self(text.0))
    }
}

struct RawPorts(Ports);

impl<'de> Deserialize<'de> for RawPorts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ports = Vec::<u16>::deserialize(deserializer)?;
        Ports::new(&ports).map(Self).map_err(D::Error::custom)
    }
}

/// Servers, with the port that they have unless one is named.
#[derive(Default)]
struct RawServers<const PORT: u16>(Vec<Server>);

impl<'de, const PORT: u16> Deserialize<'de> for RawServers<PORT> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        let servers = texts.iter().map(|text| Server::parse(text, PORT));
        servers.collect::<Result<_, _>>().map(Self).map_err(D::Error::custom)
    }
}

struct RawAddress(AddressMode);

impl<'de> Deserialize<'de> for RawAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AddressVisitor).map(Self)
    }
}

struct AddressVisitor;

impl<'de> Visitor<'de> for AddressVisitor {
    type Value = AddressMode;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(r#""as-seen", "resolve" or a list such as ["192.0.2.7"]"#)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<AddressMode, E> {
        match text {
            "as-seen" => Ok(AddressMode::AsSeen),
            "resolve" => Ok(AddressMode::Resolve),
            _ => Err(E::custom(
                r#"write "as-seen", "resolve" or a list such as ["192.0.2.7"]"#,
            )),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<AddressMode, A::Error> {
        let addresses = Vec::<IpAddr>::deserialize(SeqAccessDeserializer::new(list))?;
        let addresses = addresses.into_iter().map(Address::explicit).collect::<Result<_, _>>();
        AddressMode::explicit(addresses.map_err(A::Error::custom)?).map_err(A::Error::custom)
    }
}
