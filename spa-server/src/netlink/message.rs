//! Messages and attributes of netlink (netlink(7)): octets in the host's order, everything padded to four.
//!
//! Decoding never trusts a length: a message or attribute that does not fit is one [`NetlinkError::Malformed`] and the end.

use super::NetlinkError;

/// `NLM_F_REQUEST`.
pub const REQUEST: u16 = 0x001;
/// `NLM_F_ACK`: answer even when there is nothing to say.
pub const ACK: u16 = 0x004;
/// `NLM_F_EXCL`: fail when it is there already.
pub const EXCLUSIVE: u16 = 0x200;
/// `NLM_F_CREATE`.
pub const CREATE: u16 = 0x400;
/// `NLM_F_DUMP`: all of them.
pub const DUMP: u16 = 0x300;

/// `NLMSG_NOOP`.
pub const NOOP: u16 = 1;
/// `NLMSG_ERROR`: an error, or with number 0 an acknowledgement.
pub const ERROR: u16 = 2;
/// `NLMSG_DONE`: the end of a dump.
pub const DONE: u16 = 3;
/// `NLMSG_OVERRUN`: messages were lost.
pub const OVERRUN: u16 = 4;

/// `NLA_F_NESTED`: the value is attributes.
pub const NESTED: u16 = 0x8000;
/// `NLA_F_NET_BYTEORDER`: the value is a number in network order.
pub const NET_ORDER: u16 = 0x4000;

const HEADER_LEN: usize = 16;
const ATTRIBUTE_HEADER_LEN: usize = 4;

/// A message in the making.
#[derive(Clone, Debug)]
pub struct Draft {
    octets: Vec<u8>,
}

impl Draft {
    /// Begins a message with the header's type and flags; length and sequence number come with [`Draft::seal`].
    #[must_use]
    pub fn new(kind: u16, flags: u16) -> Self {
        let mut octets = vec![0; HEADER_LEN];
        octets[4..6].copy_from_slice(&kind.to_ne_bytes());
        octets[6..8].copy_from_slice(&flags.to_ne_bytes());
        Self { octets }
    }

    /// The same with more flags in its header.
    #[must_use]
    pub fn flagged(mut self, flags: u16) -> Self {
        let old = u16::from_ne_bytes([self.octets[6], self.octets[7]]);
        self.octets[6..8].copy_from_slice(&(old | flags).to_ne_bytes());
        self
    }

    /// Appends octets as they are: the header of the family, such as `nfgenmsg`.
    #[must_use]
    pub fn raw(mut self, octets: &[u8]) -> Self {
        self.octets.extend_from_slice(octets);
        self.pad();
        self
    }

    /// Appends an attribute.
    #[must_use]
    pub fn attribute(self, kind: u16, value: &[u8]) -> Self {
        self.nested(kind, |draft| draft.raw_unpadded(value))
    }

    /// Appends a text with the NUL that the kernel expects.
    #[must_use]
    pub fn text(self, kind: u16, value: &str) -> Self {
        self.nested(kind, |draft| draft.raw_unpadded(value.as_bytes()).raw_unpadded(&[0]))
    }

    /// Appends a number in network order, marked as such.
    #[must_use]
    pub fn number(self, kind: u16, value: u32) -> Self {
        self.attribute(kind | NET_ORDER, &value.to_be_bytes())
    }

    /// Appends an attribute whose value `fill` writes; its length is set afterwards.
    #[must_use]
    pub fn nested(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.octets.len();
        self.octets.extend_from_slice(&[0; 2]);
        self.octets.extend_from_slice(&kind.to_ne_bytes());
        let mut filled = fill(self);
        let len = u16::try_from(filled.octets.len() - start).unwrap_or(u16::MAX);
        filled.octets[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        filled.pad();
        filled
    }

    /// The finished message with its length and `sequence` in the header.
    #[must_use]
    pub fn seal(&self, sequence: u32) -> Vec<u8> {
        let mut octets = self.octets.clone();
        let len = u32::try_from(octets.len()).unwrap_or(u32::MAX);
        octets[0..4].copy_from_slice(&len.to_ne_bytes());
        octets[8..12].copy_from_slice(&sequence.to_ne_bytes());
        octets
    }

    fn raw_unpadded(mut self, octets: &[u8]) -> Self {
        self.octets.extend_from_slice(octets);
        self
    }

    fn pad(&mut self) {
        self.octets.resize(self.octets.len().next_multiple_of(4), 0);
    }
}

/// One received message, still in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The type.
    pub kind: u16,
    /// The sequence number of the request it answers.
    pub sequence: u32,
    /// All after the header.
    pub payload: &'a [u8],
}

impl Message<'_> {
    /// The number an error or the end of a dump carries: 0, or a positive error number.
    ///
    /// # Errors
    ///
    /// [`NetlinkError::Malformed`] if it is cut short or is no negated error number.
    pub fn code(&self) -> Result<i32, NetlinkError> {
        let octets = self.payload.first_chunk::<4>().ok_or(NetlinkError::Malformed)?;
        i32::from_ne_bytes(*octets)
            .checked_neg()
            .filter(|code| *code >= 0)
            .ok_or(NetlinkError::Malformed)
    }
}

/// One received attribute, still in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// The type without its flags.
    pub kind: u16,
    /// The value.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The value as a text that ends at its NUL, if it is one.
    #[must_use]
    pub fn text(&self) -> Option<&'a str> {
        let end = self
            .value
            .iter()
            .position(|octet| *octet == 0)
            .unwrap_or(self.value.len());
        std::str::from_utf8(&self.value[..end]).ok()
    }

    /// The value as a number in network order, if it has four octets.
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        Some(u32::from_be_bytes(self.value.try_into().ok()?))
    }

    /// The value as a long number in network order, if it has eight octets.
    #[must_use]
    pub fn long(&self) -> Option<u64> {
        Some(u64::from_be_bytes(self.value.try_into().ok()?))
    }

    /// The value as one octet.
    #[must_use]
    pub fn octet(&self) -> Option<u8> {
        self.value.first().copied()
    }
}

