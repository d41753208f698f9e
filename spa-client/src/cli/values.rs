//! Values as they are typed.

use std::net::IpAddr;
use std::time::Duration;

use spa_keys::profile::{Server, seconds};
use spa_proto::Address;

use crate::clock::Offset;

pub(super) fn address(text: &str) -> Result<Address, String> {
    let address: IpAddr = text.parse().map_err(|_| "not an IPv4 or IPv6 address".to_owned())?;
    Address::explicit(address).map_err(|error| error.to_string())
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    seconds(text).map(|seconds| Duration::from_secs(seconds.get().into()))
}

pub(super) fn stun(text: &str) -> Result<Server, String> {
    Server::parse(text, Server::STUN_PORT).map_err(|error| error.to_string())
}

pub(super) fn ntp(text: &str) -> Result<Server, String> {
    Server::parse(text, Server::NTP_PORT).map_err(|error| error.to_string())
}

pub(super) fn offset(text: &str) -> Result<Offset, String> {
    text.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_of_one_host() {
        assert!(address("192.0.2.7").is_ok());
        assert_eq!(address("::ffff:192.0.2.7"), address("192.0.2.7"));
        assert!(address("0.0.0.0").is_err());
        assert!(address("gw.example.net").is_err());
    }
}
