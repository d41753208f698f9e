//! A client as another gateway takes it: its file, in one form, with or without its secrets.

use toml_edit::{DocumentMut, Item, RawString, Value};
use zeroize::Zeroizing;

use crate::client::{Client, OneTimeCode};
use crate::fault::Fault;
use crate::units::format_time;

/// What is left out where secrets are not asked for.
const SECRETS: [&str; 2] = ["psk", "one-time-code"];

/// Whether the secrets go along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// The PSK and the secret of one-time codes stand in the text.
    Included,
    /// They do not; whoever imports it gives the PSK from elsewhere.
    LeftOut,
}

/// The text of a client's file for another gateway: the same bytes for the same file, comments and order kept. What is
/// only true here, whose place the client took, is left out. That it needs one-time codes is said without their secret
/// too, so that nobody takes it in as one that needs none.
///
/// # Errors
///
/// [`Fault`] when the file's text is wrong.
pub fn export(text: &str, secrets: Secrets) -> Result<Zeroizing<String>, Fault> {
    let client = Client::parse(text)?;
    let mut document = parse(text)?;
    take_out(&mut document, "replaces");
    if secrets == Secrets::LeftOut {
        put_absent(
            &mut document,
            "one-time-digits",
            client.terms.one_time_code.as_ref().map(digits_of),
        );
        for key in SECRETS {
            take_out(&mut document, key);
        }
    }
    Ok(Zeroizing::new(document.to_string()))
}

fn parse(text: &str) -> Result<DocumentMut, Fault> {
    let document = text.parse::<DocumentMut>();
    document.map_err(|error| Fault::at(text, &error.span().unwrap_or_default(), error.message()))
}

fn digits_of(code: &OneTimeCode) -> Value {
    i64::from(code.digits).into()
}

/// Puts a value where none is; says whether it did.
fn put_absent(document: &mut DocumentMut, key: &str, value: Option<Value>) -> bool {
    let value = value.filter(|_| !document.contains_key(key));
    value.map(|value| document.insert(key, Item::Value(value))).is_some()
}

/// Takes a key out and leaves the comments above it to what follows.
fn take_out(document: &mut DocumentMut, key: &str) {
    let following = document
        .iter()
        .map(|(found, _)| found.to_owned())
        .skip_while(|found| found != key)
        .nth(1);
    let Some((taken, _)) = document.remove_entry(key) else {
        return;
    };
    let comments = text_of(taken.leaf_decor().prefix());
    let next = following.and_then(|following| document.key_mut(&following));
    if let Some(mut next) = next {
        let own = text_of(next.leaf_decor().prefix());
        next.leaf_decor_mut().set_prefix(comments + &own);
    } else {
        let own = text_of(Some(document.trailing()));
        document.set_trailing(comments + &own);
    }
}

fn text_of(raw: Option<&RawString>) -> String {
    raw.and_then(RawString::as_str).unwrap_or_default().to_owned()
}

/// An exported text made whole again: with the PSK given where it holds none.
///
/// # Errors
///
/// [`Fault`] when its text is no TOML, or has a PSK of its own already.
pub fn with_psk(text: &str, psk: &str) -> Result<Zeroizing<String>, Fault> {
    let mut document = parse(text)?;
    if document.get("psk").is_some_and(|item| !Item::is_none(item)) {
        return Err(Fault::whole(
            "there is a psk in it already, so none is taken from elsewhere",
        ));
    }
    document.insert("psk", toml_edit::value(psk));
    Ok(Zeroizing::new(document.to_string()))
}

/// A text to take the place of a client's file, with what it must not lose unsaid.
#[derive(Debug)]
pub struct Kept {
    /// The text, made whole by the present file.
    pub text: Zeroizing<String>,
    /// The secret of one-time codes is the present one.
    pub code: bool,
    /// The client stays revoked.
    pub revoked: bool,
}

/// What the text for a client leaves out stays as it is in the present file: the secret of its one-time codes, and
/// that it is revoked unless it `restores`.
///
/// # Errors
///
/// [`Fault`] when its text is no TOML.
pub fn keep(text: &str, present: &Client, restores: bool) -> Result<Kept, Fault> {
    let mut document = parse(text)?;
    let code = present.terms.one_time_code.as_ref();
    let secret = code.map(|code| Value::from(code.to_base32().as_str()));
    let code_kept = put_absent(&mut document, "one-time-code", secret);
    if code_kept {
        put_absent(&mut document, "one-time-digits", code.map(digits_of));
    }
    let revoked = present.revoked.filter(|_| !restores);
    let revoked = revoked.map(|time| Value::from(format_time(time)));
    let revoked_kept = put_absent(&mut document, "revoked", revoked);
    Ok(Kept {
        text: Zeroizing::new(document.to_string()),
        code: code_kept,
        revoked: revoked_kept,
    })
}

/// Whether a text says that one-time codes are needed, without their secret.
#[must_use]
pub fn lacks_code(text: &str) -> bool {
    parse(text)
        .is_ok_and(|document| document.contains_key("one-time-digits") && !document.contains_key("one-time-code"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";
    const OLD: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI";
    const PSK: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc";

    fn file() -> String {
        format!(
            "# Anna, on call\npublic-key = \"{KEY}\"\n# from the vault\npsk = \"{PSK}\"\nservices = [\"ssh\"] # only\n\
             one-time-code = \"GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\"\nreplaces = \"{OLD}\"\n# the end\n"
        )
    }

    #[test]
    fn comments_stay_and_secrets_do_not() {
        let public = export(&file(), Secrets::LeftOut).unwrap();
        assert_eq!(
            *public,
            format!(
                "# Anna, on call\npublic-key = \"{KEY}\"\n# from the vault\nservices = [\"ssh\"] # only\n\
                 one-time-digits = 6\n# the end\n"
            )
        );
        assert!(lacks_code(&public) && !lacks_code(&file()));
        assert!(Client::parse(&public).is_err());
        let whole = with_psk(&public, PSK).unwrap();
        assert!(Client::parse(&whole).is_err(), "the secret of the codes is missing");
        let present = Client::parse(&file()).unwrap();
        let kept = keep(&whole, &present, false).unwrap();
        let client = Client::parse(&kept.text).unwrap();
        assert!(kept.code && !kept.revoked);
        assert_eq!(
            (client.psk, client.terms.one_time_code),
            (present.psk, present.terms.one_time_code)
        );
        assert!(with_psk(&whole, PSK).is_err());
    }

    #[test]
    fn who_is_revoked_stays_so() {
        let plain = format!("public-key = \"{KEY}\"\npsk = \"{PSK}\"\nservices = [\"ssh\"]\n");
        let revoked = format!("{plain}revoked = \"2026-11-22T18:30:00Z\"\n");
        let present = Client::parse(&revoked).unwrap();
        let kept = keep(&plain, &present, false).unwrap();
        assert_eq!((kept.text.as_str(), kept.revoked), (&*revoked, true));
        assert!(!keep(&revoked, &present, false).unwrap().revoked, "it says so itself");
        assert_eq!(*keep(&plain, &present, true).unwrap().text, plain);
    }

    #[test]
    fn the_same_file_gives_the_same_text() {
        let text = export(&file(), Secrets::Included).unwrap();
        assert_eq!(*text, file().replace(&format!("replaces = \"{OLD}\"\n"), ""));
        assert_eq!(*export(&text, Secrets::Included).unwrap(), *text);
        assert!(export("psk = 1", Secrets::Included).is_err());
    }
}
