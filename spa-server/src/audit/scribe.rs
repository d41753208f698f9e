//! What is to be written, and what of it is: a disk may take all of it, nothing, or end in the middle of a line. Pure.

use std::collections::VecDeque;

use super::chain::{Head, Scraps};
use super::event::Event;
use super::line::seal;

/// Lines that go into one write.
const MOST_AT_ONCE: usize = 256;
/// Lines that wait for a disk that takes none; more are lost and counted.
pub const MOST_WAITING: usize = 4096;

/// The end of the log, and what waits to be put there.
#[derive(Debug, Default)]
pub struct Scribe {
    head: Head,
    /// What stands behind the last whole line.
    scraps: Scraps,
    /// The last octet of the file is no line end.
    is_midline: bool,
    waiting: VecDeque<(String, Event)>,
    lost: u64,
}

/// Octets for one write, and where each line of them ends.
#[derive(Debug)]
pub struct Page {
    octets: Vec<u8>,
    /// The line end that the file lacks stands first.
    begins_anew: bool,
    /// Where each line ends, without its line end, and the head that it makes.
    lines: Vec<(usize, Head)>,
    /// The first of them accounts for scraps.
    tells_of_scraps: bool,
}

impl Page {
    /// What is to be written, in one piece.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }
}

impl Scribe {
    /// Goes on behind what a file holds already.
    #[must_use]
    pub fn after(head: Head, scraps: Scraps, is_midline: bool) -> Self {
        Self {
            head,
            scraps,
            is_midline,
            ..Self::default()
        }
    }

    /// Goes on behind another end; what waits, waits on.
    pub fn go_on_behind(&mut self, end: Self) {
        (self.head, self.scraps, self.is_midline) = (end.head, end.scraps, end.is_midline);
    }

    /// The last whole line that is written.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    /// One line more; when too many wait, it is lost and counted.
    pub fn note(&mut self, at: String, event: Event) {
        if self.waiting.len() < MOST_WAITING {
            self.waiting.push_back((at, event));
        } else {
            self.lost += 1;
        }
    }

    /// One line before all that wait.
    pub fn note_first(&mut self, at: String, event: Event) {
        self.waiting.push_front((at, event));
    }

    /// How many lines wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many were lost since this was last asked.
    pub const fn take_lost(&mut self) -> u64 {
        std::mem::replace(&mut self.lost, 0)
    }

    /// How many were lost.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Another file is written from here on; whether its last octet is no line end.
    pub const fn turn_to(&mut self, is_midline: bool) {
        self.is_midline = is_midline;
    }

    /// The next lines, as they would follow; none when nothing waits.
    #[must_use]
    pub fn page(&self, now: &str) -> Option<Page> {
        if self.waiting.is_empty() {
            return None;
        }
        let mut page = Page {
            octets: Vec::new(),
            begins_anew: self.is_midline,
            lines: Vec::new(),
            tells_of_scraps: !self.scraps.is_empty(),
        };
        let mut scraps = self.scraps.clone();
        if page.begins_anew {
            page.octets.push(b'\n');
            scraps.add(b"\n");
        }
        let mut head = self.head;
        if page.tells_of_scraps {
            head = page.add(&head, now, &scraps.event());
        }
        for (at, event) in self.waiting.iter().take(MOST_AT_ONCE) {
            head = page.add(&head, at, event);
        }
        Some(page)
    }

    /// So many octets of a page are in the file now. Returns how many lines that were waiting are whole.
    pub fn settle(&mut self, page: &Page, written: usize) -> usize {
        let Some(octets) = page.octets.get(..written).filter(|octets| !octets.is_empty()) else {
            return 0;
        };
        self.is_midline = octets.last() != Some(&b'\n');
        let whole = page.lines.partition_point(|(end, _)| *end <= written);
        let Some((end, head)) = whole.checked_sub(1).and_then(|last| page.lines.get(last)) else {
            // The line end that came first is part of the scraps, or the end of a whole line.
            let ended_a_line = page.begins_anew && !page.tells_of_scraps;
            self.scraps
                .add(octets.get(usize::from(ended_a_line)..).unwrap_or_default());
            return 0;
        };
        self.head = *head;
        self.scraps = Scraps::default();
        self.scraps.add(octets.get(end + 1..).unwrap_or_default());
        let told = whole - usize::from(page.tells_of_scraps);
        self.waiting.drain(..told);
        told
    }
}

impl Page {
    fn add(&mut self, head: &Head, at: &str, event: &Event) -> Head {
        let (line, next) = seal(head, at, event);
        self.octets.extend(line.as_bytes());
        self.lines.push((self.octets.len(), next));
        self.octets.push(b'\n');
        next
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::chain::Chain;
    use super::*;

    fn event(number: usize) -> Event {
        Event::Rejected {
            why: number.to_string(),
        }
    }

    /// What a reader makes of it: the texts in their order.
    fn read(disk: &[u8]) -> Vec<String> {
        let mut chain = Chain::default();
        let mut texts = Vec::new();
        for (place, line) in disk.split_inclusive(|octet| *octet == b'\n').enumerate() {
            if let Some(Event::Rejected { why }) = chain.follow(line, &place).unwrap().and_then(|line| line.event) {
                texts.push(why);
            }
        }
        chain.end(false).unwrap();
        texts
    }

    #[test]
    fn nothing_waits_nothing_is_written() {
        assert!(Scribe::default().page("t").is_none());
    }

    #[test]
    fn too_many_are_counted() {
        let mut scribe = Scribe::default();
        (0..MOST_WAITING + 3).for_each(|number| scribe.note("t".into(), event(number)));
        assert_eq!(
            (scribe.waiting(), scribe.take_lost(), scribe.lost()),
            (MOST_WAITING, 3, 0)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_the_disk_takes_the_chain_holds_and_nothing_is_missing(
            takes in proptest::collection::vec((1..4usize, 0..900usize), 0..12),
        ) {
            let (mut scribe, mut disk, mut number) = (Scribe::default(), Vec::new(), 0);
            for (more, most) in takes.into_iter().chain([(1, usize::MAX)]) {
                for _ in 0..more {
                    scribe.note("2026-11-22T22:00:00Z".into(), event(number));
                    number += 1;
                }
                let page = scribe.page("2026-11-22T22:00:01Z").unwrap();
                let written = page.octets().len().min(most);
                disk.extend(&page.octets()[..written]);
                scribe.settle(&page, written);
            }
            prop_assert_eq!(scribe.waiting(), 0);
            prop_assert_eq!(read(&disk), (0..number).map(|number| number.to_string()).collect::<Vec<_>>());
        }
    }
}
