//! A profile as it was typed.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU32;

use serde::de::{Error, SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde::{Deserialize, Deserializer};
use spa_proto::{Address, HmacKey, Psk, PublicKey, SecretKey, ServiceName};
use zeroize::Zeroizing;

use super::{AddressMode, Profile, ProfileService, SyntaxError, host, seconds};
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
    gateway_public_key: Text<PublicKey>,
    gateway_hmac_key: Text<HmacKey>,
    private_key: Text<SecretKey>,
    psk: Text<Psk>,
    #[serde(default)]
    services: BTreeMap<RawServiceName, RawService>,
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
    Ok(Profile {
        host: raw.host.0,
        ports: raw.ports.0,
        gateway: raw.gateway_public_key.0,
        hmac_key: raw.gateway_hmac_key.0,
        secret: raw.private_key.0,
        psk: raw.psk.0,
        name: raw.name.0,
        address: raw.address.0,
        services: raw.services.into_iter().map(service).collect(),
        invite: raw.enroll.map(|enroll| enroll.invite_public_key.0),
    })
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
