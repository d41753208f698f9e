//! Texts as QR codes (ISO/IEC 18004), for a terminal and as a picture.

use std::fmt;

use qrcode::render::{svg, unicode};
use qrcode::{EcLevel, QrCode};
use zeroize::Zeroizing;

/// The side of a picture in pixels, at least.
const SIDE: u32 = 480;

/// For a terminal: two modules in a character. `coloured` sets black on white, which every camera reads; without it,
/// dark modules are left blank, as a terminal with a dark background shows them.
///
/// # Errors
///
/// [`QrError`] when the text is longer than a code holds.
pub fn terminal(text: &str, coloured: bool) -> Result<Zeroizing<String>, QrError> {
    let code = encode(text)?;
    let mut renderer = code.render::<unicode::Dense1x2>();
    if !coloured {
        let inverted = (unicode::Dense1x2::Light, unicode::Dense1x2::Dark);
        renderer.dark_color(inverted.0).light_color(inverted.1);
        return Ok(Zeroizing::new(renderer.build() + "\n"));
    }
    let drawn = Zeroizing::new(renderer.build());
    let mut lines = Zeroizing::new(String::with_capacity(2 * drawn.len()));
    for line in drawn.lines() {
        lines.push_str("\u{1b}[30;107m");
        lines.push_str(line);
        lines.push_str("\u{1b}[0m\n");
    }
    Ok(lines)
}

/// A picture as SVG.
///
/// # Errors
///
/// [`QrError`] when the text is longer than a code holds.
pub fn svg(text: &str) -> Result<Zeroizing<String>, QrError> {
    let picture = encode(text)?
        .render::<svg::Color<'_>>()
        .min_dimensions(SIDE, SIDE)
        .build();
    Ok(Zeroizing::new(picture + "\n"))
}

/// With the least redundancy: a screen has no stains, and a smaller code is read more easily.
fn encode(text: &str) -> Result<QrCode, QrError> {
    QrCode::with_error_correction_level(text, EcLevel::L).map_err(|_| QrError { length: text.len() })
}

/// A text that no QR code holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QrError {
    /// Its bytes.
    pub length: usize,
}

impl fmt::Display for QrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes do not fit into a QR code", self.length)
    }
}

impl std::error::Error for QrError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_invite_fits() {
        let invite = "x".repeat(1024);
        assert!(terminal(&invite, false).is_ok() && svg(&invite).is_ok());
        assert_eq!(svg(&"x".repeat(3000)).unwrap_err(), QrError { length: 3000 });
    }

    /// Reads a terminal's characters as a camera does; `lit` is what the terminal shows where a character is drawn.
    fn read(drawn: &str, lit: u8) -> String {
        const SCALE: usize = 4;
        let lines: Vec<Vec<char>> = drawn.lines().map(|line| line.chars().collect()).collect();
        let is_drawn = |x: usize, y: usize| match (lines[y / 2][x], y % 2) {
            (' ', _) | ('\u{2580}', 1) | ('\u{2584}', 0) => false,
            ('\u{2588}' | '\u{2580}' | '\u{2584}', _) => true,
            (other, _) => panic!("{other:?} is drawn"),
        };
        let (width, height) = (lines[0].len(), 2 * lines.len());
        let shade = |x: usize, y: usize| if is_drawn(x / SCALE, y / SCALE) { lit } else { !lit };
        let mut image = rqrr::PreparedImage::prepare_from_greyscale(width * SCALE, height * SCALE, shade);
        let (_, text) = image.detect_grids()[0].decode().unwrap();
        text
    }

    #[test]
    fn what_is_drawn_is_read_back() {
        let invite = format!("spa1-invite:{}", "Ab3_-".repeat(80));
        let dark_terminal = terminal(&invite, false).unwrap();
        assert_eq!(read(&dark_terminal, 255), invite);
        let coloured = terminal(&invite, true).unwrap();
        let plain = coloured.replace("\u{1b}[30;107m", "").replace("\u{1b}[0m", "");
        assert_eq!(read(&plain, 0), invite, "black on white");
    }

    #[test]
    fn a_small_one_in_full() {
        // Version 1 is 21 modules wide; the quiet zone adds 4 on each side.
        let plain = terminal("spa", false).unwrap();
        assert!(plain.lines().all(|line| line.chars().count() == 29));
        assert!(
            plain.starts_with(&"\u{2588}".repeat(29)),
            "the quiet zone is drawn bright"
        );
        let coloured = terminal("spa", true).unwrap();
        assert!(
            coloured
                .lines()
                .all(|line| line.starts_with("\u{1b}[30;107m") && line.ends_with("\u{1b}[0m"))
        );
        assert!(svg("spa").unwrap().starts_with("<?xml"));
    }
}
