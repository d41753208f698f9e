//! The log: text or JSON lines on stderr, or journald by its own protocol.
//!
//! [`start`] is called first of all and tells in text. [`take_up`] follows `[log]` once server.toml is read, and after each
//! reload. The journal's socket is opened there: a process that gives up rights calls it before. Each line is sent to the
//! journal's path (sendto(2)), so that journald may be started anew; what is too long for a datagram goes by memfd.

use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing::{Subscriber, warn};
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::config::{Log, LogFormat, LogLevel};

/// Where journald listens.
pub const JOURNAL: &str = "/run/systemd/journal/socket";
/// Has the last word on how much is told.
const LEVEL: &str = "SPA_LOG";
/// What the journal calls us (`journalctl -t`).
const IDENTIFIER: &str = "spa-server";

type Output = Box<dyn Layer<Registry> + Send + Sync>;

/// What can be changed while the process runs.
struct Logging {
    output: Handle<Output, Registry>,
    level: Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>,
    is_coloured: bool,
    format: Mutex<LogFormat>,
}

static LOGGING: OnceLock<Logging> = OnceLock::new();

/// Tells in text from here on; a second call changes nothing.
pub fn start(is_coloured: bool) {
    let (output, output_handle) = reload::Layer::new(text(is_coloured));
    let (level, level_handle) = reload::Layer::new(filter(LogLevel::Info));
    // Set once: a second one would only find the first one's.
    if tracing_subscriber::registry()
        .with(output)
        .with(level)
        .try_init()
        .is_ok()
    {
        let _ = LOGGING.set(Logging {
            output: output_handle,
            level: Box::new(move |filter| level_handle.reload(filter)),
            is_coloured,
            format: Mutex::new(LogFormat::Text),
        });
    }
}

/// Tells as `log` says from here on. What cannot be had is said in the manner that stays.
pub fn take_up(log: Log) {
    if let Err(error) = follow(log) {
        warn!("the log cannot be told as {}, it stays as it was: {error}", log.format);
    }
}

/// When journald cannot be reached the format is as it was, the level is the new one.
fn follow(log: Log) -> io::Result<()> {
    let Some(logging) = LOGGING.get() else {
        return Ok(());
    };
    (logging.level)(filter(log.level)).map_err(io::Error::other)?;
    let mut format = logging.format.lock().unwrap_or_else(PoisonError::into_inner);
    if *format == log.format {
        return Ok(());
    }
    let output = match log.format {
        LogFormat::Text => text(logging.is_coloured),
        LogFormat::Json => json(io::stderr),
        LogFormat::Journal => journal()?,
    };
    logging.output.reload(output).map_err(io::Error::other)?;
    *format = log.format;
    Ok(())
}

fn filter(level: LogLevel) -> EnvFilter {
    EnvFilter::try_from_env(LEVEL).unwrap_or_else(|_| EnvFilter::new(level.to_string()))
}

fn text(is_coloured: bool) -> Output {
    fmt::layer().with_writer(io::stderr).with_ansi(is_coloured).boxed()
}

/// The event's fields stand beside its time and level, so that a search needs no path.
fn json<S, W>(writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> fmt::MakeWriter<'writer> + Send + Sync + 'static,
{
    fmt::layer().json().flatten_event(true).with_writer(writer).boxed()
}

/// Priorities as syslog knows them: an opened door is no notice, a refusal a warning.
fn journal() -> io::Result<Output> {
    let priorities = PriorityMappings {
        info: Priority::Informational,
        debug: Priority::Debug,
        ..PriorityMappings::new()
    };
    let layer = tracing_journald::layer()?;
    let layer = layer.with_field_prefix(None).with_priority_mappings(priorities);
    Ok(layer.with_syslog_identifier(IDENTIFIER.to_owned()).boxed())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(octets)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_json_line_is_one_object_with_its_fields() {
        let lines = Lines::default();
        let writer = lines.clone();
        let registry = tracing_subscriber::registry().with(json(move || writer.clone()));
        tracing::subscriber::with_default(registry, || {
            tracing::warn!(client = "a\u{1b}\n\"", source = "192.0.2.7", "refused: \u{202e}");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["level"], &line["client"]),
            (&"WARN".into(), &"a\u{1b}\n\"".into())
        );
        assert_eq!(line["source"], "192.0.2.7");
    }
}
