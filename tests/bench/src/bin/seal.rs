//! Seals many opens at once.
//!
//!     seal < LINES
//!
//! The first line: the gateway's public key, its HMAC key, a service, a duration in seconds. Each further one: a client's
//! private key, its PSK, an address to open for. Keys are hex digits, and so is what comes out, a line for each.

use std::error::Error;
use std::io;
use std::time::SystemTime;

use getrandom::SysRng;
use rand_core::UnwrapErr;
use spa_bench::octets;
use spa_proto::{
    Act, Address, HmacKey, OVERHEAD, Psk, PublicKey, Request, SecretKey, Sender, Services, UnixTime, pick_length,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut lines = io::stdin().lines();
    let head = lines.next().ok_or("no first line")??;
    let [gateway, hmac_key, service, seconds] = words(&head)?;
    let (gateway, hmac_key) = (PublicKey(key(gateway)?), HmacKey::from_bytes(&key(hmac_key)?));
    let rng = &mut UnwrapErr(SysRng);
    for line in lines {
        let line = line?;
        let [secret, psk, address] = words(&line)?;
        let sender = Sender {
            gateway: &gateway,
            hmac_key: &hmac_key,
            secret: &SecretKey::from_bytes(&key(secret)?),
            psk: &Psk::from_bytes(&key(psk)?),
        };
        let request = open(service, seconds.parse()?, address)?;
        let length = pick_length(OVERHEAD + request.payload_len(), rng);
        let sealed = sender.seal(&request, length, rng)?;
        for octet in sealed {
            print!("{octet:02x}");
        }
        println!();
    }
    Ok(())
}

fn words<const N: usize>(line: &str) -> Result<[&str; N], String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    words.try_into().map_err(|_| format!("not {N} words"))
}

fn key(hex: &str) -> Result<[u8; 32], String> {
    octets(hex)?.try_into().map_err(|_| "no key of 32 octets".into())
}

fn open(service: &str, duration_s: u32, address: &str) -> Result<Request, Box<dyn Error>> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let act = Act::Open {
        address: Address::explicit(address.parse()?)?,
        duration_s,
        services: Services::new(vec![service.parse()?])?,
    };
    Ok(Request {
        timestamp: UnixTime::from_nanos(since.as_nanos().try_into()?),
        code: None,
        act,
    })
}
