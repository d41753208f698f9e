//! Messages on the socket between the two processes: four octets of length, the highest first, then JSON.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message: some 100,000 open doors.
pub const LONGEST: usize = 16 << 20;

/// Sends one message.
///
/// # Errors
///
/// What the system said, or that it is longer than [`LONGEST`].
pub fn send(mut to: impl Write, message: &impl Serialize) -> io::Result<()> {
    let mut octets = vec![0; 4];
    serde_json::to_writer(&mut octets, message)?;
    let length = octets.len() - 4;
    if length > LONGEST {
        return Err(too_long(length));
    }
    octets[..4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    to.write_all(&octets)
}

/// Takes one message; nothing when the other end is gone.
///
/// # Errors
///
/// What the system said, or that what came is no such message. Nothing is allocated that did not come.
pub fn receive<T: DeserializeOwned>(mut from: impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > LONGEST {
        return Err(too_long(length));
    }
    let mut octets = Vec::new();
    from.take(length as u64).read_to_end(&mut octets)?;
    if octets.len() < length {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_slice(&octets).map(Some).map_err(io::Error::from)
}

/// The most descriptors that follow one message: a decoy's, one for each family.
pub const MOST_SOCKETS: usize = 2;

/// Sends descriptors behind a message that announced them.
///
/// # Errors
///
/// What the system said.
pub fn send_sockets(to: &UnixStream, sockets: &[OwnedFd]) -> io::Result<()> {
    let descriptors: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("too many descriptors"));
    }
    sendmsg(to, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Takes `count` descriptors behind a message that announced them.
///
/// # Errors
///
/// What the system said, or that others came.
pub fn receive_sockets(from: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut octet = [0];
    recvmsg(
        from,
        &mut [IoSliceMut::new(&mut octet)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut sockets = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            sockets.extend(descriptors);
        }
    }
    if sockets.len() == count {
        Ok(sockets)
    } else {
        Err(io::Error::new(
            ErrorKind::InvalidData,
            "not the sockets that were announced",
        ))
    }
}

fn too_long(length: usize) -> io::Error {
    io::Error::new(
        ErrorKind::InvalidData,
        format!("a message of {length} octets; {LONGEST} are the most"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let mut octets = Vec::new();
        send(&mut octets, &("open", 7)).unwrap();
        send(&mut octets, &("close", 8)).unwrap();
        let mut rest = octets.as_slice();
        assert_eq!(receive(&mut rest).unwrap(), Some(("open".to_owned(), 7)));
        assert_eq!(receive(&mut rest).unwrap(), Some(("close".to_owned(), 8)));
        assert_eq!(receive::<(String, u8)>(&mut rest).unwrap(), None);
    }

    #[test]
    fn descriptors_follow_a_message() {
        let (here, there) = UnixStream::pair().unwrap();
        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        send(&here, &"one").unwrap();
        send_sockets(&here, &[file]).unwrap();
        send(&here, &"after").unwrap();
        assert_eq!(receive::<String>(&there).unwrap().as_deref(), Some("one"));
        assert_eq!(receive_sockets(&there, 1).unwrap().len(), 1);
        assert_eq!(receive::<String>(&there).unwrap().as_deref(), Some("after"));
    }

    #[test]
    fn what_is_cut_too_long_or_no_json_is_refused() {
        let kind = |octets: &[u8]| receive::<u8>(octets).unwrap_err().kind();
        assert_eq!(kind(&[0, 0, 0, 2, b'1']), ErrorKind::UnexpectedEof);
        assert_eq!(kind(&[0xff, 0, 0, 0]), ErrorKind::InvalidData);
        assert_eq!(kind(&[0, 0, 0, 1, b'{']), ErrorKind::InvalidData);
        assert_eq!(kind(&[0, 0, 0, 3, b'3', b'0', b'0']), ErrorKind::InvalidData);
    }
}
