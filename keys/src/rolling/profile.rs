//! What a device needs to knock a rolling sequence by itself.

use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;
use spa_proto::sequence::{Rolling, RollingKey};
use zeroize::Zeroizing;

use super::{RollingTyped, transport_name};
use crate::fault::Fault;
use crate::file::{Limits, read_text};
use crate::load::LoadError;
use crate::name::Host;
use crate::text;
use crate::units::format_duration;

/// A rolling sequence as a device keeps it.
#[derive(Debug)]
pub struct RollingProfile {
    /// Where the gateway is.
    pub host: Host,
    /// What the gateway's server.toml says.
    pub rolling: Rolling,
    /// The key that both have.
    pub key: RollingKey,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Raw {
    host: String,
    name: String,
    key: String,
    range: Option<String>,
    #[serde(default)]
    except: Vec<i64>,
    length: Option<i64>,
    step: Option<String>,
    transport: Option<String>,
}

impl RollingProfile {
    /// Reads a file of mode 0600.
    ///
    /// # Errors
    ///
    /// [`LoadError`], which never holds the key.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let contents = read_text(path, Limits::SECRET)?;
        Self::parse(&contents).map_err(|fault| LoadError::fault(path, fault))
    }

    fn parse(contents: &str) -> Result<Self, Fault> {
        let mut raw: Raw = toml::from_str(contents).map_err(|error| {
            Fault::at(
                contents,
                &error.span().unwrap_or_default(),
                without_value(error.message()),
            )
        })?;
        let key = Zeroizing::new(std::mem::take(&mut raw.key));
        let typed = RollingTyped {
            name: &raw.name,
            range: raw.range.as_deref(),
            except: &raw.except,
            length: raw.length,
            step: raw.step.as_deref(),
            transport: raw.transport.as_deref(),
        };
        let key = text::decode(&key).map_err(|error| Fault::whole(format_args!("key: {error}")))?;
        Ok(Self {
            host: raw
                .host
                .parse()
                .map_err(|error| Fault::whole(format_args!("host: {error}")))?,
            rolling: typed.read().map_err(Fault::whole)?,
            key: RollingKey::from_bytes(&key),
        })
    }

    /// The file's text, the key included.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        // More than it takes, so that the key in it is not moved.
        let mut out = Zeroizing::new(String::with_capacity(16 * 1024));
        let Rolling {
            name,
            pool,
            stages,
            transport,
            step,
        } = &self.rolling;
        let (first, last) = pool.range();
        out.push_str("# A rolling sequence of spa-client. It holds a secret: keep its mode 0600.\n");
        // Writing to a String cannot fail.
        let _ = writeln!(out, "host = \"{}\"\nname = \"{name}\"", self.host);
        let _ = writeln!(out, "key = \"{}\"", &*text::encode_secret(self.key.expose()));
        let _ = writeln!(out, "range = \"{first}-{last}\"\nexcept = {:?}", pool.except());
        let _ = writeln!(out, "length = {stages}\nstep = \"{}\"", format_duration(*step));
        let _ = writeln!(out, "transport = \"{}\"", transport_name(*transport));
        out
    }
}

/// "invalid type: string "...", expected i64": the value may be the key, in the wrong line.
fn without_value(message: &str) -> String {
    match message.rsplit_once(", expected ") {
        Some((_, wanted)) if message.starts_with("invalid") => format!("expected {wanted}"),
        _ => message.trim().replace('\n', ", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let typed = RollingTyped {
            name: "card",
            except: &[30_000, 27_017],
            transport: Some("mixed"),
            ..RollingTyped::default()
        };
        let profile = RollingProfile {
            host: "gw.example.net".parse().unwrap(),
            rolling: typed.read().unwrap(),
            key: RollingKey::from_bytes(&[3; 32]),
        };
        let again = RollingProfile::parse(&profile.to_text()).unwrap();
        assert_eq!((&again.host, &again.rolling), (&profile.host, &profile.rolling));
        assert_eq!(again.key.expose(), profile.key.expose());
    }

    #[test]
    fn faults_do_not_tell_the_key() {
        let secret = "AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM";
        for text in [
            format!("host = \"gw\"\nname = \"card\"\nkey = \"{secret}x\"\n"),
            format!("host = \"gw\"\nname = \"card\"\nkey = \"{secret}\"\ncolour = 1\n"),
            format!("host = \"gw\"\nname = \"card\"\nlength = \"{secret}\"\n"),
            format!("host = \"GW\"\nname = \"card\"\nkey = \"{secret}\"\n"),
            format!("host = \"gw\"\nname = \"card\"\nkey = [\"{secret}\"]\n"),
        ] {
            let fault = RollingProfile::parse(&text).unwrap_err();
            assert!(!fault.to_string().contains("AwMD"), "{fault}");
        }
    }
}
