//! What `spa-server check` says about the programs of commands.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::config::{BackendKind, Code, Config, Finding, Service};

/// Programs that cannot be run, or that too many can change.
#[must_use]
pub fn inspect(config: &Config) -> Vec<Finding> {
    let own = config
        .services
        .iter()
        .filter(|service| service.backends.contains(&BackendKind::Command));
    let programs = |service: &Service| {
        let lists = [("open", service.open.first()), ("close", service.close.first())];
        let found =
            lists.map(|(key, program)| program.and_then(|program| judge(&service.name, key, Path::new(program))));
        found.into_iter().flatten().collect::<Vec<_>>()
    };
    own.flat_map(programs).collect()
}

fn judge(service: &str, key: &str, program: &Path) -> Option<Finding> {
    let shown = program.display();
    let Ok(facts) = std::fs::metadata(program) else {
        let finding = Finding::error(
            Code::NoProgram,
            format!("service {service}: {key} runs {shown}, which is not there"),
        );
        return Some(finding.with_try(format!("ls -l {shown}")));
    };
    if !facts.is_file() || facts.mode() & 0o111 == 0 {
        let text = format!("service {service}: {key} runs {shown}, which cannot be run");
        return Some(Finding::error(Code::NoProgram, text).with_try(format!("chmod 755 {shown}")));
    }
    if facts.mode() & 0o002 != 0 {
        let text = format!("service {service}: {key} runs {shown}, which anybody can change");
        return Some(Finding::error(Code::LooseProgram, text).with_try(format!("chmod 755 {shown}")));
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn programs_must_be_there_and_nobody_elses() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("vpn");
        let told = |mode: Option<u32>| {
            if let Some(mode) = mode {
                fs::write(&program, "#!/bin/sh\n").unwrap();
                fs::set_permissions(&program, Permissions::from_mode(mode)).unwrap();
            }
            let finding = judge("vpn", "open", &program)?;
            let text = format!("{} -> {}", finding.text, finding.remedy.unwrap_or_default());
            Some(text.replace(&*dir.path().to_string_lossy(), "/opt"))
        };
        let expected = [
            (
                None,
                Some("service vpn: open runs /opt/vpn, which is not there -> ls -l /opt/vpn"),
            ),
            (
                Some(0o644),
                Some("service vpn: open runs /opt/vpn, which cannot be run -> chmod 755 /opt/vpn"),
            ),
            (
                Some(0o757),
                Some("service vpn: open runs /opt/vpn, which anybody can change -> chmod 755 /opt/vpn"),
            ),
            (Some(0o755), None),
        ];
        for (mode, text) in expected {
            assert_eq!(told(mode).as_deref(), text);
        }
    }
}
