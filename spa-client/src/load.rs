//! Profiles, opened: under a passphrase or not.

use std::sync::OnceLock;

use spa_keys::Failure;
use spa_keys::profile::{Folder, Passphrase, Profile, ProfileError, ProfileName, SealedError, Stored};
use zeroize::Zeroizing;

use crate::secret;

/// Where passphrases come from, as typed: a file descriptor, else the terminal.
static PASSPHRASE_FD: OnceLock<Option<u16>> = OnceLock::new();
/// How often a mistyped passphrase is asked for again.
const TRIES: usize = 3;

/// Notes where passphrases come from.
pub(crate) fn passphrases_from(number: Option<u16>) {
    // Set once, by main.
    let _ = PASSPHRASE_FD.set(number);
}

fn passphrase_fd() -> Option<u16> {
    PASSPHRASE_FD.get().copied().flatten()
}

/// The folder of this person's profiles.
pub(crate) fn folder() -> Result<Folder, Failure> {
    Ok(Folder::from_env(|name| std::env::var_os(name))?)
}

/// A profile, and the passphrase that it is under.
pub(crate) struct Loaded {
    pub(crate) profile: Profile,
    pub(crate) passphrase: Option<Passphrase>,
}

/// Reads a profile, and asks for its passphrase where it has one.
pub(crate) fn load(name: &ProfileName) -> Result<Profile, Failure> {
    Ok(unlock(&folder()?, name)?.profile)
}

/// The same, with the passphrase.
pub(crate) fn unlock(folder: &Folder, name: &ProfileName) -> Result<Loaded, Failure> {
    let sealed = match folder.read(name)? {
        Stored::Plain(profile) => {
            return Ok(Loaded {
                profile: *profile,
                passphrase: None,
            });
        }
        Stored::Sealed(sealed) => sealed,
    };
    let tries = if passphrase_fd().is_some() { 1 } else { TRIES };
    let mut left = tries;
    loop {
        left -= 1;
        let passphrase = given(&format!("Passphrase of {name}"))?;
        match folder.open(name, &sealed, &passphrase) {
            Ok(profile) => {
                return Ok(Loaded {
                    profile,
                    passphrase: Some(passphrase),
                });
            }
            Err(ProfileError::Sealed {
                error: SealedError::Passphrase,
                ..
            }) if left > 0 => crate::out::tell("error", "wrong passphrase"),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The passphrase, from where it comes.
fn given(prompt: &str) -> Result<Passphrase, Failure> {
    let typed = match passphrase_fd() {
        Some(number) => secret::from_fd(number, "the passphrase")?,
        None => secret::ask(prompt, "the passphrase", "--passphrase-fd")?,
    };
    taken(typed)
}

/// A passphrase that is to be: typed twice on a terminal.
pub(crate) fn new_passphrase(name: &ProfileName, fd: Option<u16>, option: &str) -> Result<Passphrase, Failure> {
    if let Some(number) = fd {
        return taken(secret::from_fd(number, "the new passphrase")?);
    }
    let ask = |prompt: &str| secret::ask(prompt, "the new passphrase", option);
    let first = ask(&format!("New passphrase for {name}"))?;
    if *first != *ask("The same again")? {
        return Err(Failure::new(spa_keys::Exit::Failed, "the two passphrases differ").hint("again"));
    }
    taken(first)
}

/// For `enroll`: the new passphrase comes from where all come.
pub(crate) fn first_passphrase(name: &ProfileName) -> Result<Passphrase, Failure> {
    new_passphrase(name, passphrase_fd(), "--passphrase-fd")
}

fn taken(text: Zeroizing<String>) -> Result<Passphrase, Failure> {
    Passphrase::new(text).map_err(|error| Failure::new(spa_keys::Exit::Usage, error))
}
