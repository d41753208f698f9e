//! The invites of a rotation, in a folder of their own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use spa_keys::file::{FileError, create_dir, create_new};
use spa_keys::rotation::{next_name, taken_names};
use spa_keys::units::format_time;
use spa_keys::{Client, Exit, Failure, Invite, InviteText, KeyDirectory, Terms, text};
use zeroize::Zeroizing;

use crate::cli::ReinviteArgs;
use crate::context::Context;
use crate::describe;
use crate::invite::write_picture;
use crate::maker::Maker;

const COLUMNS: [(&str, &str); 4] = [
    ("INVITE", "name"),
    ("REPLACES", "replaces"),
    ("ENDS", "ends"),
    ("FILE", "file"),
];

/// Where they go, and how they are made.
pub struct Invites<'a> {
    context: &'a Context,
    args: &'a ReinviteArgs,
    folder: PathBuf,
}

impl<'a> Invites<'a> {
    /// Makes the folder, of mode 0700; one that is there already is refused.
    pub fn new(context: &'a Context, args: &'a ReinviteArgs) -> Result<Self, Failure> {
        let folder = args.out.clone().unwrap_or_else(|| standard_folder(context));
        if folder.symlink_metadata().is_ok() {
            return Err(Failure::from(FileError::Exists { path: folder }).hint("--out with another folder"));
        }
        create_dir(&folder, 0o700)?;
        Ok(Self { context, args, folder })
    }

    /// One for each of these clients; says which.
    pub fn make(&self, maker: &Maker<'_>, directory: &KeyDirectory, names: &[String]) -> Result<(), Failure> {
        let mut taken = taken_names(directory, self.context.now);
        let invites = names.iter().map(|name| self.make_one(maker, &mut taken, name));
        let invites = invites.collect::<Result<Vec<_>, _>>()?;
        self.announce(&text::fingerprint(maker.identity.public()), &invites)
    }

    /// The text first, the invite after it: what is cut off between leaves no name reserved by an invite that nobody
    /// has.
    fn make_one(&self, maker: &Maker<'_>, taken: &mut BTreeSet<String>, old: &str) -> Result<Value, Failure> {
        let client = Client::load(&self.context.paths.clients.join(format!("{old}.toml")))?;
        let terms = Terms {
            replaces: Some(client.public_key),
            ..client.terms
        };
        let name = next_name(taken, old);
        let name = name.ok_or_else(|| Failure::new(Exit::Failed, format_args!("no name is free after {old}")))?;
        let ends = self.context.now.saturating_add(self.args.valid);
        let (invite, text) = maker.make(name, ends, terms, self.args.pin)?;
        let (file, picture) = self.write(&invite, &text)?;
        invite.create(&self.context.paths.invites)?;
        taken.insert(invite.name.to_string());
        Ok(json!({
            "name": invite.name.as_str(),
            "replaces": old,
            "ends": format_time(invite.ends),
            "file": file,
            "qr_file": picture,
            "pin": invite.pin_text().as_ref().map(|pin| pin.as_str()),
        }))
    }

    fn write(&self, invite: &Invite, text: &InviteText) -> Result<(PathBuf, PathBuf), Failure> {
        let file = self.folder.join(format!("{}.txt", invite.name));
        let picture = self.folder.join(format!("{}.svg", invite.name));
        let line = Zeroizing::new(format!("{}\n", *text.to_text()));
        create_new(&file, line.as_bytes(), 0o600)?;
        write_picture(&picture, text)?;
        Ok((file, picture))
    }

    fn announce(&self, newest: &str, invites: &[Value]) -> Result<(), Failure> {
        let facts = json!({ "identity": newest, "folder": self.folder, "invites": invites });
        let table = || format!("newest identity {newest}\n\n{}", describe::table(&COLUMNS, invites));
        self.context.answer(&facts, table)?;
        if self.context.json {
            return Ok(());
        }
        for invite in invites.iter().filter(|invite| invite["pin"].is_string()) {
            let (name, pin) = (describe::cell(invite, "name"), describe::cell(invite, "pin"));
            eprintln!("PIN of {name}: {pin}    (shown only now; tell it by another channel)");
        }
        eprintln!("Give each its invite, then remove the folder: the texts are secrets until they are used.");
        eprintln!(
            "Old keys stay good until the old identity is dropped. Who has moved: spa-keys gateway rotate --status"
        );
        Ok(())
    }
}

/// Beside gateway.key, named after the time.
fn standard_folder(context: &Context) -> PathBuf {
    let time = format_time(context.now).replace(':', "");
    let name = format!("rotation-{time}");
    let etc: &Path = &context.paths.gateway_key;
    etc.with_file_name(name)
}
