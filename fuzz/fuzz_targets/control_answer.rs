//! What a daemon answers over the control socket, read by the commands that ask.
//!
//! Held: nothing panics, whatever the octets; an answer is taken when it is one JSON object ended by NUL and nothing
//! else, and says what the object says.

#![no_main]

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use spa_keys::{Control, ControlError};

static PLACE: LazyLock<PathBuf> =
    LazyLock::new(|| std::env::temp_dir().join(format!("spa-fuzz-{}.sock", std::process::id())));

fuzz_target!(|answer: &[u8]| {
    let mut control = connected(answer);
    let said = control.call("spa.Status", &json!({}));
    // One read takes all of it, up to the NUL that must be its last octet.
    let message = answer.strip_suffix(&[0]);
    let value = message.and_then(|message| serde_json::from_slice::<Value>(message).ok());
    match (said, value) {
        (Ok(parameters), Some(value)) => {
            let own = value.get("parameters").cloned().unwrap_or_else(|| json!({}));
            assert_eq!(Value::Object(parameters), own);
            assert!(value.get("error").is_none_or(Value::is_null));
        }
        (Err(ControlError::Refused { error, .. }), Some(value)) => assert_eq!(value["error"], error),
        (Err(error), _) => assert!(!error.to_string().is_empty()),
        (Ok(_), None) => panic!("that was no answer"),
    }
});

/// A connection to a daemon that has answered already and gone.
fn connected(answer: &[u8]) -> Control {
    let listener = UnixListener::bind(&*PLACE).expect("a socket can be made");
    let control = Control::connect(&PLACE);
    std::fs::remove_file(&*PLACE).expect("it was there");
    let (mut stream, _) = listener.accept().expect("somebody connects");
    stream.write_all(answer).expect("the buffer holds it");
    stream.shutdown(Shutdown::Write).expect("it is open");
    // Dropped before it was asked, it would break the question.
    std::mem::forget(stream);
    control.expect("somebody listens")
}
