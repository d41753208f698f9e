//! The terminal while it is drawn upon: taken over, and given back as it was, whatever ends the program.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use spa_keys::{Exit, Failure};
use spa_proto::Moment;

use super::super::check::colour;
use crate::config::Colour;
use crate::watch::{Line, Style, Watched, view};

/// Another screen, no cursor, no wrapping of long lines (xterm's control sequences, which terminals share).
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

/// How the terminal was, for whoever is first to put it back.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal, taken over. Dropping it gives it back.
pub(super) struct Screen {
    coloured: bool,
}

/// Says what is missing where this is no terminal.
pub(super) fn check() -> Result<(), Failure> {
    if io::stdin().is_terminal() && io::stdout().is_terminal() {
        return Ok(());
    }
    let failure = Failure::new(Exit::Usage, "--watch draws on a terminal, and this is none");
    Err(failure.hint("spa-server status --watch --json: an object on a line, every second"))
}

impl Screen {
    pub(super) fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet
            .local_modes
            .remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        leave_first_on_panic();
        let screen = Self {
            coloured: colour(io::stdout().is_terminal()) == Colour::Always,
        };
        tcsetattr(io::stdin(), OptionalActions::Now, &quiet)?;
        say(ENTER)?;
        Ok(screen)
    }

    pub(super) fn draw(&mut self, watched: &Watched, now: Moment) -> io::Result<()> {
        let size = tcgetwinsize(io::stdout())?;
        // A terminal that does not know its size is taken for a common one.
        let or = |size: u16, common: u16| usize::from(if size == 0 { common } else { size });
        let (width, height) = (or(size.ws_col, 80), or(size.ws_row, 24));
        let lines: Vec<String> = view(watched, now, width, height)
            .iter()
            .map(|line| self.line(line))
            .collect();
        say(&format!("\x1b[H{}\x1b[J", lines.join("\r\n")))
    }

    fn line(&self, line: &Line) -> String {
        let mut text = String::new();
        for span in line {
            match code(span.style).filter(|_| self.coloured) {
                Some(code) => text.extend(["\x1b[", code, "m", &span.text, "\x1b[0m"]),
                None => text.push_str(&span.text),
            }
        }
        text + "\x1b[K"
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

/// What a panic says would be lost on the other screen.
fn leave_first_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        leave();
        report(panic);
    }));
}

/// Once: the second call finds nothing to put back.
fn leave() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        // Nobody could be told, were the terminal gone.
        let _ = say(LEAVE);
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &before);
    }
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// ECMA-48's codes for how text looks.
const fn code(style: Style) -> Option<&'static str> {
    match style {
        Style::Plain => None,
        Style::Head => Some("1"),
        Style::Dim => Some("2"),
        Style::Good => Some("32"),
        Style::Warn => Some("33"),
        Style::Bad => Some("1;31"),
    }
}
