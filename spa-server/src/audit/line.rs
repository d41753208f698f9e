//! One line: sealed with its hash, and read again.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use spa_keys::text;

use super::chain::Head;
use super::event::Event;

/// What stands between the content and its hash.
const SEAM: &str = ",\"hash\":\"";
const END: &str = "\"}";

/// A line whose hash is that of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its number, from 1.
    pub n: u64,
    /// When it was decided, RFC 3339.
    pub at: String,
    /// What; none when a later version knows something that this one does not.
    pub event: Option<Event>,
    /// The hash of the line before.
    pub prev: [u8; 32],
    /// Its own.
    pub hash: [u8; 32],
}

/// Why some octets are no line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineError {
    /// They do not end as a line does.
    Shape,
    /// The content was changed, or the hash.
    Hash,
    /// The hash is right, but this is no content of a line.
    Content(String),
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape => f.write_str("this is no whole line of an audit log"),
            Self::Hash => f.write_str("the line was changed: its hash is another"),
            Self::Content(why) => write!(f, "the hash is right, but this is no line of an audit log: {why}"),
        }
    }
}

impl std::error::Error for LineError {}

#[derive(Serialize)]
struct Content<'a> {
    n: u64,
    at: &'a str,
    #[serde(flatten)]
    event: &'a Event,
    prev: String,
}

#[derive(Deserialize)]
struct Frame {
    n: u64,
    at: String,
    prev: String,
}

/// Writes the line that follows `head`, without its line end; returns it with the head that it makes.
#[must_use]
pub fn seal(head: &Head, at: &str, event: &Event) -> (String, Head) {
    let n = head.n + 1;
    let prev = text::encode(&head.hash);
    // Texts, numbers and lists of them: this cannot fail.
    let mut line = serde_json::to_string(&Content { n, at, event, prev }).unwrap_or_default();
    line.pop();
    let hash: [u8; 32] = Sha256::digest(line.as_bytes()).into();
    line.push_str(SEAM);
    line.push_str(&text::encode(&hash));
    line.push_str(END);
    (line, Head { n, hash })
}

/// Reads a line without its line end.
///
/// # Errors
///
/// [`LineError`] for everything that [`seal`] has not written.
pub fn parse(octets: &[u8]) -> Result<Line, LineError> {
    let sealed = octets.strip_suffix(END.as_bytes()).ok_or(LineError::Shape)?;
    let (rest, hash) = sealed.split_last_chunk::<{ text::LENGTH }>().ok_or(LineError::Shape)?;
    let content = rest.strip_suffix(SEAM.as_bytes()).ok_or(LineError::Shape)?;
    let hash = std::str::from_utf8(hash)
        .ok()
        .and_then(digest)
        .ok_or(LineError::Shape)?;
    if <[u8; 32]>::from(Sha256::digest(content)) != hash {
        return Err(LineError::Hash);
    }
    let whole = [content, b"}"].concat();
    let wrong = |error: serde_json::Error| LineError::Content(error.to_string());
    let frame: Frame = serde_json::from_slice(&whole).map_err(wrong)?;
    let prev = digest(&frame.prev).ok_or_else(|| LineError::Content("prev is no hash".into()))?;
    Ok(Line {
        n: frame.n,
        at: frame.at,
        event: serde_json::from_slice(&whole).ok(),
        prev,
        hash,
    })
}

/// A hash as it is written.
#[must_use]
pub fn digest(text: &str) -> Option<[u8; 32]> {
    text::decode(text).ok().map(|bytes| *bytes)
}

impl Line {
    /// The head of a chain that ends with this line.
    #[must_use]
    pub const fn head(&self) -> Head {
        Head {
            n: self.n,
            hash: self.hash,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped() -> Event {
        Event::Stopped { doors_kept: true }
    }

    #[test]
    fn a_line_is_exactly_this() {
        let (line, head) = seal(&Head::default(), "2026-11-22T22:00:00Z", &stopped());
        insta::assert_snapshot!(line, @r#"{"n":1,"at":"2026-11-22T22:00:00Z","event":"stopped","doors_kept":true,"prev":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","hash":"-wQzstYx6x627A0MWUwOaiZ5aKY4fYQF45SZ-yUqwzs"}"#);
        let read = parse(line.as_bytes()).unwrap();
        assert_eq!((read.head(), read.prev, read.event), (head, [0; 32], Some(stopped())));
    }

    #[test]
    fn what_a_later_version_tells_is_still_a_line() {
        let content = format!(
            r#"{{"n":1,"at":"x","event":"of tomorrow","more":[],"prev":"{}""#,
            text::encode(&[0; 32])
        );
        let hash = text::encode(&Sha256::digest(&content).into());
        let line = parse(format!("{content}{SEAM}{hash}{END}").as_bytes()).unwrap();
        assert_eq!((line.n, line.event), (1, None));
    }

    #[test]
    fn what_is_no_line() {
        let (line, _) = seal(&Head::default(), "t", &stopped());
        assert_eq!(parse(b""), Err(LineError::Shape));
        assert_eq!(parse(&line.as_bytes()[..line.len() - 1]), Err(LineError::Shape));
        assert_eq!(parse(line.replace("true", "null").as_bytes()), Err(LineError::Hash));
        let sealed = |content: &str| format!("{content}{SEAM}{}{END}", text::encode(&Sha256::digest(content).into()));
        let error = parse(sealed("{\"n\":1").as_bytes()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the hash is right, but this is no line of an audit log: missing field `at` at line 1 column 7"
        );
    }
}
