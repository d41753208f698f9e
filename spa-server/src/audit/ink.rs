//! The file that is written, and how this process left it.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::files::{self, Identity, open_to_append};

/// An open file, to be appended to.
#[derive(Debug)]
pub(super) struct Ink {
    pub(super) file: Arc<File>,
    pub(super) identity: Identity,
    pub(super) length: u64,
}

impl Ink {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let file = open_to_append(&files::path(folder, 0))?;
        let found = file.metadata()?;
        Ok(Self {
            file: Arc::new(file),
            identity: (found.dev(), found.ino()),
            length: found.len(),
        })
    }

    /// Writes as much as the disk takes; says how much that was.
    pub(super) fn append(&mut self, octets: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        while let Some(rest) = octets.get(written..).filter(|rest| !rest.is_empty()) {
            match (&*self.file).write(rest) {
                Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
                Ok(more) => {
                    written += more;
                    self.length += more as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }
}
