//! How this device calls itself in the gateway's lists.

use spa_proto::Label;

/// The host name, without what a label refuses.
pub(crate) fn of_this_device() -> Label {
    clean(&rustix::system::uname().nodename().to_string_lossy())
}

/// Keeps the characters that a label takes, as many as fit.
fn clean(text: &str) -> Label {
    let takes = |text: &str| text.parse::<Label>().is_ok();
    let mut kept = String::new();
    for character in text.chars().filter(|character| takes(&character.to_string())) {
        if kept.len() + character.len_utf8() > Label::MOST {
            break;
        }
        kept.push(character);
    }
    kept.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_becomes_a_label() {
        assert_eq!(clean("anna-phone").as_str(), "anna-phone");
        assert_eq!(clean("a\u{1b}[2J\u{202e}b").as_str(), "a[2Jb");
        assert_eq!(clean("").as_str(), "");
        assert_eq!(clean(&"ü".repeat(40)).as_str(), "ü".repeat(31));
    }
}
