//! Which interfaces are up, asked of rtnetlink(7).

use super::NetlinkError;
use super::message::{DUMP, Draft, REQUEST, find};
use super::socket::{Reply, Socket};

const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
/// `struct ifinfomsg`: family, type, index, flags, change.
const HEADER_LEN: usize = 16;
/// `IFLA_IFNAME`.
const NAME: u16 = 3;
const IFF_UP: u32 = 1;

/// The names of the interfaces that are up, in this network namespace.
///
/// # Errors
///
/// [`NetlinkError`] if the kernel did not tell.
pub fn links_up() -> Result<Vec<String>, NetlinkError> {
    let request = Draft::new(GET_LINK, REQUEST | DUMP).raw(&[0; HEADER_LEN]);
    let replies = Socket::open(None)?.exchange(&request)?;
    Ok(replies.iter().filter_map(up).collect())
}

fn up(reply: &Reply) -> Option<String> {
    let (header, body) = reply
        .payload
        .split_first_chunk::<HEADER_LEN>()
        .filter(|_| reply.kind == NEW_LINK)?;
    let flags = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
    let name = find(body, NAME)?.text()?;
    (flags & IFF_UP != 0).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_up_and_whole() {
        let reply = |flags: u8| {
            let mut header = [0; HEADER_LEN];
            header[8] = flags;
            let payload = Draft::new(NEW_LINK, 0).raw(&header).text(NAME, "eth0").seal(0)[16..].to_vec();
            Reply {
                kind: NEW_LINK,
                payload,
            }
        };
        if cfg!(target_endian = "little") {
            assert_eq!(up(&reply(1)), Some("eth0".into()));
        }
        assert_eq!(up(&reply(0)), None);
        for length in 0..HEADER_LEN + 8 {
            assert_eq!(
                up(&Reply {
                    kind: NEW_LINK,
                    payload: vec![0xff; length]
                }),
                None
            );
        }
    }

    #[test]
    fn the_kernel_tells_without_any_right() {
        assert!(links_up().is_ok());
    }
}
