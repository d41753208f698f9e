//! `profiles` and `show`: what a profile says, without its secrets.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Serialize;
use spa_keys::profile::{AddressMode, Folder, Membership, Profile, ProfileName, ProfileService, Server, Stored};
use spa_keys::text::{encode, fingerprint};
use spa_keys::units::format_duration;
use spa_keys::{Exit, Failure};
use spa_proto::ServiceName;

use crate::cli::{ListArgs, ShowArgs};
use crate::load::{folder, load};
use crate::out::{self, Form};

/// All profiles.
#[derive(Debug, Serialize)]
struct List {
    profiles: Vec<Row>,
}

/// A profile in a list.
#[derive(Debug, Serialize)]
struct Row {
    profile: String,
    host: Option<String>,
    name: Option<String>,
    services: Vec<String>,
    /// Under a passphrase: the rest is not to be seen.
    sealed: bool,
    error: Option<String>,
}

/// A profile by itself.
#[derive(Debug, Default, Serialize)]
struct Facts {
    profile: String,
    host: Option<String>,
    ports: Vec<u16>,
    name: Option<String>,
    fingerprint: Option<String>,
    gateway_public_key: Option<String>,
    public_key: Option<String>,
    address: Option<AddressFacts>,
    services: Vec<ServiceFacts>,
    also: Vec<AlsoFacts>,
    one_time_code: bool,
    stun: Vec<String>,
    ntp: Vec<String>,
    error: Option<String>,
}

