//! What stands in a table of iptables-legacy, without starting a program: getsockopt of the kernel's x_tables.

use std::hash::{DefaultHasher, Hasher};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, RawProtocol, SocketFlags, SocketType, socket_with};

use crate::netlink::Family;

/// `IPT_SO_GET_INFO` and `IP6T_SO_GET_INFO`; the entries are the next.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
const IPPROTO_RAW: u32 = 255;
const NAME_LEN: usize = 32;
/// `struct ipt_getinfo`: the name and 13 numbers, of which the last but one counts entries and the last octets.
const INFO_LEN: usize = NAME_LEN + 13 * 4;
/// `struct ipt_get_entries` before its entries: name and size, padded to 8.
const ENTRIES_HEAD: usize = NAME_LEN + 8;
/// What a table of ten million rules would take is no table.
const SIZE_LIMIT: usize = 1 << 30;

/// A number that is the same as long as the rules of a table are, whatever they count. A table that nobody used is
/// brought to life by looking: for hosts that use iptables-legacy only.
///
/// # Errors
///
/// [`Errno`], ENOENT or ENOPROTOOPT where this kernel has no such table.
pub fn digest(family: Family, table: &str) -> Result<u64, Errno> {
    let kind = match family {
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    };
    let raw = RawProtocol::new(IPPROTO_RAW).map(Protocol::from_raw);
    let socket = socket_with(kind, SocketType::RAW, SocketFlags::CLOEXEC, raw)?;
    let mut info = named(table, INFO_LEN);
    get(socket.as_fd(), family, GET_INFO, &mut info)?;
    let size = number(&info, INFO_LEN - 4).ok_or(Errno::INVAL)?;
    let len = usize::try_from(size).ok().filter(|len| *len < SIZE_LIMIT);
    let mut entries = named(table, ENTRIES_HEAD + len.ok_or(Errno::TOOBIG)?);
    entries[NAME_LEN..NAME_LEN + 4].copy_from_slice(&size.to_ne_bytes());
    get(socket.as_fd(), family, GET_ENTRIES, &mut entries)?;
    Ok(without_counters(&entries[ENTRIES_HEAD..], family))
}

fn named(table: &str, len: usize) -> Vec<u8> {
    let mut octets = vec![0; len];
    let name = table.as_bytes();
    let fits = name.len().min(NAME_LEN - 1);
    octets[..fits].copy_from_slice(&name[..fits]);
    octets
}

fn get(socket: BorrowedFd<'_>, family: Family, option: libc::c_int, buffer: &mut [u8]) -> Result<(), Errno> {
    let level = match family {
        Family::V4 => libc::IPPROTO_IP,
        Family::V6 => libc::IPPROTO_IPV6,
    };
    let mut len = libc::socklen_t::try_from(buffer.len()).map_err(|_| Errno::TOOBIG)?;
    #[allow(
        unsafe_code,
        reason = "rustix has no getsockopt with a buffer that the kernel reads too"
    )]
    // SAFETY: the kernel reads and writes at most `len` octets at `buffer`, which is exclusively borrowed, that long
    // and valid with any content; `len` outlives the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            option,
            buffer.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
    }
}

/// Goes from entry to entry: each has the offset of the next at a fixed place, and behind that its counters.
fn without_counters(mut entries: &[u8], family: Family) -> u64 {
    // struct ipt_entry begins with an ipt_ip of 84 octets, struct ip6t_entry with an ip6t_ip6 of 136.
    let (next_at, counters) = match family {
        Family::V4 => (90, 96..112),
        Family::V6 => (142, 152..168),
    };
    let mut hasher = DefaultHasher::new();
    while let Some(next) = entries.get(next_at..next_at + 2) {
        let len = usize::from(u16::from_ne_bytes([next[0], next[1]]));
        let Some((entry, rest)) = entries.split_at_checked(len).filter(|_| len >= counters.end) else {
            break;
        };
        hasher.write(&entry[..counters.start]);
        hasher.write(&entry[counters.end..]);
        entries = rest;
    }
    hasher.write(entries);
    hasher.finish()
}

fn number(octets: &[u8], at: usize) -> Option<u32> {
    octets.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(port: u8, counted: u8) -> Vec<u8> {
        let mut octets = vec![0; 120];
        octets[80] = port;
        octets[90..92].copy_from_slice(&120_u16.to_ne_bytes());
        octets[96..112].fill(counted);
        octets
    }

    #[test]
    fn what_was_counted_does_not_matter_and_all_else_does() {
        let of = |entries: &[Vec<u8>]| without_counters(&entries.concat(), Family::V4);
        let before = of(&[entry(22, 0), entry(80, 0)]);
        assert_eq!(before, of(&[entry(22, 5), entry(80, 9)]));
        assert_ne!(before, of(&[entry(22, 0), entry(81, 0)]));
        assert_ne!(before, of(&[entry(80, 0), entry(22, 0)]));
        assert_ne!(before, of(&[entry(22, 0)]));
    }

    #[test]
    fn an_entry_that_makes_no_sense_ends_it() {
        assert_ne!(
            without_counters(&[0; 200], Family::V6),
            without_counters(&[1; 200], Family::V6)
        );
        assert_eq!(without_counters(&[], Family::V4), DefaultHasher::new().finish());
    }
}
