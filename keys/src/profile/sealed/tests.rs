use super::*;

const EXAMPLE: &str = r#"
host = "gw.example.net"
ports = [62201]
name = "anna-phone"
gateway-public-key = "AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
gateway-hmac-key = "AwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
private-key = "BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
psk = "BQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
"#;
const CHEAP: Cost = Cost {
    memory_kib: 8,
    passes: 1,
};

fn passphrase(text: &str) -> Passphrase {
    Passphrase::new(Zeroizing::new(text.into())).unwrap()
}

fn sealed() -> Sealed {
    Sealed::seal(&Profile::parse(EXAMPLE).unwrap(), &passphrase("correct horse"), CHEAP).unwrap()
}

fn reread(text: &str) -> Result<Sealed, SealedError> {
    Sealed::parse(text).map(|sealed| sealed.expect("a sealed profile"))
}

#[test]
fn what_is_sealed_is_opened() {
    let text = sealed().to_text();
    let again = reread(&text).unwrap();
    assert_eq!(again.to_text(), text);
    let profile = again.open(&passphrase("correct horse")).unwrap();
    assert_eq!(profile.to_text(), Profile::parse(EXAMPLE).unwrap().to_text());
    assert!(!text.contains("BQAAAA") && !text.contains("anna"));
    assert_ne!(sealed().to_text(), text, "a fresh salt each time");
}

#[test]
fn the_default_cost_works() {
    let profile = Profile::parse(EXAMPLE).unwrap();
    let sealed = Sealed::seal(&profile, &passphrase("x"), Cost::DEFAULT).unwrap();
    assert!(sealed.open(&passphrase("x")).is_ok());
}

#[test]
fn memory_of_our_own_changes_nothing() {
    let cost = Cost {
        memory_kib: 64,
        passes: 3,
    };
    let ours = derive(&passphrase("password"), b"somesalt12345678", cost).unwrap();
    let mut theirs = [0; 32];
    let params = Params::new(64, 3, 1, Some(32)).unwrap();
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let derived = argon2.hash_password_into(b"password", b"somesalt12345678", &mut theirs);
    assert_eq!((derived, *ours), (Ok(()), theirs));
}

#[test]
fn a_wrong_passphrase_is_told_from_damage() {
    let sealed = sealed();
    assert_eq!(
        sealed.open(&passphrase("correct horsE")).unwrap_err(),
        SealedError::Passphrase
    );
    for at in 0..sealed.contents.len() {
        let mut damaged = reread(&sealed.to_text()).unwrap();
        damaged.contents[at] ^= 1;
        assert_eq!(
            damaged.open(&passphrase("correct horse")).unwrap_err(),
            SealedError::Damaged
        );
        damaged.contents.truncate(at);
        assert_eq!(
            damaged.open(&passphrase("correct horse")).unwrap_err(),
            SealedError::Damaged
        );
    }
}

#[test]
fn a_changed_head_is_damage() {
    let text = sealed().to_text();
    for (from, to) in [("passes = 1", "passes = 2"), ("memory-kib = 8", "memory-kib = 9")] {
        let changed = reread(&text.replacen(from, to, 1)).unwrap();
        assert_eq!(
            changed.open(&passphrase("correct horse")).unwrap_err(),
            SealedError::Damaged
        );
    }
    let salt = text.lines().find(|line| line.starts_with("salt")).unwrap();
    let other = text.replacen(salt, "salt = \"AAAAAAAAAAAAAAAAAAAAAA\"", 1);
    assert_eq!(
        reread(&other).unwrap().open(&passphrase("correct horse")).unwrap_err(),
        SealedError::Damaged
    );
}

#[test]
fn absurd_costs_are_refused_before_anything_is_allocated() {
    let text = sealed().to_text();
    for (from, to) in [
        ("memory-kib = 8", "memory-kib = 4294967295"),
        ("memory-kib = 8", "memory-kib = 1048577"),
        ("memory-kib = 8", "memory-kib = 7"),
        ("memory-kib = 8\npasses = 1", "memory-kib = 1048576\npasses = 9"),
        ("passes = 1", "passes = 0"),
        ("passes = 1", "passes = 65"),
    ] {
        let refused = reread(&text.replacen(from, to, 1)).unwrap_err();
        assert!(matches!(refused, SealedError::Cost(_)), "{to}: {refused}");
    }
}

#[test]
fn strange_heads_are_refused() {
    let text = sealed().to_text();
    let refused = |from: &str, to: &str| reread(&text.replacen(from, to, 1)).unwrap_err();
    assert_eq!(
        refused("version = 1", "version = 2"),
        SealedError::Version { version: 2 }
    );
    assert!(matches!(refused("version = 1", ""), SealedError::Syntax(_)));
    assert!(matches!(refused("passes = 1", "passes = -1"), SealedError::Syntax(_)));
    assert!(matches!(
        refused("passes = 1", "passes = 1\nlanes = 4"),
        SealedError::Syntax(_)
    ));
    assert!(matches!(
        refused("[sealed]", "psk = \"x\"\n[sealed]"),
        SealedError::Syntax(_)
    ));
    assert_eq!(refused("salt = \"", "salt = \"A"), SealedError::Damaged);
    assert_eq!(refused("contents = \"", "contents = \"=="), SealedError::Damaged);
}

#[test]
fn other_files_are_not_sealed() {
    for text in ["", EXAMPLE, "sealed = ", "[seal", "# [sealed]"] {
        assert!(matches!(Sealed::parse(text), Ok(None)), "{text:?}");
    }
    // A file cut after its first lines is a sealed one that is not whole.
    assert!(matches!(reread("[sealed]\nversion = 1\n"), Err(SealedError::Syntax(_))));
}

#[test]
fn no_passphrase_is_none() {
    assert_eq!(Passphrase::new(Zeroizing::default()).unwrap_err(), SealedError::Empty);
    assert_eq!(format!("{:?}", passphrase("secret")), "Passphrase(..)");
}
