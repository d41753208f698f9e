//! The user that the packet process becomes.

use std::fs::File;
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use spa_keys::Paths;
use spa_keys::file::{SPA_USER, user_ids};

use super::{Given, Kept, unless};

/// Becomes `spa`, keeping the capabilities for the next step. Where this is not root it stays who it is.
pub(super) fn become_spa(paths: &Paths) -> Given {
    if !geteuid().is_root() {
        return Ok(());
    }
    let Some((uid, gid)) = user_ids(SPA_USER) else {
        return Err(Kept(format!(
            "there is no user {SPA_USER}: the packet process stays root, without root's rights"
        )));
    };
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let failed = unless("stays root, without root's rights");
    let own = set_thread_groups(&[gid]).and_then(|()| set_thread_res_gid(gid, gid, gid));
    own.map_err(&failed)?;
    reach(paths, uid).map_err(|why| {
        Kept(format!(
            "the packet process stays root, without root's rights, since {SPA_USER} {why}"
        ))
    })?;
    set_keep_capabilities(true)
        .and_then(|()| set_thread_res_uid(uid, uid, uid))
        .map_err(failed)
}

/// Whether `spa` can do what it must, tried as `spa` while the way back is still there.
fn reach(paths: &Paths, uid: Uid) -> Result<(), String> {
    let root = Uid::ROOT;
    let cannot = |error: rustix::io::Errno| format!("cannot be tried: {error}");
    set_thread_res_uid(root, uid, root).map_err(cannot)?;
    let reached = can_read(&paths.gateway_key).and_then(|()| {
        let written = [&paths.clients, &paths.invites, &paths.state];
        written.into_iter().try_for_each(|folder| can_write(folder))
    });
    set_thread_res_uid(root, root, root).map_err(cannot)?;
    reached
}

/// One that does not exist is somebody else's to complain of.
fn can_read(file: &Path) -> Result<(), String> {
    match File::open(file) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Err(format!(
            "cannot read {}; try: chown {SPA_USER} {}",
            file.display(),
            file.display()
        )),
        _ => Ok(()),
    }
}

fn can_write(folder: &Path) -> Result<(), String> {
    let access = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    match accessat(CWD, folder, access, AtFlags::EACCESS) {
        Err(rustix::io::Errno::ACCESS) => Err(format!(
            "cannot write in {}; try: chown -R {SPA_USER} {}, and let {SPA_USER} pass the folders above it",
            folder.display(),
            folder.display()
        )),
        _ => Ok(()),
    }
}
