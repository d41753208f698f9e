//! Text from files and from the network, made harmless before it meets a terminal.

use std::borrow::Cow;
use std::fmt::Write;

/// Writes control characters, bidirectional controls and invisible characters as `\u{..}`.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_treacherous) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_treacherous(c) {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Whether a character could move the cursor, change the direction of reading or hide itself.
fn is_treacherous(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_borrowed() {
        assert!(matches!(escape("gw.example.net – größer"), Cow::Borrowed(_)));
    }

    #[test]
    fn controls_are_spelt_out() {
        assert_eq!(
            escape("a\x1b[31m\n\u{202e}b\u{200b}\u{9b}"),
            r"a\u{1b}[31m\u{a}\u{202e}b\u{200b}\u{9b}"
        );
    }
}
