//! What a daemon answers over the control socket, read by the commands that ask.
//!
//! Held: nothing panics, whatever the octets; an answer is taken when it is one JSON message ended by NUL and nothing
//! else, and says what the message says.

#![no_main]

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use spa_keys::{Control, ControlError};

static PLACE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("spa-fuzz-{}.sock", std::process::id())));

fuzz_target!(|answer: &[u8]| {
    let (mut control, _daemon) = connected(answer);
    let said = control.call("spa.Status", &json!({}));
    // One read takes all of it, up to the NUL that must be its last octet.
    let message = answer.strip_suffix(&[0]);
    let value = message.and_then(|message| serde_json::from_slice::<Value>(message).ok());
    match (said, value) {
        (Ok(parameters), Some(value)) if value.is_object() => {
            let own = value.get("parameters").cloned().unwrap_or_else(|| json!({}));
            assert_eq!(Value::Object(parameters), own);
            assert!(value.get("error").is_none_or(Value::is_null));
        }
        (Err(ControlError::Refused { error, .. }), Some(value)) if value.is_object() => {
            assert_eq!(value["error"], error)
        }
        (Err(error), _) => assert!(!error.to_string().is_empty()),
        // What is in members that nobody asks for is not looked at, not even whether it is UTF-8.
        (Ok(_), _) => assert!(message.is_some(), "that was no answer"),
    }
});

/// A connection to a daemon that has answered already. Were its end dropped before it was asked, the question would break.
fn connected(answer: &[u8]) -> (Control, UnixStream) {
    let listener = UnixListener::bind(&*PLACE).expect("a socket can be made");
    let control = Control::connect(&PLACE);
    std::fs::remove_file(&*PLACE).expect("it was there");
    let (mut stream, _) = listener.accept().expect("somebody connects");
    stream.write_all(answer).expect("the buffer holds it");
    stream.shutdown(Shutdown::Write).expect("it is open");
    (control.expect("somebody listens"), stream)
}
