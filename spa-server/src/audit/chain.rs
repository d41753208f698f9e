//! The chain: each line fits the one before, or the place where it does not is named.

use std::fmt;

use sha2::{Digest, Sha256};
use spa_keys::text;

use super::event::Event;
use super::line::{Line, LineError, parse};

/// Where a chain ends: the last line's number and hash. Zero before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// How many lines there are, from the first of all.
    pub n: u64,
    /// The hash of the last one.
    pub hash: [u8; 32],
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, hash {}", self.n, text::encode(&self.hash))
    }
}

/// Octets in the log that are no line: counted and hashed, as [`Event::Torn`] tells of them.
#[derive(Clone, Debug, Default)]
pub struct Scraps {
    octets: u64,
    hasher: Sha256,
}

impl Scraps {
    /// More of them.
    pub fn add(&mut self, octets: &[u8]) {
        self.octets += octets.len() as u64;
        self.hasher.update(octets);
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.octets == 0
    }

    /// How many.
    #[must_use]
    pub const fn octets(&self) -> u64 {
        self.octets
    }

    /// What the next line says of them.
    #[must_use]
    pub fn event(&self) -> Event {
        Event::Torn {
            octets: self.octets,
            sha256: text::encode(&self.hasher.clone().finalize().into()),
        }
    }
}

/// Where the chain is broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Break {
    /// These octets are no line, and no line behind them accounts for them.
    NoLine(LineError),
    /// The line does not follow the one before: others were taken out, put in, or have changed places.
    Order {
        /// The number that was due.
        due: u64,
        /// The number it has.
        n: u64,
    },
    /// The number is right, but it was written after another line.
    Prev,
    /// It accounts for octets that do not stand before it.
    Scraps,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLine(why) => why.fmt(f),
            Self::Order { due, n } => write!(f, "number {due} is due here, and this is number {n}"),
            Self::Prev => f.write_str("it was written after another line than the one that stands before it"),
            Self::Scraps => f.write_str("what it says an interrupted write has left is not there"),
        }
    }
}

/// A chain as far as it was followed. `P` is how the caller names places, such as a file and a line of it.
#[derive(Clone, Debug)]
pub struct Chain<P> {
    first: Option<u64>,
    head: Option<Head>,
    scraps: Scraps,
    /// Where they begin, and why that is no line.
    doubt: Option<(P, LineError)>,
    torn: u64,
}

impl<P> Default for Chain<P> {
    fn default() -> Self {
        Self {
            first: None,
            head: None,
            scraps: Scraps::default(),
            doubt: None,
            torn: 0,
        }
    }
}

impl<P: Clone> Chain<P> {
    /// Follows the chain over one line, given with its line end if it has one. Returns it, or nothing where the
    /// octets are scraps that a later line may account for.
    ///
    /// # Errors
    ///
    /// [`Break`] and its place, which may lie before this one.
    pub fn follow(&mut self, octets: &[u8], place: &P) -> Result<Option<Line>, (P, Break)> {
        match parse(octets.strip_suffix(b"\n").unwrap_or(octets)) {
            Ok(line) => self.link(line, place).map(Some),
            Err(error) => {
                self.scraps.add(octets);
                self.doubt.get_or_insert_with(|| (place.clone(), error));
                Ok(None)
            }
        }
    }

    fn link(&mut self, line: Line, place: &P) -> Result<Line, (P, Break)> {
        if let Some((place, error)) = self.doubt.take() {
            let told = line.event.as_ref() == Some(&self.scraps.event());
            if !told {
                return Err((place, Break::NoLine(error)));
            }
            self.scraps = Scraps::default();
            self.torn += 1;
        } else if (self.head.is_some() || line.n == 1) && matches!(line.event, Some(Event::Torn { .. })) {
            return Err((place.clone(), Break::Scraps));
        }
        self.fits(&line).map_err(|broken| (place.clone(), broken))?;
        self.first.get_or_insert(line.n);
        self.head = Some(line.head());
        Ok(line)
    }

    /// The oldest lines may have been rotated away; the first of all has nothing before it.
    fn fits(&self, line: &Line) -> Result<(), Break> {
        let before = match self.head {
            Some(head) => head,
            None if line.n == 1 => Head::default(),
            None if line.n == 0 => return Err(Break::Order { due: 1, n: 0 }),
            None => return Ok(()),
        };
        let due = before.n.saturating_add(1);
        if line.n != due {
            return Err(Break::Order { due, n: line.n });
        }
        if line.prev != before.hash {
            return Err(Break::Prev);
        }
        Ok(())
    }

    /// Ends the chain: what is left over is no line. A last line without its end may be one that is being written.
    ///
    /// # Errors
    ///
    /// [`Break`] and its place, unless all that is left is an unfinished line.
    pub fn end(self, is_unfinished: bool) -> Result<Followed, (P, Break)> {
        let unfinished = self.scraps.octets();
        match self.doubt {
            Some((place, error)) if !is_unfinished => Err((place, Break::NoLine(error))),
            _ => Ok(Followed {
                first: self.first,
                head: self.head,
                unfinished,
                torn: self.torn,
            }),
        }
    }

