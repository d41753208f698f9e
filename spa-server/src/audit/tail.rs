//! Where a log ends: its last whole line, and what an interrupted write has left behind it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::chain::{Head, Scraps};
use super::files;
use super::line::parse;
use super::scribe::Scribe;

/// How much of the end is read at first; twice as much each time that no line is found in it.
const FIRST_LOOK: u64 = 64 << 10;
/// What is read at once of octets that are only hashed.
const CHUNK: usize = 64 << 10;

/// The last whole line of one file, and where it ends.
#[derive(Debug, PartialEq, Eq)]
struct Last {
    head: Head,
    /// Behind its line end, should it have one.
    end: u64,
}

/// The end of the log in a folder: an empty one where there is no line at all.
///
/// # Errors
///
/// When a file cannot be read.
pub fn find(folder: &Path) -> io::Result<Scribe> {
    let mut behind = Vec::new();
    let mut head = Head::default();
    for number in files::numbers(folder)? {
        let file = File::open(files::path(folder, number))?;
        let last = last_line(&file)?;
        behind.push((last.as_ref().map_or(0, |last| last.end), file));
        if let Some(last) = last {
            head = last.head;
            break;
        }
    }
    let mut scraps = Scraps::default();
    for (start, file) in behind.iter().rev() {
        add_from(&mut scraps, file, *start)?;
    }
    Ok(Scribe::after(head, scraps, is_midline(folder)?))
}

/// Whether the file that is written ends in the middle of a line.
///
/// # Errors
///
/// When it cannot be read.
pub fn is_midline(folder: &Path) -> io::Result<bool> {
    let file = match File::open(files::path(folder, 0)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    let Some(last) = file.metadata()?.len().checked_sub(1) else {
        return Ok(false);
    };
    let mut octet = [0];
    file.read_exact_at(&mut octet, last)?;
    Ok(octet != *b"\n")
}

fn add_from(scraps: &mut Scraps, file: &File, mut start: u64) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = file.read_at(&mut chunk, start)?;
        if read == 0 {
            return Ok(());
        }
        scraps.add(chunk.get(..read).unwrap_or_default());
        start += read as u64;
    }
}

fn last_line(file: &File) -> io::Result<Option<Last>> {
    let length = file.metadata()?.len();
    let mut look = FIRST_LOOK;
    loop {
        let start = length.saturating_sub(look);
        let mut octets = vec![0; usize::try_from(length - start).map_err(io::Error::other)?];
        file.read_exact_at(&mut octets, start)?;
        if let Some(last) = last_in(&octets, start) {
            return Ok(Some(last));
        }
        if start == 0 {
            return Ok(None);
        }
        look = look.saturating_mul(2);
    }
}

/// What begins before these octets fails to parse, so it need not be told apart.
fn last_in(octets: &[u8], start: u64) -> Option<Last> {
    let mut end = octets.len();
    for line in octets.split_inclusive(|octet| *octet == b'\n').rev() {
        if let Ok(line) = parse(line.strip_suffix(b"\n").unwrap_or(line)) {
            return Some(Last {
                head: line.head(),
                end: start + end as u64,
            });
        }
        end -= line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::event::Event;
    use super::super::line::seal;
    use super::*;

    fn lines(count: usize, first: Head) -> (String, Head) {
        let (mut text, mut head) = (String::new(), first);
        for _ in 0..count {
            let (line, next) = seal(&head, "2026-11-22T22:00:00Z", &Event::Confirmed);
            text += &line;
            text.push('\n');
            head = next;
        }
        (text, head)
    }

    fn folder(texts: &[&[u8]]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (number, text) in (0..).zip(texts) {
            std::fs::write(files::path(dir.path(), number), text).unwrap();
        }
        dir
    }

    /// What would be written next.
    fn next(dir: &Path) -> (Head, String) {
        let mut scribe = find(dir).unwrap();
        scribe.note("2026-11-22T22:00:01Z".into(), Event::Undone);
        let text = String::from_utf8(scribe.page("2026-11-22T22:00:01Z").unwrap().octets().to_vec()).unwrap();
        (scribe.head(), text)
    }

    #[test]
    fn an_empty_log_begins() {
        let dir = folder(&[]);
        assert!(next(dir.path()).1.starts_with("{\"n\":1,"));
        let dir = folder(&[b""]);
        assert!(next(dir.path()).1.starts_with("{\"n\":1,"));
    }

    #[test]
    fn a_whole_log_goes_on() {
        let (text, head) = lines(1000, Head::default());
        let dir = folder(&[text.as_bytes()]);
        let (found, next) = next(dir.path());
        assert_eq!(found, head);
        assert!(next.starts_with("{\"n\":1001,"), "{next}");
    }

    #[test]
    fn a_line_that_lacks_only_its_end_is_whole() {
        let (text, head) = lines(2, Head::default());
        let dir = folder(&[text.trim_end().as_bytes()]);
        let (found, next) = next(dir.path());
        assert_eq!(found, head);
        assert!(next.starts_with("\n{\"n\":3,"), "{next}");
    }

    #[test]
    fn a_torn_tail_is_told_of() {
        let (text, _) = lines(3, Head::default());
        for (cut, octets) in [
            (text.len() - 1 - 40, text.len() / 3 - 1 - 40),
            (text.len() / 3 * 2 + 1, 1),
        ] {
            let dir = folder(&[&text.as_bytes()[..cut]]);
            let (found, next) = next(dir.path());
            assert_eq!(found.n, 2);
            let told = format!("\"event\":\"torn\",\"octets\":{}", octets + 1);
            assert!(next.starts_with("\n{\"n\":3,") && next.contains(&told), "{next}");
        }
    }

    #[test]
    fn a_tail_of_zeros_is_torn_too() {
        let (text, head) = lines(3, Head::default());
        let dir = folder(&[&[text.as_bytes(), &vec![0; 200_000]].concat()]);
        let (found, next) = next(dir.path());
        assert_eq!(found, head);
        assert!(next.contains("\"octets\":200001"), "{next}");
    }

    #[test]
    fn an_older_file_has_the_head() {
        let (older, head) = lines(3, Head::default());
        let dir = folder(&[b"{\"n\":4", older.as_bytes()]);
        let (found, next) = next(dir.path());
        assert_eq!(found, head);
        assert!(next.contains("\"octets\":7"), "{next}");
    }
}
