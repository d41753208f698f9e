//! The limit that libpcap sets: a loop that captures as spa-server does, and only counts.
//!
//!     count INTERFACE PORT SECONDS
//!
//! Says `ready`, counts for so long, and prints packets, packets that the kernel dropped, and processor time in ns.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use pcap::{Capture, Direction, Linktype};
use rustix::time::{ClockId, clock_gettime};

/// As in spa-server's capture/watch.rs.
const SNAPLEN: i32 = 2048;
const RING_BYTES: i32 = 8 << 20;
const DELIVERY_MS: i32 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [interface, port, seconds] = &arguments[..] else {
        return Err("INTERFACE PORT SECONDS".into());
    };
    let inactive = Capture::from_device(interface.as_str())?;
    let mut capture = inactive
        .promisc(false)
        .snaplen(SNAPLEN)
        .buffer_size(RING_BYTES)
        .timeout(DELIVERY_MS)
        .open()?;
    if interface == "any" {
        let _ = capture.set_datalink(Linktype(276));
    }
    capture.direction(Direction::In)?;
    capture.filter(&format!("udp dst port {}", port.parse::<u16>()?), true)?;
    let stop = capture.breakloop_handle();
    let length = Duration::from_secs_f64(seconds.parse()?);
    println!("ready");
    let begun = Instant::now();
    thread::spawn(move || {
        thread::sleep(length);
        stop.breakloop();
    });
    let (mut packets, mut octets) = (0_u64, 0_usize);
    let ended = capture.for_each(None, |packet| {
        packets += 1;
        octets = octets.wrapping_add(packet.data.len());
    });
    // An interrupted loop is an error to libpcap, and the way this one ends.
    if begun.elapsed() < length {
        ended?;
    }
    let dropped = capture.stats()?.dropped;
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    println!(
        "{packets} {dropped} {} {octets}",
        cpu.tv_sec * 1_000_000_000 + cpu.tv_nsec
    );
    Ok(())
}
