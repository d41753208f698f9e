//! What `enroll` answers, to a person and to a script.

use serde::Serialize;
use spa_keys::profile::ProfileName;
use spa_keys::text::fingerprint;
use spa_keys::units::format_time;
use spa_keys::{Failure, InviteText};

use super::settle::Settled;
use crate::fire::counted;
use crate::out;
use crate::salvo::{Sent, Tally};

/// The answer, as it comes together.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    profile: Option<String>,
    host: Option<String>,
    fingerprint: Option<String>,
    name: Option<String>,
    services: Vec<String>,
    ends: Option<String>,
    sent: Vec<Sent>,
    proof: Proof,
    hints: Vec<String>,
    /// What the proof came to, for a person.
    #[serde(skip)]
    proved: Option<String>,
    #[serde(skip)]
    old: Option<String>,
}

/// Whether a knock showed that the gateway knows this device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Proof {
    /// Not tried.
    #[default]
    None,
    /// A door opened.
    Open,
    /// None did.
    Shut,
}

impl Report {
    /// Shows what the invite says.
    pub(super) fn show(&mut self, invite: &InviteText) {
        self.fingerprint = Some(fingerprint(&invite.gateway));
        self.name = Some(invite.name.to_string());
        self.services = invite.services.iter().map(|hint| hint.name.to_string()).collect();
        self.ends = Some(format_time(invite.end()));
    }

    /// Says which profile it became.
    pub(super) fn settle(&mut self, name: &ProfileName, settled: &Settled) {
        self.profile = Some(name.to_string());
        self.host = Some(settled.gateway().host.to_string());
        self.old = settled.old.as_ref().map(ProfileName::to_string);
    }

    /// Says what the proof came to.
    pub(super) fn prove(&mut self, proof: Proof, line: String) {
        self.proof = proof;
        self.proved = Some(line);
    }

    /// Says why nothing was proved.
    pub(super) fn doubt(&mut self, causes: Vec<String>) {
        for cause in causes {
            out::tell("likely cause", &cause);
            self.hints.push(cause);
        }
    }

    /// Warns at once, and keeps the warning for the script.
    pub(super) fn warn(&mut self, warnings: impl IntoIterator<Item = String>) {
        for warning in warnings {
            out::tell("warning", &warning);
            self.hints.push(warning);
        }
    }

    /// Takes over what was sent.
    pub(super) fn take(&mut self, tally: Tally) {
        self.warn(tally.hints());
        self.sent = tally.sent;
    }

    /// Says why it failed.
    pub(super) fn fail(&mut self, failure: &Failure) {
        out::failure(failure);
        self.hints.push(failure.what.clone());
        self.hints.extend(failure.hints.iter().cloned());
    }

    /// The facts for a person.
    pub(super) fn lines(&self) -> Vec<String> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let profile = text(&self.profile);
        let service = self.services.first().map_or("SERVICE", String::as_str);
        let mut lines = vec![
            format!("gateway      {}", text(&self.fingerprint)),
            format!("own name     {}", text(&self.name)),
            format!("services     {}", self.services.join(", ")),
            format!("invite ends  {}", text(&self.ends)),
            format!("profile      {profile}"),
        ];
        lines.extend(self.old.iter().map(|old| format!("old profile  {old}")));
        lines.push(format!("sent: enroll ({})", counted(&self.sent)));
        lines.extend(self.proved.clone());
        lines.push(format!("try: spa-client open {profile} {service}"));
        lines
    }
}
