//! What `spa-server check` says about TCP Wrappers: whether a grant would open anything, and whether anything is shut.

use std::path::Path;
use std::time::Duration;

use super::block;
use super::plan::Plan;
use super::program::{self, Linkage};
use super::rules::{self, Effect, Match, Rule, Table};
use crate::backend::exec::{ExecError, Program};
use crate::backend::place;
use crate::config::{Code, Finding};

const TCPDCHK_TIME: Duration = Duration::from_secs(10);
/// The files that tcpdchk looks at.
const SYSTEM: [&str; 2] = ["/etc/hosts.allow", "/etc/hosts.deny"];

/// A file and what it says.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Its name, for findings.
    pub file: &'a Path,
    /// Its whole text; empty when it is absent, which libwrap takes the same way.
    pub text: &'a str,
}

/// Everything that is wrong, on this host, with what is planned.
#[must_use]
pub fn inspect(plan: &Plan) -> Vec<Finding> {
    let mut findings = essentials(plan);
    if [plan.hosts_allow.as_path(), &plan.hosts_deny] == SYSTEM.map(Path::new) && !plan.daemons.is_empty() {
        findings.extend(complaints());
    }
    findings
}

/// The same without starting a program.
#[must_use]
pub fn essentials(plan: &Plan) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (allow, deny) = (
        text_of(&plan.hosts_allow, &mut findings),
        text_of(&plan.hosts_deny, &mut findings),
    );
    let [allow, deny] =
        [(plan.hosts_allow.as_path(), &allow), (&plan.hosts_deny, &deny)].map(|(file, text)| Source { file, text });
    for daemon in plan.daemons.values() {
        findings.extend(linkage_finding(daemon, &program::linkage(daemon)));
        findings.extend(judge(allow, deny, daemon, &plan.file(daemon).to_string_lossy()));
    }
    findings.extend(faults(allow, Table::Allow));
    findings.extend(faults(deny, Table::Deny));
    findings
}

fn text_of(file: &Path, findings: &mut Vec<Finding>) -> String {
    match place::read(file) {
        Ok(content) => content.map_or_else(String::new, |content| {
            String::from_utf8_lossy(&content.text).into_owned()
        }),
        Err(error) => {
            let text = format!("{} cannot be read: {error}", file.display());
            findings.push(Finding::error(Code::WrappersUnreadable, text).in_file(file));
            String::new()
        }
    }
}

/// Whether the program asks libwrap.
#[must_use]
pub fn linkage_finding(daemon: &str, linkage: &Linkage) -> Option<Finding> {
    match linkage {
        Linkage::Linked => None,
        Linkage::NotLinked(program) => {
            let text = format!(
                "{} is not linked with libwrap: hosts.allow and hosts.deny mean nothing to {daemon}",
                program.display()
            );
            let remedy = "backends = [\"iptables\"] for this service, or a build of the daemon with libwrap";
            Some(Finding::error(Code::NotLinked, text).with_try(remedy))
        }
        Linkage::NotFound => {
            let text = format!("no program {daemon} is running or installed: whether it asks libwrap is not known");
            let remedy = "daemon = the name that the daemon gives libwrap, most often its program's";
            Some(Finding::warning(Code::DaemonNotFound, text).with_try(remedy))
        }
    }
}

/// What both files make of somebody who comes to `daemon` without a grant, and whether a grant comes first.
#[must_use]
pub fn judge(allow: Source<'_>, deny: Source<'_>, daemon: &str, pattern: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (allowing, _) = rules::read(allow.text, Table::Allow, daemon, pattern);
    let (denying, _) = rules::read(deny.text, Table::Deny, daemon, pattern);
    // A block that is not there yet will be the first thing of the file.
    let ours = allowing.iter().position(|rule| rule.is_ours).unwrap_or(0);
    let (earlier, later) = allowing.split_at(ours);
    for rule in earlier.iter().filter(|rule| rule.concerns()) {
        findings.push(early(allow, rule, daemon));
    }
    let (mut decided, mut open) = (false, false);
    let later = later.iter().filter(|rule| !rule.is_ours).map(|rule| (allow, rule));
    for (source, rule) in later.chain(denying.iter().map(|rule| (deny, rule))) {
        if decided || !rule.concerns() {
            continue;
        }
        decided = rule.is_final();
        if rule.effect != Effect::Refuse {
            open |= rule.clients == Match::Always;
            findings.push(admits(source, rule, daemon));
        }
    }
    if !decided && !open {
        findings.push(lets_in(deny, daemon));
    }
    findings
}

fn early(allow: Source<'_>, rule: &Rule, daemon: &str) -> Finding {
    let text =
        format!("this line is asked about {daemon} before the block: whom it names, no grant lets in or keeps out");
    let finding = Finding::error(Code::EarlierLine, text).in_file(allow.file);
    finding
        .at(allow.text, &rule.span)
        .with_try("the line below the block of spa-server")
}

