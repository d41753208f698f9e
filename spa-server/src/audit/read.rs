//! The log as a reader follows it: oldest file first, each line by its place. No lock is needed beside a daemon that
//! writes: what it is just writing is an unfinished line.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::chain::{Break, Chain, Followed};
use super::files::open_all;
use super::line::{Line, parse};

/// More than any line has; what is longer is read in pieces, of which none is a line.
const LONGEST_LINE: u64 = 1 << 20;

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file's name.
    pub file: String,
    /// The line of the file, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}", self.file, self.line)
    }
}

/// What a reader found.
#[derive(Debug)]
pub struct Reading {
    /// The files, oldest first.
    pub files: Vec<String>,
    /// The chain, or the first place where it is broken.
    pub chain: Result<Followed, (Place, Break)>,
}

/// Reads all of the log and hands over every line in its order. Behind a break lines are handed over by their own hash.
///
/// # Errors
///
/// When a file cannot be read.
pub fn read(folder: &Path, mut each: impl FnMut(Line)) -> io::Result<Reading> {
    let (mut chain, mut broken) = (Some(Chain::default()), None);
    let (mut files, mut is_unfinished) = (Vec::new(), false);
    for (name, file) in open_all(folder)? {
        is_unfinished = read_file(&name, file, |octets, place| {
            let followed = match &mut chain {
                Some(chain) => chain.follow(octets, place),
                None => Ok(parse(octets.trim_ascii_end()).ok()),
            };
            match followed {
                Ok(line) => line.into_iter().for_each(&mut each),
                Err(found) => {
                    broken = Some(found);
                    chain = None;
                    parse(octets.trim_ascii_end()).into_iter().for_each(&mut each);
                }
            }
        })?;
        files.push(name);
    }
    let chain = match (chain, broken) {
        (Some(chain), None) => chain.end(is_unfinished),
        (_, Some(broken)) => Err(broken),
        (None, None) => Chain::default().end(false),
    };
    Ok(Reading { files, chain })
}

/// Says whether the last line lacks its end.
fn read_file(name: &str, file: File, mut each: impl FnMut(&[u8], &Place)) -> io::Result<bool> {
    let (mut reader, mut octets, mut is_unfinished) = (BufReader::new(file), Vec::new(), false);
    let mut place = Place {
        file: name.to_owned(),
        line: 1,
    };
    loop {
        octets.clear();
        if (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut octets)? == 0 {
            return Ok(is_unfinished);
        }
        is_unfinished = octets.last() != Some(&b'\n');
        each(&octets, &place);
        place.line += usize::from(!is_unfinished);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::chain::Head;
    use super::super::event::Event;
    use super::super::files::path;
    use super::super::line::seal;
    use super::*;

    /// Two files of three lines each.
    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut head = Head::default();
        for number in [1, 0] {
            let mut text = String::new();
            for _ in 0..3 {
                let (line, next) = seal(&head, "2026-11-22T22:00:00Z", &Event::Confirmed);
                text += &(line + "\n");
                head = next;
            }
            fs::write(path(dir.path(), number), text).unwrap();
        }
        dir
    }

    fn numbers(dir: &Path) -> (Vec<u64>, Result<u64, String>) {
        let mut numbers = Vec::new();
        let reading = read(dir, |line| numbers.push(line.n)).unwrap();
        let chain = reading.chain.map(|chain| chain.unfinished);
        (numbers, chain.map_err(|(place, broken)| format!("{place}: {broken}")))
    }

    #[test]
    fn all_files_are_one_chain() {
        assert_eq!(numbers(folder().path()), ((1..=6).collect(), Ok(0)));
        assert_eq!(numbers(Path::new("/nonexistent")), (vec![], Ok(0)));
    }

    #[test]
    fn the_first_bad_line_is_named_and_the_rest_is_read_all_the_same() {
        let dir = folder();
        let file = path(dir.path(), 1);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replacen("\"n\":2", "\"n\":7", 1)).unwrap();
        let told = "audit.log.1, line 2: the line was changed: its hash is another".to_owned();
        assert_eq!(numbers(dir.path()), (vec![1, 3, 4, 5, 6], Err(told)));
        fs::write(
            &file,
            text.lines()
                .take(2)
                .map(|line| line.to_owned() + "\n")
                .collect::<Vec<_>>()
                .concat(),
        )
        .unwrap();
        let told = "audit.log, line 1: number 3 is due here, and this is number 4".to_owned();
        assert_eq!(numbers(dir.path()), (vec![1, 2, 4, 5, 6], Err(told)));
    }

    #[test]
    fn a_line_that_is_being_written_is_unfinished() {
        let dir = folder();
        let file = path(dir.path(), 0);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, &text[..text.len() - 30]).unwrap();
        let (numbers, unfinished) = numbers(dir.path());
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
        assert!(unfinished.unwrap() > 100);
    }

    #[test]
    fn endless_lines_are_read_in_pieces() {
        let dir = folder();
        fs::write(path(dir.path(), 0), vec![b'x'; 3 << 20]).unwrap();
        assert_eq!(numbers(dir.path()), (vec![1, 2, 3], Ok(3 << 20)));
    }
}