/// A gateway that is asked when those before it stay shut.
#[derive(Debug, Serialize)]
struct AlsoFacts {
    host: String,
    ports: Vec<u16>,
    name: String,
    fingerprint: String,
    gateway_public_key: String,
    public_key: String,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum AddressFacts {
    Word(&'static str),
    List(Vec<String>),
}

#[derive(Debug, Serialize)]
struct ServiceFacts {
    name: String,
    connect: Option<String>,
    for_s: Option<u32>,
}

/// `spa-client profiles`.
pub(crate) fn profiles(args: &ListArgs) -> Exit {
    let rows = folder().and_then(|folder| rows(&folder));
    let (rows, exit) = match rows {
        Ok(rows) => (rows, Exit::Done),
        Err(failure) => {
            out::failure(&failure);
            (Vec::new(), failure.exit)
        }
    };
    match Form::of(args.json) {
        Form::Json => out::object(&List { profiles: rows }),
        Form::Text if rows.is_empty() && exit == Exit::Done => {
            out::tell("note", "no profiles yet: spa-client enroll makes one from an invite");
        }
        Form::Text => table(&rows).iter().for_each(|line| out::fact(line)),
    }
    exit
}

fn rows(folder: &Folder) -> Result<Vec<Row>, Failure> {
    let names = folder.names()?.into_iter();
    Ok(names.map(|name| Row::read(folder, name)).collect())
}

impl Row {
    fn read(folder: &Folder, profile: String) -> Self {
        let name = profile.parse::<ProfileName>().map_err(|error| error.to_string());
        let read = name.and_then(|name| folder.read(&name).map_err(|error| error.to_string()));
        let (good, sealed, error) = match read {
            Ok(Stored::Plain(profile)) => (Some(profile), false, None),
            Ok(Stored::Sealed(_)) => (None, true, None),
            Err(error) => (None, false, Some(error)),
        };
        let services = good.iter().flat_map(|good| good.services.keys());
        Self {
            profile,
            host: good.as_ref().map(|good| good.home.host.to_string()),
            name: good.as_ref().map(|good| good.home.name.to_string()),
            services: services.map(ServiceName::to_string).collect(),
            sealed,
            error,
        }
    }

    fn name(&self) -> &str {
        &self.profile
    }

    fn host(&self) -> &str {
        self.host.as_deref().unwrap_or("-")
    }

    fn rest(&self) -> String {
        match &self.error {
            // A citation of the file is for `show`.
            Some(error) => format!("broken: {}", error.lines().next().unwrap_or_default()),
            None if self.sealed => "under a passphrase".into(),
            None => self.services.join(","),
        }
    }
}

/// The rows in columns.
fn table(rows: &[Row]) -> Vec<String> {
    let width = |column: fn(&Row) -> &str| rows.iter().map(|row| column(row).len()).max().unwrap_or(0);
    let (name, host) = (width(Row::name), width(Row::host));
    let line = |row: &Row| format!("{:name$}  {:host$}  {}", row.name(), row.host(), row.rest());
    rows.iter().map(line).collect()
}

/// `spa-client show`.
pub(crate) fn show(args: &ShowArgs) -> Exit {
    let read = load(&args.profile);
    let (facts, exit) = match read {
        Ok(profile) => (Facts::of(&args.profile, &profile), Exit::Done),
        Err(failure) => {
            out::failure(&failure);
            (Facts::none(&args.profile, &failure), failure.exit)
        }
    };
    match Form::of(args.json) {
        Form::Json => out::object(&facts),
        Form::Text if exit == Exit::Done => facts.lines().iter().for_each(|line| out::fact(line)),
        Form::Text => {}
    }
    exit
}

impl Facts {
    fn of(name: &ProfileName, profile: &Profile) -> Self {
        Self {
            profile: name.to_string(),
            host: Some(profile.home.host.to_string()),
            ports: profile.home.ports.numbers().collect(),
            name: Some(profile.home.name.to_string()),
            fingerprint: Some(fingerprint(&profile.home.gateway)),
            gateway_public_key: Some(encode(profile.home.gateway.as_bytes())),
            public_key: Some(encode(profile.home.secret.public().as_bytes())),
            also: profile.also.iter().map(AlsoFacts::of).collect(),
            one_time_code: profile.one_time_code,
            stun: profile.stun.iter().map(Server::to_string).collect(),
            ntp: profile.ntp.iter().map(Server::to_string).collect(),
            address: Some(AddressFacts::of(&profile.address)),
            services: profile.services.iter().map(ServiceFacts::of).collect(),
            error: None,
        }
    }

    fn none(name: &ProfileName, failure: &Failure) -> Self {
        Self {
            profile: name.to_string(),
            error: Some(failure.what.clone()),
            ..Self::default()
        }
    }

    fn lines(&self) -> Vec<String> {
        let ports: Vec<_> = self.ports.iter().map(u16::to_string).collect();
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let mut lines = vec![
            format!("profile      {}", self.profile),
            format!("host         {}", text(&self.host)),
            format!("ports        {}", ports.join(", ")),
            format!("gateway      {}", text(&self.fingerprint)),
            format!("own name     {}", text(&self.name)),
            format!("own key      {}", text(&self.public_key)),
            format!(
                "address      {}",
                self.address.as_ref().map_or_else(String::new, AddressFacts::text)
            ),
        ];
        lines.extend(self.services.iter().map(ServiceFacts::line));
        lines.extend(self.also.iter().map(AlsoFacts::line));
        lines.extend(
            self.one_time_code
                .then(|| "code         wanted at each opening".to_owned()),
        );
        lines.extend(self.stun.iter().map(|server| format!("stun         {server}")));
        lines.extend(self.ntp.iter().map(|server| format!("ntp          {server}")));
        lines
    }
}

impl AlsoFacts {
    fn of(gateway: &Membership) -> Self {
        Self {
            host: gateway.host.to_string(),
            ports: gateway.ports.numbers().collect(),
            name: gateway.name.to_string(),
            fingerprint: fingerprint(&gateway.gateway),
            gateway_public_key: encode(gateway.gateway.as_bytes()),
            public_key: encode(gateway.secret.public().as_bytes()),
        }
    }

    fn line(&self) -> String {
        format!("also         {} as {}, {}", self.host, self.name, self.fingerprint)
    }
}

impl AddressFacts {
    fn of(mode: &AddressMode) -> Self {
        match mode {
            AddressMode::AsSeen => Self::Word("as-seen"),
            AddressMode::Resolve => Self::Word("resolve"),
            AddressMode::Explicit(_) => Self::List(mode.named().iter().map(ToString::to_string).collect()),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Word(word) => (*word).into(),
            Self::List(list) => list.join(", "),
        }
    }
}

impl ServiceFacts {
    fn of((name, service): (&ServiceName, &ProfileService)) -> Self {
        Self {
            name: name.to_string(),
            connect: service.connect.map(|connect| connect.to_string()),
            for_s: service.duration.map(NonZeroU32::get),
        }
    }

    fn line(&self) -> String {
        let length = |seconds: u32| format_duration(Duration::from_secs(seconds.into()));
        let connect = self.connect.as_ref().map(|connect| format!(" at {connect}"));
        let duration = self.for_s.map(|seconds| format!(" for {}", length(seconds)));
        let (connect, duration) = (connect.unwrap_or_default(), duration.unwrap_or_default());
        format!("service      {}{connect}{duration}", self.name)
    }
}
