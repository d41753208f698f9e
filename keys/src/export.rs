//! A client as another gateway takes it: its file, in one form, with or without its secrets.

use toml_edit::{DocumentMut, Item, RawString};
use zeroize::Zeroizing;

use crate::client::Client;
use crate::fault::Fault;

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
/// only true here, whose place the client took, is left out.
///
/// # Errors
///
/// [`Fault`] when the file's text is wrong.
pub fn export(text: &str, secrets: Secrets) -> Result<Zeroizing<String>, Fault> {
    Client::parse(text)?;
    let document = text.parse::<DocumentMut>();
    let mut document = document.map_err(|error| Fault::at(text, &error.span().unwrap_or_default(), error.message()))?;
    take_out(&mut document, "replaces");
    if secrets == Secrets::LeftOut {
        for key in SECRETS {
            take_out(&mut document, key);
        }
    }
    Ok(Zeroizing::new(document.to_string()))
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
    let document = text.parse::<DocumentMut>();
    let mut document = document.map_err(|error| Fault::at(text, &error.span().unwrap_or_default(), error.message()))?;
    if document.get("psk").is_some_and(|item| !Item::is_none(item)) {
        return Err(Fault::whole(
            "there is a psk in it already, so none is taken from elsewhere",
        ));
    }
    document.insert("psk", toml_edit::value(psk));
    Ok(Zeroizing::new(document.to_string()))
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
                "# Anna, on call\npublic-key = \"{KEY}\"\n# from the vault\nservices = [\"ssh\"] # only\n# the end\n"
            )
        );
        assert!(Client::parse(&public).is_err());
        let whole = with_psk(&public, PSK).unwrap();
        assert_eq!(Client::parse(&whole).unwrap().psk, Client::parse(&file()).unwrap().psk);
        assert!(with_psk(&whole, PSK).is_err());
    }

    #[test]
    fn the_same_file_gives_the_same_text() {
        let text = export(&file(), Secrets::Included).unwrap();
        assert_eq!(*text, file().replace(&format!("replaces = \"{OLD}\"\n"), ""));
        assert_eq!(*export(&text, Secrets::Included).unwrap(), *text);
        assert!(export("psk = 1", Secrets::Included).is_err());
    }
}
