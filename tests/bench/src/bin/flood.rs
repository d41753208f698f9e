//! Sends packets to one UDP port of a network namespace's peer, at a bounded rate, for a bounded time.
//!
//!     flood INTERFACE SOURCE DESTINATION PORT PEER-HARDWARE-ADDRESS PACKETS_PER_SECOND SECONDS < PAYLOADS
//!
//! Payloads are lines of hex digits; they are sent in turn, each from another source port. A rate of 0 is as fast as
//! this machine can. Only addresses in 10.0.0.0/8 are taken. The last line says how many were sent, and in how long.

use std::error::Error;
use std::io;
use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use spa_bench::batch::Sender;
use spa_bench::octets;
use spa_bench::packet::Path;

const BATCH: usize = 64;
const MOST_SECONDS: f64 = 120.0;
/// How far behind its rate a flood may catch up: longer bursts than this nobody asked for.
const SLACK: Duration = Duration::from_millis(20);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [interface, source, destination, port, peer, rate, seconds] = &arguments[..] else {
        return Err("INTERFACE SOURCE DESTINATION PORT PEER-HARDWARE-ADDRESS PACKETS_PER_SECOND SECONDS".into());
    };
    let own = std::fs::read_to_string(format!("/sys/class/net/{interface}/address"))?;
    let path = Path {
        hardware: [hardware(own.trim())?, hardware(peer)?],
        source: source.parse()?,
        destination: private(destination)?,
        port: port.parse()?,
    };
    let frames = frames(&path)?;
    let seconds = seconds.parse::<f64>()?.clamp(0.0, MOST_SECONDS);
    let sender = Sender::new(interface)?;
    let (sent, passed) = flood(&sender, &frames, rate.parse()?, Duration::from_secs_f64(seconds))?;
    println!("{sent} packets in {:.3} s", passed.as_secs_f64());
    Ok(())
}

fn private(text: &str) -> Result<Ipv4Addr, Box<dyn Error>> {
    let address: Ipv4Addr = text.parse()?;
    (address.octets()[0] == 10)
        .then_some(address)
        .ok_or_else(|| "only addresses in 10.0.0.0/8".into())
}

fn hardware(text: &str) -> Result<[u8; 6], Box<dyn Error>> {
    let octets: Result<Vec<u8>, _> = text.split(':').map(|part| u8::from_str_radix(part, 16)).collect();
    octets?
        .try_into()
        .map_err(|_| format!("{text} is no hardware address").into())
}

fn frames(path: &Path) -> Result<Vec<Vec<u8>>, Box<dyn Error>> {
    let mut frames = Vec::new();
    for (line, port) in io::stdin().lines().zip((1024..=u16::MAX).cycle()) {
        frames.push(path.frame(port, &octets(&line?)?)?);
    }
    (!frames.is_empty())
        .then_some(frames)
        .ok_or_else(|| "no payloads".into())
}

fn flood(sender: &Sender, frames: &[Vec<u8>], rate: u32, length: Duration) -> io::Result<(u64, Duration)> {
    let mut turn = frames.iter().map(Vec::as_slice).cycle();
    let begun = Instant::now();
    // When the next packet is due; with a rate of 0 all are due at once.
    let (mut due, mut sent) = (begun, 0_u64);
    let each = if rate == 0 {
        Duration::ZERO
    } else {
        Duration::from_secs(1) / rate
    };
    loop {
        let now = Instant::now();
        if now.duration_since(begun) >= length {
            return Ok((sent, now.duration_since(begun)));
        }
        due = due.max(now.checked_sub(SLACK).unwrap_or(begun));
        let ready = if each.is_zero() {
            BATCH
        } else {
            ready(now.saturating_duration_since(due), each)
        };
        if due > now || ready == 0 {
            sleep(due.saturating_duration_since(now).max(Duration::from_micros(50)));
            continue;
        }
        let done = match sender.send(turn.by_ref().take(ready)) {
            Ok(done) => done,
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => 0,
            Err(error) => return Err(error),
        };
        sent += done as u64;
        due += each * u32::try_from(done).unwrap_or(0);
    }
}

/// How many packets have come due.
fn ready(late: Duration, each: Duration) -> usize {
    let count = late.as_nanos() / each.as_nanos().max(1);
    usize::try_from(count).map_or(BATCH, |count| count.min(BATCH))
}
