//! What `enroll` answers, to a person and to a script.

use serde::Serialize;
use spa_keys::profile::{Profile, ProfileName};
use spa_keys::text::fingerprint;
use spa_keys::units::format_time;
use spa_keys::{Failure, InviteText};

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
    hints: Vec<String>,
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
    pub(super) fn name_profile(&mut self, name: &ProfileName, profile: &Profile) {
        self.profile = Some(name.to_string());
        self.host = Some(profile.host.to_string());
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
        vec![
            format!("gateway      {}", text(&self.fingerprint)),
            format!("own name     {}", text(&self.name)),
            format!("services     {}", self.services.join(", ")),
            format!("invite ends  {}", text(&self.ends)),
            format!("profile      {profile}"),
            format!("sent: enroll ({})", counted(&self.sent)),
            format!("try: spa-client open {profile} {service}"),
        ]
    }
}
