//! "Did you mean": the known word a typed one is closest to.

/// The word of `known` that is a slip or two away from `typed`, if there is one.
pub(super) fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed: Vec<char> = typed.chars().take(LONGEST).map(plain).collect();
    let best = known
        .into_iter()
        .map(|word| (distance(&typed, word), word))
        .min_by_key(|(slips, _)| *slips);
    best.filter(|(slips, word)| *slips <= (word.len() / 3).max(1))
        .map(|(_, word)| word)
}

/// No key is longer; it bounds the work that a hostile file can cause.
const LONGEST: usize = 40;

/// `Max_Duration` and `max-duration` differ in nothing that matters here.
fn plain(c: char) -> char {
    if c == '_' { '-' } else { c.to_ascii_lowercase() }
}

/// Levenshtein distance, one row at a time.
fn distance(typed: &[char], word: &str) -> usize {
    let mut row: Vec<usize> = (0..=typed.len()).collect();
    for (line, wanted) in word.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, found) in typed.iter().enumerate() {
            let replaced = diagonal + usize::from(plain(wanted) != *found);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[typed.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 4] = ["ports", "protect", "max-duration", "to"];

    #[test]
    fn slips_are_recognised() {
        assert_eq!(nearest("port", KEYS), Some("ports"));
        assert_eq!(nearest("Max_Duration", KEYS), Some("max-duration"));
        assert_eq!(nearest("maxduraton", KEYS), Some("max-duration"));
    }

    #[test]
    fn strangers_are_not() {
        assert_eq!(nearest("colour", KEYS), None);
        assert_eq!(nearest("", ["ports"]), None);
    }
}
