use std::os::unix::net::UnixListener;
use std::thread;

use super::*;

/// A daemon that answers one request with these bytes.
fn daemon(answer: &'static [u8]) -> (tempfile::TempDir, PathBuf, thread::JoinHandle<Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).unwrap();
        request.truncate(length);
        stream.write_all(answer).unwrap();
        request
    });
    (dir, path, served)
}

fn call(answer: &'static [u8]) -> Result<Map<String, Value>, ControlError> {
    let (_dir, path, _served) = daemon(answer);
    Control::connect(&path)?.call("spa.Status", &json!({}))
}

#[test]
fn asks_and_answers_end_with_nul() {
    let (_dir, path, served) = daemon(b"{\"parameters\":{\"pid\":7}}\0");
    let parameters = Control::connect(&path)
        .unwrap()
        .call("spa.Status", &json!({ "a": 1 }))
        .unwrap();
    assert_eq!(parameters["pid"], 7);
    let request = served.join().unwrap();
    assert_eq!(request.last(), Some(&0));
    let request: Value = serde_json::from_slice(&request[..request.len() - 1]).unwrap();
    assert_eq!(request, json!({ "method": "spa.Status", "parameters": { "a": 1 } }));
}

#[test]
fn refusals_are_told() {
    let error = call(b"{\"error\":\"spa.NoSuchClient\",\"parameters\":{\"message\":\"no client bob\"}}\0").unwrap_err();
    assert_eq!(error.to_string(), "no client bob");
    assert_eq!(error.exit(), Exit::Failed);
    assert!(matches!(call(b"nonsense\0"), Err(ControlError::Garbled)));
    assert!(matches!(call(b"{\"parameters\":{}}"), Err(ControlError::Ended)));
    assert!(matches!(call(b""), Err(ControlError::Ended)));
}

#[test]
fn nobody_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let error = Control::connect(&path).unwrap_err();
    assert!(matches!(error, ControlError::NotRunning { .. }));
    assert_eq!(
        (error.exit(), error.hint()),
        (Exit::Unreachable, Some("spa-server run"))
    );
    drop(UnixListener::bind(&path).unwrap());
    assert!(matches!(Control::connect(&path), Err(ControlError::NotRunning { .. })));
}

#[test]
fn a_silent_daemon_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let _listener = UnixListener::bind(&path).unwrap();
    let mut control = Control::connect_within(&path, Duration::from_millis(50)).unwrap();
    assert!(matches!(
        control.call("spa.Status", &json!({})),
        Err(ControlError::Silent { .. })
    ));
}
