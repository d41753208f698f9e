//! Numbers that a person copies: a one-time code, a PIN.

use std::io::{self, IsTerminal};

use spa_keys::profile::Profile;
use spa_keys::{Exit, Failure};
use spa_proto::Code;

use crate::cli::{CodeArgs, EnrollArgs};
use crate::secret;

/// The code to send with an opening: where one was asked for, or the profile says that the gateway wants one.
pub(crate) fn one_time(args: CodeArgs, profile: &Profile) -> Result<Option<Code>, Failure> {
    if let Some(number) = args.one_time_code_fd {
        return parse_one_time(&secret::from_fd(number, "the one-time code")?).map(Some);
    }
    if args.one_time_code || profile.one_time_code {
        let prompt = format!("One-time code for {}", profile.home.host);
        let typed = secret::ask(&prompt, "the one-time code", "--one-time-code-fd")?;
        return parse_one_time(&typed).map(Some);
    }
    Ok(None)
}

/// The PIN to send with an enrollment: where one was asked for, or the invite demands one.
pub(crate) fn pin(args: &EnrollArgs, demanded: bool, invite_from_stdin: bool) -> Result<Option<Code>, Failure> {
    let typed = match args.pin_fd {
        Some(number) => secret::from_fd(number, "the PIN")?,
        None if !args.pin && !demanded => return Ok(None),
        // A script that writes the PIN; a person has a terminal there.
        None if !invite_from_stdin && !io::stdin().is_terminal() => {
            secret::from_stdin("the PIN").map_err(|failure| {
                let why = if demanded { "this invite demands a PIN: " } else { "" };
                Failure::new(failure.exit, format!("{why}{}", failure.what)).hint("--pin-fd N")
            })?
        }
        None => secret::ask("PIN of the invite", "the PIN", "--pin-fd")?,
    };
    digits(&typed, &[8])
        .map(Some)
        .ok_or_else(|| Failure::new(Exit::Usage, "a PIN has 8 digits"))
}

fn parse_one_time(typed: &str) -> Result<Code, Failure> {
    digits(typed, &[6, 8]).ok_or_else(|| Failure::new(Exit::Usage, "a one-time code has 6 or 8 digits"))
}

/// Apps show codes in groups: white space and hyphens between are theirs.
fn digits(typed: &str, lengths: &[usize]) -> Option<Code> {
    let mut count = 0;
    let mut number = 0;
    for character in typed
        .chars()
        .filter(|character| !character.is_whitespace() && *character != '-')
    {
        count += 1;
        number = character.to_digit(10)? + 10 * number;
        if count > 8 {
            return None;
        }
    }
    lengths.contains(&count).then(|| Code::new(number).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_as_apps_show_them() {
        let number = |typed| parse_one_time(typed).map(Code::number).ok();
        assert_eq!(number("123456"), Some(123_456));
        assert_eq!(number("123 456"), Some(123_456));
        assert_eq!(number("1234-5678"), Some(12_345_678));
        assert_eq!(number("000000"), Some(0));
        assert_eq!(number("99999999"), Some(99_999_999));
        for bad in ["", "12345", "1234567", "123456789", "12345a", "١٢٣٤٥٦", "-1"] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
        let failure = parse_one_time("12345a").unwrap_err();
        assert!(!failure.what.contains("12345"), "{failure}");
    }

    #[test]
    fn pins_have_eight_digits() {
        assert_eq!(digits("0000 0042", &[8]).map(Code::number), Some(42));
        assert_eq!(digits("123456", &[8]), None);
    }
}
