//! Whether a daemon asks libwrap at all: told from the program's file, which is read and never run.

use std::fs;
use std::path::{Path, PathBuf};

use goblin::elf::Elf;

/// Where daemons lie.
const FOLDERS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/sbin",
    "/sbin",
    "/usr/local/bin",
    "/usr/bin",
    "/usr/libexec",
];
/// Where OpenSSH, since 9.8, keeps the part of sshd that speaks with whoever connects.
const SESSION_FOLDERS: [&str; 3] = ["/usr/lib/openssh", "/usr/libexec/openssh", "/usr/lib/ssh"];
/// What the kernel keeps of a program's name.
const COMM_LENGTH: usize = 15;

/// What is known about a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Linkage {
    /// It asks libwrap.
    Linked,
    /// This program does not.
    NotLinked(PathBuf),
    /// There is no such program, running or in the folders of the system.
    NotFound,
}

/// What this host shows about a daemon: its running programs in this network, else the file of its name.
#[must_use]
pub fn linkage(daemon: &str) -> Linkage {
    if fs::read("/etc/inetd.conf").is_ok_and(|text| is_wrapped(&String::from_utf8_lossy(&text), daemon)) {
        return Linkage::Linked;
    }
    let mut programs = running(daemon);
    if programs.is_empty() {
        programs.extend(find(daemon, &FOLDERS));
    }
    let session = find(&format!("{daemon}-session"), &SESSION_FOLDERS);
    if programs.is_empty() {
        return Linkage::NotFound;
    }
    let stranger = programs.into_iter().find(|program| !is_linked(program));
    match stranger {
        Some(program) if !session.is_some_and(|session| is_linked(&session)) => Linkage::NotLinked(named(program)),
        _ => Linkage::Linked,
    }
}

/// Whether inetd runs this daemon through tcpd.
fn is_wrapped(inetd: &str, daemon: &str) -> bool {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let lines = inetd.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .any(|line| {
            let [program, argument] = [5, 6].map(|at| line.get(at).map(|word| name(word)).unwrap_or_default());
            program == "tcpd" && argument == daemon
        })
}

/// The programs of the processes of this name that share our network; a container's have their own.
fn running(daemon: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let short: String = daemon.chars().take(COMM_LENGTH).collect();
    let network = fs::read_link("/proc/self/ns/net").ok();
    let processes = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
    let own = processes.filter(|process| {
        let comm = fs::read_to_string(process.join("comm")).unwrap_or_default();
        comm.trim_end() == short && fs::read_link(process.join("ns/net")).ok() == network
    });
    // Through this link a program that has been replaced on disk can still be read.
    own.map(|process| process.join("exe"))
        .filter(|program| program.exists())
        .collect()
}

fn find(name: &str, folders: &[&str]) -> Option<PathBuf> {
    let paths = folders.iter().map(|folder| Path::new(folder).join(name));
    paths.into_iter().find(|path| path.is_file())
}

fn named(program: PathBuf) -> PathBuf {
    fs::read_link(&program).unwrap_or(program)
}

/// Whether a program's dynamic section asks for libwrap. One that cannot be read is given the benefit of the doubt.
#[must_use]
pub fn is_linked(program: &Path) -> bool {
    let Ok(octets) = fs::read(program) else { return true };
    match Elf::parse(&octets) {
        Ok(elf) => elf.libraries.iter().any(|library| library.starts_with("libwrap.so")),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inetd_may_run_a_daemon_through_tcpd() {
        let text = "#ftp stream tcp nowait root /usr/sbin/tcpd /usr/sbin/in.ftpd\n\
                    telnet stream tcp nowait root /usr/sbin/tcpd /usr/sbin/in.telnetd -h\n\
                    pop3 stream tcp nowait root /usr/sbin/popd popd\n";
        let wrapped = |daemon: &str| is_wrapped(text, daemon);
        assert!(wrapped("in.telnetd") && !wrapped("in.ftpd") && !wrapped("popd"));
    }

    #[test]
    fn programs_tell_what_they_are_linked_with() {
        assert!(!is_linked(&std::env::current_exe().unwrap()));
        let script = tempfile::NamedTempFile::new().unwrap();
        fs::write(script.path(), "#!/bin/sh\n").unwrap();
        assert!(!is_linked(script.path()));
        for program in ["/usr/sbin/tcpdmatch", "/usr/sbin/tcpdchk"].map(Path::new) {
            if program.exists() {
                assert!(is_linked(program), "{}", program.display());
            } else {
                eprintln!("skipped: {} is not installed", program.display());
            }
        }
        assert_eq!(linkage("no-such-daemon"), Linkage::NotFound);
    }
}
