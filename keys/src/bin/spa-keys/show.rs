//! Secrets and QR codes for people: on stderr, once.

use std::io::{IsTerminal, stderr};

use spa_keys::{ClientName, qr::QrError};
use spa_keys::{Exit, Failure, Host, Terms, qr};

/// A text as a QR code, black on white where a terminal reads it.
pub fn qr_code(text: &str) -> Result<(), Failure> {
    let code = qr::terminal(text, stderr().is_terminal()).map_err(too_long)?;
    eprint!("{}", *code);
    Ok(())
}

pub fn too_long(error: QrError) -> Failure {
    Failure::new(Exit::Failed, error).hint("the text instead of the QR code")
}

/// The secret of a client's one-time codes, as authenticator apps take it.
pub fn one_time_code(name: &ClientName, terms: &Terms, host: Option<&Host>) -> Result<(), Failure> {
    let Some(code) = &terms.one_time_code else {
        return Ok(());
    };
    let nowhere = || "spa".parse().map_err(|error| Failure::new(Exit::Failed, error));
    let host = host.cloned().map_or_else(nowhere, Ok)?;
    let uri = code.to_uri(name, &host);
    eprintln!("One-time codes, for an authenticator app; shown only now:\n{}", *uri);
    qr_code(&uri)
}
