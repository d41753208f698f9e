//! server.toml as a file: the shipped example, what is wrong with files themselves, and texts nobody would write.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use spa_server::config::template::{ServiceArgument, Template};
use spa_server::config::{Code, Colour, Config, Finding, render};

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples/server.toml")
}

/// What `spa-server init` would write with these arguments.
fn written() -> String {
    let services = ["ssh=tcp/22", "admin=tcp/443,tcp/8443", "mosh=udp/60000-61000"];
    let always_allow = ["192.0.2.0/28", "2001:db8:10::/48"];
    let template = Template {
        host: Some("gw.example.net".to_owned()),
        services: services
            .iter()
            .map(|text| text.parse::<ServiceArgument>().unwrap())
            .collect(),
        always_allow: always_allow.iter().map(|text| text.parse().unwrap()).collect(),
        ..Template::default()
    };
    template.to_string()
}

#[test]
fn the_shipped_example_is_what_init_writes_and_has_no_findings() {
    if std::env::var_os("UPDATE_EXAMPLES").is_some() {
        fs::write(example(), written()).unwrap();
    }
    assert_eq!(
        fs::read_to_string(example()).unwrap(),
        written(),
        "UPDATE_EXAMPLES=1 writes it anew"
    );
    let (config, findings) = Config::load(&example()).unwrap();
    assert_eq!(findings, []);
    assert_eq!(config.services.len(), 3);
}

#[test]
fn every_shipped_example_has_no_findings() {
    let examples = fs::read_dir(example().parent().unwrap()).unwrap();
    let mut seen = 0;
    let files = examples.map(|entry| entry.unwrap().path());
    for file in files.filter(|path| path.extension().is_some_and(|extension| extension == "toml")) {
        let (_, findings) =
            Config::load(&file).unwrap_or_else(|findings| panic!("{}", render(&findings, Colour::Never)));
        assert_eq!(findings, [], "{}", file.display());
        seen += 1;
    }
    assert!(seen >= 3, "{seen} examples");
}

fn load(octets: &[u8], mode: u32) -> Result<(Config, Vec<Finding>), Vec<Finding>> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("server.toml");
    fs::write(&file, octets).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    Config::load(&file)
}

#[test]
fn an_absent_file_points_to_init() {
    let findings = Config::load(Path::new("/nonexistent/server.toml")).unwrap_err();
    let text = render(&findings, Colour::Never);
    assert_eq!(
        text,
        "error[no-file]: /nonexistent/server.toml does not exist\n--> /nonexistent/server.toml\ntry: spa-server init\n"
    );
}

#[test]
fn a_directory_is_no_file() {
    let findings = Config::load(Path::new("/")).unwrap_err();
    assert_eq!(findings[0].code, Code::Unreadable);
}

#[test]
fn a_file_that_anybody_may_change_is_refused() {
    let findings = load(written().as_bytes(), 0o646).unwrap_err();
    assert_eq!(findings[0].code, Code::OthersMayWrite);
    assert_eq!(findings[0].text, "anybody may change this file (mode 0646)");
    assert!(load(written().as_bytes(), 0o640).is_ok());
}

#[test]
fn what_is_not_utf8_is_told_with_its_place() {
    let findings = load(b"[gateway]\nhost = \"gr\xfc\xdfe\"\n", 0o640).unwrap_err();
    let finding = &findings[0];
    assert_eq!(
        (finding.code.name(), finding.line, finding.column),
        ("not-utf8", Some(2), Some(11))
    );
}

/// Whatever the text, findings lie inside it and can be shown.
fn survives(text: &str) {
    let findings = match Config::from_text("server.toml", text) {
        Ok((_, findings)) => findings,
        Err(findings) => {
            assert!(findings.iter().any(Finding::is_error));
            findings
        }
    };
    let lines: Vec<_> = text.split('\n').collect();
    for finding in &findings {
        if let (Some(line), Some(column)) = (finding.line, finding.column) {
            assert!(column <= lines[line - 1].chars().count() + 1, "{finding:?}");
        }
        assert!(!finding.text.contains('\n'));
    }
    assert!(!render(&findings, Colour::Never).contains('\x1b'));
}

/// Pieces that get past the parser more often than arbitrary text does.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("[[service]]\n".to_owned()),
        Just("[service.name]\n".to_owned()),
        Just("service = [{ name = 1 }, 2]\n".to_owned()),
        "\\[(gateway|listen|lock-out|tcp-wrappers|scan-guard|sequence)\\]\n",
        "(name|ports|backends|duration|to|host|interfaces|protect|open|daemon|within)(\\.a)? = (1|true|\"\"|\\[\\]|\\{\\}|\\[\"x\", 1\\]|1979-05-27)\n",
    ]
}

proptest! {
    #[test]
    fn arbitrary_text_survives(text: String) {
        survives(&text);
    }

    #[test]
    fn plausible_text_survives(pieces in prop::collection::vec(piece(), 0..12)) {
        survives(&pieces.concat());
    }

    #[test]
    fn a_mutated_file_survives(at in 0..4000_usize, length in 0..20_usize, new in "\\PC{0,4}|[\"\\[\\]={}\n\r\t\x1b0-9]{0,4}") {
        let mut text = written();
        let start = text.floor_char_boundary(at);
        let end = text.floor_char_boundary(start + length);
        text.replace_range(start..end, &new);
        survives(&text);
    }
}
