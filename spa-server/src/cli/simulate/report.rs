//! What is told of a capture, for people or as one JSON object, as it is read.

use std::fmt::Write as _;
use std::io::{self, BufWriter, StdoutLock, Write};

use serde_json::{Map, Value, json};
use spa_keys::escape::escape;
use spa_keys::units::format_time;
use spa_proto::{Datagram, UnixTime};

use super::{SimulateArguments, Source};
use crate::refusals::Reason;
use crate::simulate::{Judged, Outcome, Verdict};

/// What is told while the file is read: nothing of it is kept.
pub(super) struct Report {
    out: BufWriter<StdoutLock<'static>>,
    as_json: bool,
    all: bool,
    shifted: bool,
    head: Option<String>,
    pub(super) read: u64,
    told: u64,
    other: u64,
    accepted: u64,
    twice: u64,
    refused: [u64; Reason::ALL.len()],
}

impl Report {
    pub(super) fn begin(arguments: &SimulateArguments, source: &Source, as_json: bool) -> Self {
        let head = if as_json {
            let (at, record) = (
                arguments.at.map(format_time),
                json!({ "state": source.state, "note": source.text }),
            );
            let capture = arguments.capture.display().to_string();
            format!(
                "{{\"capture\":{},\"at\":{},\"record\":{record},\"packets\":[",
                json!(capture),
                json!(at)
            )
        } else {
            format!("the replay record: {}\n\n", escape(&source.text))
        };
        Self {
            out: BufWriter::new(io::stdout().lock()),
            as_json,
            all: arguments.all,
            shifted: arguments.at.is_some(),
            head: Some(head),
            read: 0,
            told: 0,
            other: 0,
            accepted: 0,
            twice: 0,
            refused: [0; Reason::ALL.len()],
        }
    }

    /// Tells of one packet.
    pub(super) fn packet(&mut self, captured: UnixTime, at: UnixTime, judged: &Judged<'_>) -> io::Result<()> {
        self.read += 1;
        match judged {
            Judged::Other(why) => {
                self.other += 1;
                if !self.all {
                    return Ok(());
                }
                let fact = json!({ "number": self.read, "at": format_time(at), "other": why });
                let text = format!("{}\n  not judged: {why}\n", self.title(captured, at, None));
                self.tell(&fact, &text)
            }
            Judged::Packet(datagram, verdict) => {
                self.count(verdict);
                let fact = self.fact(at, datagram.as_ref(), verdict);
                let text = format!("{}\n{verdict}", self.title(captured, at, datagram.as_ref()));
                self.tell(&fact, &text)
            }
        }
    }

    fn count(&mut self, verdict: &Verdict) {
        match &verdict.outcome {
            Outcome::Accepted(_) => self.accepted += 1,
            Outcome::Twice => self.twice += 1,
            Outcome::Refused(refused) => {
                if let Some(count) = self.refused.get_mut(refused.reason as usize) {
                    *count += 1;
                }
            }
        }
    }

    fn title(&self, captured: UnixTime, at: UnixTime, datagram: Option<&Datagram<'_>>) -> String {
        let mut title = format!("packet {}  {}", self.read, format_time(captured));
        if self.shifted {
            // Writing to a String cannot fail.
            let _ = write!(title, ", judged at {}", format_time(at));
        }
        match datagram {
            Some(datagram) => {
                let octets = datagram.payload.len();
                title + &format!("  {} -> {}  {octets} octets", datagram.source, datagram.destination)
            }
            None => title,
        }
    }

    fn fact(&self, at: UnixTime, datagram: Option<&Datagram<'_>>, verdict: &Verdict) -> Value {
        let (accepted, refused) = match &verdict.outcome {
            Outcome::Accepted(acts) => (Some(acts), None),
            Outcome::Refused(refused) => (None, Some(refused)),
            Outcome::Twice => (None, None),
        };
        json!({
            "number": self.read,
            "at": format_time(at),
            "source": datagram.map(|datagram| datagram.source.ip().to_canonical()),
            "source_port": datagram.map(|datagram| datagram.source.port()),
            "destination": datagram.map(|datagram| datagram.destination.ip().to_canonical()),
            "destination_port": datagram.map(|datagram| datagram.destination.port()),
            "octets": datagram.map(|datagram| datagram.payload.len()),
            "client": verdict.client,
            "passed": verdict.steps,
            "accepted": accepted.is_some(),
            "acts": accepted,
            "step": refused.map(|refused| refused.step),
            "reason": refused.map(|refused| refused.reason),
            "detail": refused.map(|refused| &refused.detail),
            "difference_s": refused.and_then(|refused| refused.difference_s),
            "try": refused.map(|refused| &refused.tries),
            "twice": verdict.outcome == Outcome::Twice,
        })
    }

    fn tell(&mut self, fact: &Value, text: &str) -> io::Result<()> {
        self.told += 1;
        if let Some(head) = self.head.take() {
            self.out.write_all(head.as_bytes())?;
        }
        if self.as_json {
            let comma = if self.told > 1 { "," } else { "" };
            write!(self.out, "{comma}{fact}")
        } else {
            writeln!(self.out, "{text}")
        }
    }

    /// The sums; with `error` where the file ended before its end.
    pub(super) fn end(mut self, error: Option<&str>) -> io::Result<()> {
        let refused = Reason::ALL.iter().zip(self.refused);
        if self.as_json {
            let head = self.head.take().unwrap_or_default();
            let counts: Map<String, Value> = refused.map(|(reason, n)| (reason.name().into(), n.into())).collect();
            let sums = json!({
                "read": self.read, "accepted": self.accepted, "refused": counts, "twice": self.twice,
                "other": self.other, "error": error,
            });
            let sums = sums.to_string();
            writeln!(self.out, "{head}],{}", sums.trim_start_matches('{'))?;
        } else if error.is_none() || self.told > 0 {
            let head = self.head.take().unwrap_or_default();
            let each: Vec<_> = refused
                .filter(|(_, n)| *n > 0)
                .map(|(reason, n)| format!("{} {n}", reason.name()))
                .collect();
            let each = if each.is_empty() {
                "none".into()
            } else {
                each.join(", ")
            };
            let (read, accepted, other) = (self.read, self.accepted, self.other);
            let packets = if read == 1 { "packet" } else { "packets" };
            writeln!(
                self.out,
                "{head}{read} {packets}: accepted {accepted}, refused {each}, to no knock port {other}"
            )?;
        }
        self.out.flush()
    }
}
