//! Copies between a connection and standard input and output, both ways at once, until both have ended.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::thread;

const BUFFER: usize = 64 * 1024;

/// Copies both ways. The end of standard input is passed on and the other direction goes on; the end of the connection
/// closes standard output, and what still comes from standard input is passed on until that ends too.
///
/// # Errors
///
/// What the system says when the connection breaks. A reader of standard output that went away is none.
pub(crate) fn run(stream: &TcpStream) -> io::Result<()> {
    let (input, output) = standard()?;
    let sending = stream.try_clone()?;
    let sender = thread::Builder::new().spawn(move || send(input, &sending))?;
    let received = receive(stream, output);
    if received.is_err() || matches!(received, Ok(End::NobodyReads)) {
        // The thread may wait for input that never comes; the process ends, and it with that.
        return received.map(drop);
    }
    sender
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("copying ended early")))
}

/// Standard input and output without buffers of the standard library.
fn standard() -> io::Result<(File, File)> {
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    let output = io::stdout().as_fd().try_clone_to_owned()?;
    // Only the copy is written to: closing it is then the end that a reader sees.
    let nothing = File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&nothing)?;
    Ok((input.into(), output.into()))
}

fn send(mut input: File, stream: &TcpStream) -> io::Result<()> {
    let copied = pump(&mut input, &mut &*stream);
    // A connection that is gone already needs no end.
    let _ = stream.shutdown(Shutdown::Write);
    match copied {
        Err(Broken::Reading(error)) => Err(error),
        // Who receives no more has ended the connection; whether in order, the other direction knows.
        Ok(()) | Err(Broken::Writing(_)) => Ok(()),
    }
}

enum End {
    /// All of it arrived.
    Connection,
    /// Whoever read it is gone.
    NobodyReads,
}

fn receive(stream: &TcpStream, mut output: File) -> io::Result<End> {
    match pump(&mut &*stream, &mut output) {
        Ok(()) => Ok(End::Connection),
        Err(Broken::Writing(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(End::NobodyReads),
        Err(Broken::Reading(error) | Broken::Writing(error)) => Err(error),
    }
}

/// Which side broke.
enum Broken {
    Reading(io::Error),
    Writing(io::Error),
}

/// At once what there is: nothing is held back to fill a buffer.
fn pump(from: &mut impl Read, to: &mut impl Write) -> Result<(), Broken> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to.write_all(&buffer[..length]).map_err(Broken::Writing)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Broken::Reading(error)),
        }
    }
}