    /// The last line so far.
    #[must_use]
    pub const fn head(&self) -> Option<Head> {
        self.head
    }
}

/// A whole chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Followed {
    /// The number of the oldest line that is kept.
    pub first: Option<u64>,
    /// The last line.
    pub head: Option<Head>,
    /// Octets of a line that is being written, or was when the daemon died.
    pub unfinished: u64,
    /// How many interrupted writes the log accounts for.
    pub torn: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::line::seal;
    use super::*;

    /// A log of so many lines, a torn write among them.
    fn log(lines: usize, torn: Option<usize>) -> Vec<Vec<u8>> {
        let (mut head, mut log) = (Head::default(), Vec::new());
        for number in 0..lines {
            let mut event = Event::Rejected {
                why: format!("{number}"),
            };
            if torn == Some(number) {
                let mut scraps = Scraps::default();
                scraps.add(b"{\"n\":3,\"at\":\"20\n");
                log.push(b"{\"n\":3,\"at\":\"20\n".to_vec());
                event = scraps.event();
            }
            let (line, next) = seal(&head, "2026-11-22T22:00:00Z", &event);
            log.push((line + "\n").into_bytes());
            head = next;
        }
        log
    }

    fn verify(log: &[Vec<u8>]) -> Result<Followed, (usize, Break)> {
        let mut chain = Chain::default();
        for (place, line) in log.iter().enumerate() {
            chain.follow(line, &place)?;
        }
        chain.end(log.last().is_some_and(|last| !last.ends_with(b"\n")))
    }

    #[test]
    fn whole_chains_are_whole() {
        assert_eq!(verify(&[]).unwrap().head, None);
        let followed = verify(&log(5, Some(2))).unwrap();
        assert_eq!((followed.first, followed.torn, followed.unfinished), (Some(1), 1, 0));
        assert_eq!(followed.head.unwrap().n, 5);
        assert_eq!(verify(&log(9, None)[4..]).unwrap().first, Some(5));
    }

    #[test]
    fn an_unfinished_line_at_the_end_is_no_break() {
        let mut log = log(3, None);
        log[2].truncate(20);
        let followed = verify(&log).unwrap();
        assert_eq!((followed.head.unwrap().n, followed.unfinished), (2, 20));
        log[2].push(b'\n');
        assert_eq!(verify(&log), Err((2, Break::NoLine(LineError::Shape))));
    }

    #[test]
    fn a_first_line_begins_the_chain() {
        let forged = Head { n: 0, hash: [7; 32] };
        let (line, _) = seal(&forged, "t", &Event::Confirmed);
        assert_eq!(verify(&[line.into_bytes()]), Err((0, Break::Prev)));
    }

    #[test]
    fn scraps_must_be_those_that_are_told_of() {
        let mut log = log(4, Some(1));
        log[1].insert(3, b'x');
        assert_eq!(verify(&log), Err((1, Break::NoLine(LineError::Shape))));
    }

    proptest! {
        #[test]
        fn any_changed_octet_is_found(lines in 1..8usize, torn in proptest::option::of(0..8usize), at: prop::sample::Index, bit in 0..8u8) {
            let whole = log(lines, torn);
            let mut octets = whole.concat();
            let at = at.index(octets.len() - 1);
            octets[at] ^= 1 << bit;
            let log: Vec<_> = octets.split_inclusive(|octet| *octet == b'\n').map(<[u8]>::to_vec).collect();
            let is_found = verify(&log).map_or(true, |followed| Some(followed) != verify(&whole).ok());
            prop_assert!(is_found);
            prop_assert!(verify(&log).is_err());
        }

        #[test]
        fn any_line_taken_out_is_found(lines in 2..8usize, torn in proptest::option::of(0..8usize), at: prop::sample::Index) {
            let whole = log(lines, torn);
            let mut log = whole.clone();
            // The last one is the tail that only a head kept elsewhere shows to be gone.
            let gone = at.index(log.len() - 1);
            log.remove(gone);
            let is_found = verify(&log).map_or(true, |followed| followed.first != Some(1));
            prop_assert!(is_found);
        }

        #[test]
        fn lines_that_change_places_are_found(lines in 2..8usize, one: prop::sample::Index, other: prop::sample::Index) {
            let mut log = log(lines, None);
            let (one, other) = (one.index(lines), other.index(lines));
            prop_assume!(one != other);
            log.swap(one, other);
            prop_assert!(verify(&log).is_err());
        }

        #[test]
        fn any_line_put_in_is_found(lines in 1..8usize, at: prop::sample::Index, foreign in "[ -~]{0,80}", copy: prop::sample::Index) {
            let whole = log(lines, None);
            for new in [foreign.into_bytes(), whole[copy.index(lines)][..].trim_ascii_end().to_vec()] {
                let mut log = whole.clone();
                log.insert(at.index(lines + 1), [&new[..], b"\n"].concat());
                prop_assert!(verify(&log).is_err());
            }
        }

        #[test]
        fn nothing_panics(lines: Vec<Vec<u8>>) {
            let _ = verify(&lines);
        }
    }
}