fn admits(source: Source<'_>, rule: &Rule, daemon: &str) -> Finding {
    let finding = if rule.clients == Match::Always {
        let text = format!("this line lets everybody in to {daemon}, with or without a grant");
        Finding::error(Code::LetsEverybodyIn, text).with_try("the file without this line")
    } else {
        let text = format!("this line lets in to {daemon} whom it names, with or without a grant");
        Finding::warning(Code::LetsSomeIn, text).with_try("always-allow, if it is meant as a way back in")
    };
    finding.in_file(source.file).at(source.text, &rule.span)
}

fn lets_in(deny: Source<'_>, daemon: &str) -> Finding {
    let text = format!("nothing here refuses {daemon} to everybody without a grant: who has none gets in too");
    let remedy = format!(
        "the line `{daemon}: ALL` in {}, once always-allow is in place and tried",
        deny.file.display()
    );
    Finding::error(Code::NotRefused, text)
        .in_file(deny.file)
        .with_try(remedy)
}

/// Lines that libwrap passes over.
#[must_use]
pub fn faults(source: Source<'_>, table: Table) -> Vec<Finding> {
    let (_, faults) = rules::read(source.text, table, "", "");
    let finding = |fault: rules::Fault| {
        let finding = Finding::warning(Code::WrappersSyntax, fault.what).in_file(source.file);
        finding
            .at(source.text, &fault.span)
            .with_try("DAEMON: CLIENT, with a line end behind it")
    };
    faults.into_iter().map(finding).collect()
}

/// What tcpdchk says where it is installed. Debian's speaks to the system's log instead, and then nothing is heard.
fn complaints() -> Option<Finding> {
    Program::find("tcpdchk").ok()?;
    // It complains to its standard error and ends with success.
    let script = "exec tcpdchk 2>&1";
    let said = match Program::find("sh").ok()?.run(&["-c", script], "", TCPDCHK_TIME) {
        Ok(said) => said,
        Err(ExecError::Failed { complaint, .. }) => complaint,
        // It asks name servers about names in the files; that they do not answer is no fault of the files.
        Err(_) => return None,
    };
    complaint(&said)
}

/// One finding for all that tcpdchk said.
#[must_use]
pub fn complaint(said: &str) -> Option<Finding> {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    (!lines.is_empty()).then(|| {
        let text = format!("tcpdchk complains: {}", lines.join("; "));
        Finding::warning(Code::Tcpdchk, text).with_try("man 8 tcpdchk")
    })
}