/// The messages in one received datagram.
pub fn messages(octets: &[u8]) -> impl Iterator<Item = Result<Message<'_>, NetlinkError>> {
    let mut rest = octets;
    std::iter::from_fn(move || next_of(&mut rest, HEADER_LEN, cut_message))
}

/// The attributes in the value of another or behind the header of the family.
pub fn attributes(octets: &[u8]) -> impl Iterator<Item = Result<Attribute<'_>, NetlinkError>> {
    let mut rest = octets;
    std::iter::from_fn(move || next_of(&mut rest, ATTRIBUTE_HEADER_LEN, cut_attribute))
}

/// The first attribute of type `kind`, if all before it are sound.
#[must_use]
pub fn find(octets: &[u8], kind: u16) -> Option<Attribute<'_>> {
    attributes(octets)
        .map_while(Result::ok)
        .find(|attribute| attribute.kind == kind)
}

/// Takes the next item from `rest`; after a fault nothing is left, so that an iterator ends.
fn next_of<'a, T>(
    rest: &mut &'a [u8],
    header_len: usize,
    cut: fn(&'a [u8]) -> Option<(T, usize)>,
) -> Option<Result<T, NetlinkError>> {
    if rest.is_empty() {
        return None;
    }
    let item = cut(rest).filter(|(_, len)| *len >= header_len);
    *rest = item
        .as_ref()
        .and_then(|(_, len)| rest.get(len.next_multiple_of(4)..))
        .unwrap_or_default();
    Some(item.map(|(item, _)| item).ok_or(NetlinkError::Malformed))
}

fn cut_message(octets: &[u8]) -> Option<(Message<'_>, usize)> {
    let header = octets.first_chunk::<HEADER_LEN>()?;
    let len = usize::try_from(u32::from_ne_bytes([header[0], header[1], header[2], header[3]])).ok()?;
    let message = Message {
        kind: u16::from_ne_bytes([header[4], header[5]]),
        sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
        payload: octets.get(HEADER_LEN..len)?,
    };
    Some((message, len))
}

fn cut_attribute(octets: &[u8]) -> Option<(Attribute<'_>, usize)> {
    let header = octets.first_chunk::<ATTRIBUTE_HEADER_LEN>()?;
    let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
    let kind = u16::from_ne_bytes([header[2], header[3]]) & !(NESTED | NET_ORDER);
    Some((
        Attribute {
            kind,
            value: octets.get(ATTRIBUTE_HEADER_LEN..len)?,
        },
        len,
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn a_draft_seals_to_the_octets_of_the_manual() {
        let draft = Draft::new(0x0609, REQUEST | ACK)
            .raw(&[2, 0, 0, 0])
            .text(2, "ab")
            .nested(7 | NESTED, |data| data.number(6, 30));
        assert_eq!(
            draft.seal(0x0102_0304),
            [
                40, 0, 0, 0, 0x09, 0x06, 5, 0, 4, 3, 2, 1, 0, 0, 0, 0, // header
                2, 0, 0, 0, // nfgenmsg
                7, 0, 2, 0, b'a', b'b', 0, 0, // text, padded
                12, 0, 7, 0x80, 8, 0, 6, 0x40, 0, 0, 0, 30, // nested number
            ]
        );
    }

    #[test]
    fn what_was_sealed_is_found_again() {
        let octets = Draft::new(9, 0)
            .text(2, "spa4-ssh")
            .number(6, 30)
            .attribute(3, &[24])
            .seal(5);
        let message = messages(&octets).next().unwrap().unwrap();
        assert_eq!((message.kind, message.sequence), (9, 5));
        assert_eq!(find(message.payload, 2).unwrap().text(), Some("spa4-ssh"));
        assert_eq!(find(message.payload, 6).unwrap().number(), Some(30));
        assert_eq!(find(message.payload, 3).unwrap().octet(), Some(24));
        assert_eq!(find(message.payload, 4), None);
    }

    #[test]
    fn lengths_that_do_not_fit_are_one_error_and_the_end() {
        for octets in [
            &[1][..],
            &[3, 0, 1, 0],
            &[0, 0, 1, 0, 9, 9, 9, 9],
            &[9, 0, 1, 0, 1, 2, 3, 4],
        ] {
            assert_eq!(
                attributes(octets).collect::<Vec<_>>(),
                [Err(NetlinkError::Malformed)],
                "{octets:?}"
            );
        }
        let mut cut = Draft::new(9, 0).text(2, "x").seal(1);
        cut.pop();
        assert_eq!(messages(&cut).collect::<Vec<_>>(), [Err(NetlinkError::Malformed)]);
    }

    #[test]
    fn an_error_number_is_negated_and_nothing_else_is_one() {
        let code = |value: i32| {
            Message {
                kind: ERROR,
                sequence: 0,
                payload: &value.to_ne_bytes(),
            }
            .code()
        };
        assert_eq!(code(0), Ok(0));
        assert_eq!(code(-2), Ok(2));
        assert_eq!(code(2), Err(NetlinkError::Malformed));
        assert_eq!(code(i32::MIN), Err(NetlinkError::Malformed));
    }

    proptest! {
        #[test]
        fn any_octets_decode_without_a_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            let found = messages(&octets).flatten().flat_map(|m| attributes(m.payload).flatten()).count();
            prop_assert!(found <= octets.len());
            prop_assert!(attributes(&octets).count() <= octets.len());
        }
    }
}
