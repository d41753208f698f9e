//! The text of a server.toml as it was read, with what is needed to put it back as it was.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::code::Code;
use super::finding::Finding;

/// More than any server.toml has.
const LARGEST: u64 = 4 << 20;

/// One version of a server.toml: exactly what was read, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its text.
    pub text: String,
    /// The permission bits it had.
    pub mode: u32,
    /// Its owner and group.
    pub owner: (u32, u32),
}

impl Source {
    /// Reads a file that nobody but its owner and group may write.
    ///
    /// # Errors
    ///
    /// One finding: it cannot be read, anybody may write it, or it is not UTF-8.
    pub fn read(file: &Path) -> Result<Self, Vec<Finding>> {
        let (octets, mode, owner) = read(file).map_err(|error| vec![unreadable(file, &error)])?;
        if mode & 0o002 != 0 {
            let finding = Finding::error(
                Code::OthersMayWrite,
                format!("anybody may change this file (mode {mode:04o})"),
            );
            let remedy = format!("chmod 640 {}", file.display());
            return Err(vec![finding.in_file(file).with_try(remedy)]);
        }
        let text = String::from_utf8(octets).map_err(|error| vec![not_utf8(file, &error)])?;
        Ok(Self { text, mode, owner })
    }
}

/// All from one opened file: nothing can be put in its place between.
fn read(file: &Path) -> io::Result<(Vec<u8>, u32, (u32, u32))> {
    let mut opened = File::open(file)?;
    let facts = opened.metadata()?;
    if facts.len() > LARGEST {
        return Err(io::Error::other("larger than 4 MiB"));
    }
    let mut octets = Vec::new();
    opened.by_ref().take(LARGEST).read_to_end(&mut octets)?;
    Ok((octets, facts.mode() & 0o7777, (facts.uid(), facts.gid())))
}

pub(crate) fn unreadable(file: &Path, error: &io::Error) -> Finding {
    let shown = file.display();
    let finding = match error.kind() {
        ErrorKind::NotFound => {
            Finding::error(Code::NoFile, format!("{shown} does not exist")).with_try("spa-server init")
        }
        ErrorKind::PermissionDenied => {
            Finding::error(Code::NoPermission, format!("{shown} may not be read by this user"))
                .with_try("the same as root, or as a member of the file's group")
        }
        _ => Finding::error(Code::Unreadable, format!("{shown} cannot be read: {error}")),
    };
    finding.in_file(file)
}

fn not_utf8(file: &Path, error: &std::string::FromUtf8Error) -> Finding {
    let octets = error.as_bytes();
    let good = error.utf8_error().valid_up_to();
    let source = String::from_utf8_lossy(octets);
    let finding = Finding::error(Code::NotUtf8, "this is not UTF-8")
        .in_file(file)
        .at(&source, &(good..good + 1));
    finding.with_try("an editor that saves as UTF-8")
}
