//! Secrets that a person gives: asked for on the terminal, or read from a file descriptor; never from the command line
//! or the environment.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, fcntl_setfl};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use spa_keys::escape::escape;
use spa_keys::{Exit, Failure};
use zeroize::Zeroizing;

use crate::signals::Held;

/// More than anybody types.
const MOST: usize = 1024;

/// Reads the first line that comes from file descriptor `number`.
pub(crate) fn from_fd(number: u16, what: &str) -> Result<Zeroizing<String>, Failure> {
    let refused = |error: io::Error| {
        Failure::new(
            Exit::Usage,
            format!("cannot read {what} from file descriptor {number}: {error}"),
        )
        .hint(format!("a pipe, such as {number}< <(a command that prints it)"))
    };
    let mut file = open_anew(number).map_err(refused)?;
    first_line(&mut file, what).map_err(refused)
}

/// Opened anew: whoever left the descriptor to this process still has it. Without waiting: a named pipe whose writer
/// has come and gone would have none again.
fn open_anew(number: u16) -> io::Result<File> {
    let path = format!("/proc/self/fd/{number}");
    let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags | OFlags::NONBLOCK, Mode::empty())?;
    fcntl_setfl(&file, flags)?;
    Ok(file.into())
}

/// Reads the first line of standard input, and no octet more.
pub(crate) fn from_stdin(what: &str) -> Result<Zeroizing<String>, Failure> {
    let stdin = io::stdin().as_fd().try_clone_to_owned();
    let line = stdin.and_then(|stdin| first_line(&mut File::from(stdin), what));
    line.map_err(|error| Failure::new(Exit::Usage, format!("cannot read {what} from standard input: {error}")))
}

fn first_line(from: &mut impl Read, what: &str) -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(Vec::with_capacity(MOST));
    let mut octet = Zeroizing::new([0]);
    while line.len() < MOST {
        match from.read(&mut *octet) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(0) => break,
            Ok(_) if octet[0] == b'\n' => return text(&line),
            Ok(_) => line.push(octet[0]),
        }
    }
    match line.len() {
        0 => Err(io::Error::other("nothing came")),
        MOST => Err(io::Error::other(format!("{what} has more than {MOST} characters"))),
        _ => text(&line),
    }
}

fn text(line: &[u8]) -> io::Result<Zeroizing<String>> {
    let text = std::str::from_utf8(line).map_err(|_| io::Error::other("it is not UTF-8 text"))?;
    Ok(Zeroizing::new(text.trim_end_matches('\r').to_owned()))
}

/// Asks on the terminal, without showing what is typed. `option` is what helps where there is no terminal.
pub(crate) fn ask(prompt: &str, what: &str, option: &str) -> Result<Zeroizing<String>, Failure> {
    let none = |_| Failure::new(Exit::Usage, format!("no terminal to ask for {what} on")).hint(format!("{option} N"));
    let terminal = terminal().map_err(none)?;
    let failed = |error: io::Error| Failure::new(Exit::Failed, format!("cannot ask for {what}: {error}"));
    let held = Held::begin().map_err(failed)?;
    let silence = Silence::begin(&terminal).map_err(failed)?;
    let _ = write!(&terminal, "{}: ", escape(prompt));
    let line = type_line(&terminal, &held);
    drop(silence);
    let _ = writeln!(&terminal);
    match line.map_err(failed)? {
        Typed::Line(line) => Ok(line),
        Typed::Nothing => Err(Failure::new(Exit::Failed, format!("{what} was not given"))),
        Typed::Signal(signal) => {
            held.obey(signal);
            Err(Failure::new(Exit::Failed, "interrupted"))
        }
    }
}

/// Asks for yes or no on the terminal.
pub(crate) fn confirm(question: &str, option: &str) -> Result<bool, Failure> {
    let none = |_| Failure::new(Exit::Usage, format!("{question} There is no terminal to ask on")).hint(option);
    let mut terminal = terminal().map_err(none)?;
    let _ = write!(terminal, "{} Type yes: ", escape(question));
    let line = first_line(&mut terminal, "the answer").unwrap_or_default();
    Ok(line.trim() == "yes")
}

