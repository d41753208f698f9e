//! `spa-server status --watch`: the daemon asked every second, and drawn anew in the same place.

mod screen;

use std::io::{self, Read, Write};
use std::time::Duration;

use serde_json::{Value, json};
use spa_keys::units::format_time;
use spa_keys::{Control, ControlError, Exit, Failure, Paths};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::clock;
use crate::watch::{Heard, Watched};
use screen::Screen;

const EVERY: Duration = Duration::from_secs(1);
/// How long the daemon may take before it counts as away.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many refusals are asked for.
const REFUSALS: usize = 50;

/// Watches until q is typed or a signal comes.
///
/// # Errors
///
/// When there is no terminal, when the daemon cannot be reached at first.
pub(super) fn watch(paths: &Paths) -> Result<(), Failure> {
    screen::check()?;
    let first = hear(paths).map_err(Failure::from)?;
    let runtime = runtime()?;
    let ended = runtime.block_on(draw(paths, first));
    // A question to a daemon that is stuck is not waited for.
    runtime.shutdown_background();
    ended.map_err(|error| Failure::new(Exit::Failed, format!("the terminal: {error}")))
}

/// One object on a line every second, until stdout is closed or a signal ends it.
///
/// # Errors
///
/// When stdout cannot be written.
pub(super) fn watch_json(paths: &Paths) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::new(Exit::Failed, format!("stdout: {error}"));
    runtime()?.block_on(async {
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            ticks.tick().await;
            let line = object(hear(paths));
            let mut out = io::stdout().lock();
            match writeln!(out, "{line}").and_then(|()| out.flush()) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                outcome => outcome.map_err(failed)?,
            }
        }
    })
}

fn object(heard: Result<Heard, ControlError>) -> Value {
    let at = format_time(clock::wall());
    match heard {
        Ok(heard) => json!({
            "at": at, "status": heard.status, "grants": heard.grants["grants"], "unreachable": null,
        }),
        Err(error) => json!({ "at": at, "status": null, "grants": null, "unreachable": error.to_string() }),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::new(Exit::Failed, format!("no runtime: {error}")))
}

/// Three questions over one connection.
fn hear(paths: &Paths) -> Result<Heard, ControlError> {
    let mut control = Control::connect_within(&paths.control_socket(), PATIENCE)?;
    let mut ask = |method, parameters| control.call(method, &parameters).map(Value::Object);
    Ok(Heard {
        status: ask("spa.Status", Value::Null)?,
        grants: ask("spa.Grants", Value::Null)?,
        refused: ask("spa.Explain", json!({ "count": REFUSALS, "client": null }))?,
    })
}

fn ask(paths: &Paths) -> JoinHandle<Result<Heard, String>> {
    let paths = paths.clone();
    tokio::task::spawn_blocking(move || hear(&paths).map_err(|error| error.to_string()))
}

async fn draw(paths: &Paths, first: Heard) -> io::Result<()> {
    let mut ends = mpsc::unbounded_channel();
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
        SignalKind::quit(),
    ] {
        let (mut ending, sender) = (signal(kind)?, ends.0.clone());
        tokio::spawn(async move {
            ending.recv().await;
            let _ = sender.send(());
        });
    }
    let mut resized = signal(SignalKind::window_change())?;
    let mut watched = Watched::new(clock::now(), first);
    let mut ticks = tokio::time::interval(EVERY);
    let mut asked = None;
    let mut screen = Screen::enter()?;
    let mut typed = keys();
    loop {
        screen.draw(&watched, clock::now())?;
        tokio::select! {
            answer = answered(&mut asked) => {
                watched.take(clock::now(), answer);
                asked = None;
            }
            _ = ticks.tick() => asked = asked.or_else(|| Some(ask(paths))),
            _ = ends.1.recv() => return Ok(()),
            key = typed.recv() => if key.is_none_or(quits) { return Ok(()) },
            _ = resized.recv() => {}
        }
    }
}

/// The answer to a question that is under way; without one there is none, ever.
async fn answered(asked: &mut Option<JoinHandle<Result<Heard, String>>>) -> Result<Heard, String> {
    match asked {
        Some(asked) => asked.await.unwrap_or_else(|error| Err(error.to_string())),
        None => std::future::pending().await,
    }
}

/// q, Ctrl-C and Ctrl-D.
const fn quits(key: u8) -> bool {
    matches!(key, b'q' | b'Q' | 3 | 4)
}

/// What is typed; it ends with the terminal. A thread, since a terminal that is read without waiting would be so for
/// the shell as well.
fn keys() -> mpsc::UnboundedReceiver<u8> {
    let (sender, keys) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for key in io::stdin().lock().bytes().map_while(Result::ok) {
            if sender.send(key).is_err() {
                return;
            }
        }
    });
    keys
}
