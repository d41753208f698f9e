//! Text from files and the network, made harmless before it meets a terminal.

use std::borrow::Cow;

/// Writes control, direction and invisible characters as `\u{..}`; all else stays as it is.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_deceptive) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_deceptive(character) {
            escaped.extend(character.escape_unicode());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// What can move the cursor, turn the direction of text or hide itself. More than a label refuses, since file names
/// and broken files come here too.
const fn is_deceptive(character: char) -> bool {
    matches!(character,
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_borrowed() {
        assert!(matches!(escape("Anna's phone, Ünï ✓"), Cow::Borrowed(_)));
    }

    #[test]
    fn deceptive_characters_show() {
        assert_eq!(escape("a\u{1b}[2J\nb"), "a\\u{1b}[2J\\u{a}b");
        assert_eq!(escape("\u{202e}gnp"), "\\u{202e}gnp");
        assert_eq!(escape("\u{feff}\u{61c}"), "\\u{feff}\\u{61c}");
    }
}