/// The daemons that hosts.deny shuts to everybody once the block is gone: whoever takes it out wants to know.
#[must_use]
pub fn shut_without_block(plan: &Plan, hosts_deny: &Path) -> Vec<String> {
    let text = |file: &Path| {
        let content = place::read(file)
            .ok()
            .flatten()
            .map(|content| content.text)
            .unwrap_or_default();
        String::from_utf8_lossy(&block::without_block(&content)).into_owned()
    };
    let (allow, deny) = (text(&plan.hosts_allow), text(hosts_deny));
    let is_shut = |daemon: &String| {
        let (allowing, _) = rules::read(&allow, Table::Allow, daemon, "");
        let (denying, _) = rules::read(&deny, Table::Deny, daemon, "");
        let admits = allowing
            .iter()
            .any(|rule| rule.concerns() && rule.effect != Effect::Refuse);
        !admits
            && denying
                .iter()
                .any(|rule| rule.is_final() && rule.effect == Effect::Refuse)
    };
    let daemons = plan.lines().into_iter().map(|line| line.daemon);
    daemons.filter(is_shut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Colour, render};

    const OURS: &str = "/run/spa/wrappers/sshd";
    const BLOCK: &str = "# BEGIN spa-server\nsshd: /run/spa/wrappers/sshd\n# END spa-server\n";

    fn told(allow: &str, deny: &str) -> String {
        let [allow, deny] = [("hosts.allow", allow), ("hosts.deny", deny)].map(|(file, text)| Source {
            file: Path::new(file),
            text,
        });
        render(&judge(allow, deny, "sshd", OURS), Colour::Never)
    }

    #[test]
    fn shut_to_everybody_without_a_grant_is_well() {
        for deny in [
            "ALL: ALL\n",
            "sshd: ALL\n",
            "x: ALL\nftpd, sshd: 10.0.0.1 ALL\n",
            "ALL: ALL: twist /bin/false\n",
        ] {
            assert_eq!(told("", deny), "");
            assert_eq!(told(&format!("ftpd: ALL\n{BLOCK}"), deny), "");
        }
        assert_eq!(told(&format!("{BLOCK}sshd: ALL: deny\n"), ""), "");
    }

    #[test]
    fn hosts_deny_must_refuse() {
        insta::assert_snapshot!(told(BLOCK, "# nothing\n"), @r"
        error[not-refused]: nothing here refuses sshd to everybody without a grant: who has none gets in too
        --> hosts.deny
        try: the line `sshd: ALL` in hosts.deny, once always-allow is in place and tried
        ");
        insta::assert_snapshot!(told("", "ALL: PARANOID\nsshd: ALL EXCEPT 10.0.0.0/8\nALL: ALL"), @r"
        error[not-refused]: nothing here refuses sshd to everybody without a grant: who has none gets in too
        --> hosts.deny
        try: the line `sshd: ALL` in hosts.deny, once always-allow is in place and tried
        ");
    }

    #[test]
    fn a_line_that_lets_everybody_in_is_refused() {
        insta::assert_snapshot!(told(&format!("{BLOCK}ALL: ALL\n"), "ALL: ALL\n"), @r"
        error[lets-everybody-in]: this line lets everybody in to sshd, with or without a grant
         --> hosts.allow:4:1
          |
        4 | ALL: ALL
          | ^^^^^^^^
        try: the file without this line
        ");
        insta::assert_snapshot!(told("", "sshd: ALL: allow\nALL: ALL\n"), @r"
        error[lets-everybody-in]: this line lets everybody in to sshd, with or without a grant
         --> hosts.deny:1:1
          |
        1 | sshd: ALL: allow
          | ^^^^^^^^^^^^^^^^
        try: the file without this line
        ");
    }

    #[test]
    fn a_line_that_lets_some_in_is_said() {
        insta::assert_snapshot!(told(&format!("{BLOCK}sshd: 10.0.0.0/8\n"), "ALL: ALL\n"), @r"
        warning[lets-some-in]: this line lets in to sshd whom it names, with or without a grant
         --> hosts.allow:4:1
          |
        4 | sshd: 10.0.0.0/8
          | ^^^^^^^^^^^^^^^^
        try: always-allow, if it is meant as a way back in
        ");
    }

    #[test]
    fn a_line_before_the_block_is_refused() {
        insta::assert_snapshot!(told(&format!("ftpd: ALL\nALL: .example.net: deny\n{BLOCK}"), "ALL: ALL\n"), @r"
        error[earlier-line]: this line is asked about sshd before the block: whom it names, no grant lets in or keeps out
         --> hosts.allow:2:1
          |
        2 | ALL: .example.net: deny
          | ^^^^^^^^^^^^^^^^^^^^^^^
        try: the line below the block of spa-server
        ");
    }

    #[test]
    fn programs_must_ask_libwrap() {
        let told = |linkage| render(linkage_finding("sshd", &linkage).as_slice(), Colour::Never);
        assert_eq!(told(Linkage::Linked), "");
        insta::assert_snapshot!(told(Linkage::NotLinked("/usr/sbin/sshd".into())), @r#"
        error[not-linked]: /usr/sbin/sshd is not linked with libwrap: hosts.allow and hosts.deny mean nothing to sshd
        try: backends = ["iptables"] for this service, or a build of the daemon with libwrap
        "#);
        insta::assert_snapshot!(told(Linkage::NotFound), @r"
        warning[daemon-not-found]: no program sshd is running or installed: whether it asks libwrap is not known
        try: daemon = the name that the daemon gives libwrap, most often its program's
        ");
    }

    #[test]
    fn what_libwrap_passes_over_and_tcpdchk_says_is_said() {
        let source = Source {
            file: Path::new("hosts.deny"),
            text: "nonsense\nsshd: ALL",
        };
        insta::assert_snapshot!(render(&faults(source, Table::Deny), Colour::Never), @r"
        warning[wrappers-syntax]: there is no colon: libwrap passes over it
         --> hosts.deny:1:1
          |
        1 | nonsense
          | ^^^^^^^^
        try: DAEMON: CLIENT, with a line end behind it

        warning[wrappers-syntax]: the last line does not end: libwrap passes over it
         --> hosts.deny:2:1
          |
        2 | sshd: ALL
          | ^^^^^^^^^
        try: DAEMON: CLIENT, with a line end behind it
        ");
        assert_eq!(complaint(" \n"), None);
        let said = "warning: /etc/hosts.allow, line 3: x: not found\n";
        insta::assert_snapshot!(render(complaint(said).as_slice(), Colour::Never), @r"
        warning[tcpdchk]: tcpdchk complains: warning: /etc/hosts.allow, line 3: x: not found
        try: man 8 tcpdchk
        ");
    }

    #[test]
    fn who_takes_the_block_out_learns_what_is_shut_then() {
        let dir = tempfile::tempdir().unwrap();
        let [allow, deny] = ["hosts.allow", "hosts.deny"].map(|name| dir.path().join(name));
        let plan = Plan {
            hosts_allow: allow.clone(),
            daemons: [("ssh".to_owned(), "sshd".to_owned())].into(),
            ..Plan::default()
        };
        std::fs::write(&allow, BLOCK).unwrap();
        assert_eq!(shut_without_block(&plan, &deny), [""; 0]);
        std::fs::write(&deny, "ALL: ALL\n").unwrap();
        assert_eq!(shut_without_block(&plan, &deny), ["sshd"]);
        std::fs::write(&allow, format!("{BLOCK}ALL: 10.0.0.0/8\n")).unwrap();
        assert_eq!(shut_without_block(&plan, &deny), [""; 0]);
    }
}
