//! What a client gets: the part of its file that an invite holds until the device enrolls.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use spa_proto::{PublicKey, ServiceName, UnixTime, Windows};

use super::code::OneTimeCode;
use super::policy::{ClientPolicy, Widen, parse_source};
use super::write_time;
use crate::fault::Fault;
use crate::table::Table;
use crate::text;
use crate::units::{self, format_duration, parse_duration};

/// What a client may do, and until when.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// What it may do.
    pub policy: ClientPolicy,
    /// When it ends by itself.
    pub expires: Option<UnixTime>,
    /// The secret of the one-time codes it must send.
    pub one_time_code: Option<OneTimeCode>,
    /// The key of the client whose place it takes, after a rotation of the gateway's identity. Not its name, which
    /// may become another's.
    pub replaces: Option<PublicKey>,
}

impl Terms {
    /// The same terms, for the client that an invite makes.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self {
            policy: self.policy.clone(),
            expires: self.expires,
            one_time_code: self.one_time_code.as_ref().map(OneTimeCode::duplicate),
            replaces: self.replaces,
        }
    }

    pub(crate) fn read(table: &mut Table<'_>) -> Result<Self, Fault> {
        Ok(Self {
            policy: read_policy(table)?,
            expires: table.text("expires", units::parse_time)?,
            one_time_code: read_code(table)?,
            replaces: table.text("replaces", text::public_key)?,
        })
    }

    /// Writes what differs from the default.
    pub(crate) fn write(&self, out: &mut String) {
        // Writing to a String cannot fail.
        let _ = write_policy(&self.policy, out);
        write_time("expires", self.expires, out);
        if let Some(code) = &self.one_time_code {
            out.push_str("one-time-code = \"");
            out.push_str(&code.to_base32());
            let _ = writeln!(out, "\"\none-time-digits = {}", code.digits);
        }
        if let Some(key) = &self.replaces {
            let _ = writeln!(out, "replaces = \"{}\"", text::encode(key.as_bytes()));
        }
    }
}

fn read_policy(table: &mut Table<'_>) -> Result<ClientPolicy, Fault> {
    let standard = ClientPolicy::default();
    let services = table.texts("services", str::parse::<ServiceName>)?;
    Ok(ClientPolicy {
        services: Arc::from(table.required("services", services)?),
        address: table.text("address", str::parse)?.unwrap_or_default(),
        sources: table.texts("sources", parse_source)?.unwrap_or_default().into(),
        allow_local: table.flag("allow-local")?,
        window_as_seen: table.text("window-as-seen", window)?.unwrap_or(standard.window_as_seen),
        window_explicit: table
            .text("window-explicit", window)?
            .unwrap_or(standard.window_explicit),
        max_duration: table.text("max-duration", parse_length)?,
        widen: read_widen(table)?,
        roam: table.flag("roam")?,
    })
}

fn read_widen(table: &mut Table<'_>) -> Result<Widen, Fault> {
    let span = table.span_of("widen");
    let lengths = table.texts("widen", Widen::parse_length)?.unwrap_or_default();
    let widen = Widen::from_lengths(&lengths);
    widen.ok_or_else(|| table.fault_at(&span, "widen takes one length for IPv4 and one for IPv6"))
}

const LONE_DIGITS: &str = "one-time-digits without one-time-code: write the secret of the codes too, or neither";

fn read_code(table: &mut Table<'_>) -> Result<Option<OneTimeCode>, Fault> {
    let span = table.span_of("one-time-digits");
    let digits = table.number("one-time-digits", |digits| match digits {
        6 => Ok(6),
        8 => Ok(8),
        _ => Err("one-time-digits is 6 or 8"),
    })?;
    let code = table.text("one-time-code", |text| OneTimeCode::parse(text, digits.unwrap_or(6)))?;
    match (digits, &code) {
        // Codes are meant, and none would be asked for.
        (Some(_), None) => Err(table.fault_at(&span, LONE_DIGITS)),
        _ => Ok(code),
    }
}

fn window(text: &str) -> Result<Duration, String> {
    let length = parse_length(text)?;
    if length > Windows::GREATEST {
        return Err(format!("a window is at most {}", format_duration(Windows::GREATEST)));
    }
    Ok(length)
}

/// Reads a length of time that is not nothing.
///
/// # Errors
///
/// What is wrong, in one clause.
pub fn parse_length(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Err(format!("{text} is no time at all")),
        Ok(length) => Ok(length),
        Err(error) => Err(error.to_string()),
    }
}

fn write_policy(policy: &ClientPolicy, out: &mut String) -> std::fmt::Result {
    let standard = ClientPolicy::default();
    writeln!(out, "services = [{}]", quoted(policy.services.iter()))?;
    if policy.address != standard.address {
        writeln!(out, "address = \"{}\"", policy.address.as_str())?;
    }
    if !policy.sources.is_empty() {
        writeln!(out, "sources = [{}]", quoted(policy.sources.iter()))?;
    }
    if policy.allow_local {
        writeln!(out, "allow-local = true")?;
    }
    if policy.window_as_seen != standard.window_as_seen {
        writeln!(out, "window-as-seen = \"{}\"", format_duration(policy.window_as_seen))?;
    }
    if policy.window_explicit != standard.window_explicit {
        writeln!(out, "window-explicit = \"{}\"", format_duration(policy.window_explicit))?;
    }
    if let Some(longest) = policy.max_duration {
        writeln!(out, "max-duration = \"{}\"", format_duration(longest))?;
    }
    if policy.widen != standard.widen {
        writeln!(out, "widen = {}", policy.widen)?;
    }
    if policy.roam {
        writeln!(out, "roam = true")?;
    }
    Ok(())
}

/// `"a", "b"`: of what needs no escaping.
fn quoted(items: impl Iterator<Item = impl std::fmt::Display>) -> String {
    items.map(|item| format!("\"{item}\"")).collect::<Vec<_>>().join(", ")
}
