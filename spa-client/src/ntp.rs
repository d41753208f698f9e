//! The client's side of SNTP (RFC 4330, in the packet of RFC 5905): by how much the clock here is wrong.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use spa_keys::profile::Server;
use spa_keys::units::now;
use spa_proto::UnixTime;

use crate::clock::{self, Offset};
use crate::host;

const LENGTH: usize = 48;
/// No warning, version 4, client.
const REQUEST: u8 = 0b00_100_011;
const MODE_SERVER: u8 = 4;
const UNSYNCHRONISED: u8 = 3;
/// Seconds from 1900 to 1970.
const TO_UNIX: u64 = 2_208_988_800;
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks one server.
///
/// # Errors
///
/// In words.
pub(crate) fn ask(server: &Server) -> Result<Offset, String> {
    let addresses = host::resolve(&server.host).map_err(|failure| failure.what)?;
    let mut last = "no answer".to_owned();
    for address in addresses {
        match ask_at(address, server.port) {
            Ok(offset) => return Ok(offset),
            Err(why) => last = why,
        }
    }
    Err(last)
}

fn ask_at(address: IpAddr, port: u16) -> Result<Offset, String> {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let words = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut => "no answer".to_owned(),
        _ => error.to_string(),
    };
    let socket = UdpSocket::bind((any, 0)).map_err(words)?;
    socket.connect((address, port)).map_err(words)?;
    // Where the client's time would stand there is a random number: nobody learns the clock, nobody off the path answers.
    let mut cookie = [0; 8];
    getrandom::fill(&mut cookie).map_err(|error| error.to_string())?;
    let sent = now();
    socket.send(&request(cookie)).map_err(words)?;
    let end = Instant::now() + PATIENCE;
    let mut buffer = [0; 512];
    loop {
        let left = end
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        socket.set_read_timeout(Some(left)).map_err(words)?;
        let length = socket.recv(&mut buffer).map_err(words)?;
        let received = now();
        if let Some(times) = answer(&buffer[..length], cookie) {
            return Ok(offset(sent, times?, received, clock::built()));
        }
    }
}

fn request(cookie: [u8; 8]) -> [u8; LENGTH] {
    let mut octets = [0; LENGTH];
    octets[0] = REQUEST;
    octets[40..].copy_from_slice(&cookie);
    octets
}

/// When the server received the request and sent the answer, in NTP's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    received: u64,
    sent: u64,
}

/// The times in the answer to the request of this cookie; `None` for everything else.
fn answer(octets: &[u8], cookie: [u8; 8]) -> Option<Result<Times, String>> {
    let octets = octets.first_chunk::<LENGTH>()?;
    if octets[0] & 7 != MODE_SERVER || octets[24..32] != cookie {
        return None;
    }
    let time = |at: usize| Some(u64::from_be_bytes(octets.get(at..at + 8)?.try_into().ok()?));
    let times = Times {
        received: time(32)?,
        sent: time(40)?,
    };
    if octets[0] >> 6 == UNSYNCHRONISED || !(1..16).contains(&octets[1]) || times.sent == 0 {
        return Some(Err("it does not know the time itself".into()));
    }
    Some(Ok(times))
}

/// RFC 5905, section 8: ((T2 - T1) + (T3 - T4)) / 2.
fn offset(sent: UnixTime, server: Times, received: UnixTime, built: UnixTime) -> Offset {
    let nanos = |time: UnixTime| i128::from(time.as_nanos());
    let there = |time| nanos(unix(time, built));
    Offset::of_nanos((there(server.received) - nanos(sent) + there(server.sent) - nanos(received)) / 2)
}

/// NTP's seconds begin anew every 136 years; the time is not before this program was built, less a year.
fn unix(time: u64, built: UnixTime) -> UnixTime {
    let (seconds, fraction) = (time >> 32, time & 0xffff_ffff);
    let least = built.as_secs().saturating_sub(365 * 86_400);
    let mut seconds = (seconds + (1 << 32) - TO_UNIX) % (1 << 32);
    while seconds < least {
        seconds += 1 << 32;
    }
    let nanos = (fraction * 1_000_000_000) >> 32;
    UnixTime::from_secs(seconds).saturating_add(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn ntp(seconds: u64) -> u64 {
        ((seconds + TO_UNIX) % (1 << 32)) << 32
    }

    #[test]
    fn eras() {
        // 2036-02-07T06:28:16Z is the first second of the next era.
        for seconds in [1_800_000_000, 2_085_978_495, 2_085_978_496, 4_000_000_000] {
            assert_eq!(unix(ntp(seconds), BUILT), UnixTime::from_secs(seconds));
        }
        let half = unix(ntp(1_800_000_000) | 1 << 31, BUILT);
        assert_eq!(half.as_nanos(), 1_800_000_000_500_000_000);
    }

    #[test]
    fn the_way_there_and_back_is_taken_out() {
        let at = |seconds| UnixTime::from_secs(seconds);
        let server = Times {
            received: ntp(1_800_000_077),
            sent: ntp(1_800_000_077),
        };
        let found = offset(at(1_800_000_000), server, at(1_800_000_004), BUILT);
        assert_eq!(found.typed(), "+75s");
        let found = offset(at(1_800_000_100), server, at(1_800_000_100), BUILT);
        assert_eq!(found.typed(), "-23s");
    }

    #[test]
    fn only_the_answer_to_this_request() {
        let cookie = *b"12345678";
        let mut good = [0; LENGTH];
        good[..2].copy_from_slice(&[0x24, 2]);
        good[24..32].copy_from_slice(&cookie);
        good[32..40].copy_from_slice(&1_u64.to_be_bytes());
        good[40..].copy_from_slice(&2_u64.to_be_bytes());
        assert_eq!(answer(&good, cookie), Some(Ok(Times { received: 1, sent: 2 })));
        assert_eq!(answer(&good, *b"12345679"), None);
        assert_eq!(answer(&good[..47], cookie), None);
        assert_eq!(answer(&request(cookie), cookie), None);
        for (at, octet) in [(0, 0xe4), (1, 0), (1, 16)] {
            let mut bad = good;
            bad[at] = octet;
            assert!(answer(&bad, cookie).unwrap().is_err(), "{at}: {octet}");
        }
    }
}