fn terminal() -> io::Result<File> {
    let flags = OFlags::NOCTTY | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open("/dev/tty")
}

enum Typed {
    Line(Zeroizing<String>),
    Nothing,
    Signal(i32),
}

/// The terminal gives whole lines; a signal ends the wait.
fn type_line(terminal: &File, held: &Held) -> io::Result<Typed> {
    loop {
        let mut wanted = [
            PollFd::new(terminal, PollFlags::IN),
            PollFd::from_borrowed_fd(held.pipe(), PollFlags::IN),
        ];
        match poll(&mut wanted, None) {
            Err(rustix::io::Errno::INTR) => {}
            polled => drop(polled?),
        }
        if let Some(signal) = held.taken() {
            return Ok(Typed::Signal(signal));
        }
        if !wanted[0].revents().is_empty() {
            break;
        }
    }
    match first_line(&mut &*terminal, "what was typed") {
        Ok(line) if line.is_empty() => Ok(Typed::Nothing),
        Ok(line) => Ok(Typed::Line(line)),
        Err(error) if error.raw_os_error().is_some() => Err(error),
        Err(_) => Ok(Typed::Nothing),
    }
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silence<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Silence<'a> {
    fn begin(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL);
        // A shell that gets the terminal back while it is silent would stay so.
        silent.special_codes[SpecialCodeIndex::VSUSP] = 0;
        tcsetattr(terminal, OptionalActions::Flush, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        // What was typed ahead while nothing showed is not for the next reader either.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    fn read(octets: &[u8]) -> Result<String, String> {
        let line = first_line(&mut &*octets, "it").map(|line| line.to_string());
        line.map_err(|error| error.to_string())
    }

    #[test]
    fn the_first_line_alone() {
        assert_eq!(read(b"one\ntwo\n"), Ok("one".into()));
        assert_eq!(read(b"one\r\n"), Ok("one".into()));
        assert_eq!(read(b"one"), Ok("one".into()));
        assert_eq!(read(b" a b \n"), Ok(" a b ".into()));
        assert_eq!(read(b"\nx"), Ok(String::new()));
        assert!(read(b"").is_err());
        assert!(read(b"\xff\n").is_err());
        assert!(read(&[b'x'; 2_000]).unwrap_err().contains("1024"));
    }

    /// Opened for both directions, so that nobody waits for nobody.
    fn pipe(dir: &tempfile::TempDir) -> File {
        let path = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        OpenOptions::new().read(true).write(true).open(path).unwrap()
    }

    fn number(file: &File) -> u16 {
        file.as_fd().as_raw_fd().try_into().unwrap()
    }

    #[test]
    fn a_named_pipe_whose_writer_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = pipe(&dir);
        let reader = File::open(dir.path().join("pipe")).unwrap();
        writer.write_all(b"12345678\n").unwrap();
        drop(writer);
        let (done, waits) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let read = from_fd(number(&reader), "the PIN").map(|line| line.to_string());
            done.send(read)
        });
        let read = waits.recv_timeout(std::time::Duration::from_secs(20));
        assert_eq!(read.expect("it hangs").unwrap(), "12345678");
    }

    #[test]
    fn a_writer_that_is_not_done_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = pipe(&dir);
        let reader = writer.try_clone().unwrap();
        let read = std::thread::spawn(move || from_fd(number(&reader), "the PIN").unwrap());
        writer.write_all(b"1234").unwrap();
        std::thread::yield_now();
        writer.write_all(b"5678\n").unwrap();
        assert_eq!(read.join().unwrap().as_str(), "12345678");
    }

    #[test]
    fn a_descriptor_that_is_not_there() {
        let failure = from_fd(999, "the PIN").unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(
            failure.what.starts_with("cannot read the PIN from file descriptor 999"),
            "{failure}"
        );
    }
}
