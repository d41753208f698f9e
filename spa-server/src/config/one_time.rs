//! Lists of one-time sequences, in server.toml or in a file of their own.

use spa_proto::sequence::Stage;

use super::sequence::{is_swept, wrong_length};

/// What is wrong with a list of one-time sequences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnsError {
    /// Which one: its place in a list, its line in a file.
    pub place: usize,
    /// What is wrong with it. It never holds the ports, which are secret.
    pub what: String,
}

/// Reads sequences written as `7000/tcp 8000/udp 9000/tcp`, commas or blanks between; knockd's `7000:tcp` is understood
/// too.
///
/// # Errors
///
/// [`TurnsError`] for the first that is none, is no good, or is the beginning of another.
pub fn turns<'t>(texts: impl IntoIterator<Item = (usize, &'t str)>) -> Result<Vec<Vec<Stage>>, TurnsError> {
    let mut list: Vec<Vec<Stage>> = Vec::new();
    for (place, text) in texts {
        let wrong = |what: String| TurnsError { place, what };
        let stages = stages(text).map_err(wrong)?;
        if let Some(what) = wrong_length(stages.len()) {
            return Err(wrong(what));
        }
        if is_swept(&stages) {
            return Err(wrong(
                "its ports follow each other: a plain scan would open the door".to_owned(),
            ));
        }
        if list
            .iter()
            .any(|other| other.starts_with(&stages) || stages.starts_with(other))
        {
            return Err(wrong(
                "it is the beginning of an earlier one, or an earlier one is its beginning".to_owned(),
            ));
        }
        list.push(stages);
    }
    Ok(list)
}

/// The lines of a file that hold sequences, with their numbers: empty ones and those with `#` in front do not.
pub fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(place, line)| (place + 1, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

fn stages(text: &str) -> Result<Vec<Stage>, String> {
    let words = text.split([',', ' ', '\t']).filter(|word| !word.is_empty());
    let read = |(place, word): (usize, &str)| {
        // knockd's lists leave `:tcp` away.
        let bare = word.bytes().all(|byte| byte.is_ascii_digit());
        let full = if bare { format!("{word}/tcp") } else { word.to_owned() };
        full.parse::<Stage>()
            .map_err(|error| format!("its port {} {error}", place + 1))
    };
    words.enumerate().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knockd_s_files_are_understood() {
        let text = "# used: 1:tcp,2:tcp,3:tcp\n\n7000, 8000:udp ,9000:tcp\n7001/tcp 8000/udp 9000/udp\n";
        let list = turns(lines(text)).unwrap();
        let texts: Vec<Vec<String>> = list
            .iter()
            .map(|all| all.iter().map(ToString::to_string).collect())
            .collect();
        assert_eq!(
            texts,
            [
                ["7000/tcp", "8000/udp", "9000/tcp"],
                ["7001/tcp", "8000/udp", "9000/udp"]
            ]
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_without_its_ports() {
        let cases = [
            ("1/tcp 2000/tcp", 1, "at least 3"),
            ("\n1/tcp 2000/tcp 70000/tcp", 2, "its port 3 names a port above 65535"),
            ("1/tcp 2000/tcp 30/", 1, "its port 3 names a protocol"),
            ("5/tcp 6/tcp 7/tcp", 1, "a plain scan"),
            ("1/tcp 2000/tcp 3/udp\n1/tcp 2000/tcp 3/udp 4/udp", 2, "beginning"),
        ];
        for (text, place, part) in cases {
            let error = turns(lines(text)).unwrap_err();
            assert_eq!(error.place, place, "{text}");
            assert!(
                error.what.contains(part) && !error.what.contains("2000"),
                "{}",
                error.what
            );
        }
    }
}
