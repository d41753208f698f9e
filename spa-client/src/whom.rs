//! For whom doors are opened: as typed, else as the profile says.

use spa_keys::profile::{AddressMode, Profile};
use spa_keys::{Exit, Failure};
use spa_proto::Address;

use crate::cli::AddressArgs;
use crate::resolve;

/// For whom, with what a person should know of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Whom {
    pub(crate) addresses: Vec<Address>,
    pub(crate) warnings: Vec<String>,
}

/// The addresses; STUN servers are asked where they are to be found out.
pub(crate) fn addresses(args: &AddressArgs, profile: &Profile) -> Result<Whom, Failure> {
    let plain = |addresses| Whom {
        addresses,
        warnings: Vec::new(),
    };
    match mode(args, profile)? {
        AddressMode::AsSeen => Ok(plain(vec![Address::AsSeen])),
        AddressMode::Explicit(addresses) => Ok(plain(addresses)),
        AddressMode::Resolve => {
            let servers = if args.stun.is_empty() {
                &profile.stun
            } else {
                &args.stun
            };
            resolve::public(servers)
        }
    }
}

fn mode(args: &AddressArgs, profile: &Profile) -> Result<AddressMode, Failure> {
    if args.as_seen {
        return Ok(AddressMode::AsSeen);
    }
    if args.resolve {
        return Ok(AddressMode::Resolve);
    }
    if args.address.is_empty() {
        return Ok(profile.address.clone());
    }
    AddressMode::explicit(args.address.clone()).map_err(|what| Failure::new(Exit::Usage, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROFILE: &str = r#"
        host = "gw.example.net"
        ports = [62201]
        name = "anna-phone"
        gateway-public-key = "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        gateway-hmac-key = "AwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        private-key = "BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
        psk = "BQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    "#;

    fn typed(addresses: &[&str]) -> AddressArgs {
        let address = |text: &&str| Address::explicit(text.parse().unwrap()).unwrap();
        AddressArgs {
            address: addresses.iter().map(address).collect(),
            ..AddressArgs::default()
        }
    }

    #[test]
    fn what_is_typed_wins_over_the_profile() {
        let mut profile = Profile::parse(PROFILE).unwrap();
        let one = typed(&["192.0.2.7"]);
        let as_seen = AddressArgs {
            as_seen: true,
            ..AddressArgs::default()
        };
        profile.address = AddressMode::Resolve;
        assert_eq!(mode(&typed(&[]), &profile).unwrap(), AddressMode::Resolve);
        assert_eq!(addresses(&as_seen, &profile).unwrap().addresses, [Address::AsSeen]);
        assert_eq!(addresses(&one, &profile).unwrap().addresses, one.address);
        profile.address = AddressMode::Explicit(one.address);
        assert_eq!(addresses(&typed(&[]), &profile).unwrap().addresses.len(), 1);
        assert!(addresses(&typed(&["192.0.2.7", "192.0.2.8"]), &profile).is_err());
    }

    #[test]
    fn nobody_is_asked_who_was_not_named() {
        let profile = Profile::parse(PROFILE).unwrap();
        let resolve = AddressArgs {
            resolve: true,
            ..AddressArgs::default()
        };
        let failure = addresses(&resolve, &profile).unwrap_err();
        assert_eq!((failure.exit, failure.hints.len()), (Exit::Usage, 4));
    }
}
