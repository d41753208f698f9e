//! This program's own command line, as a shell and ssh's configuration read it.

use std::path::Path;

use spa_keys::{Exit, Failure};

/// This program with these words, for `ProxyCommand`: the shell's quoting, and ssh's percent signs doubled.
pub(crate) fn proxy_command(words: &[&str]) -> Result<String, Failure> {
    let own = std::env::current_exe()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot tell where this program is: {error}")))?;
    join(&own, words).ok_or_else(|| Failure::new(Exit::Failed, "the path of this program is not text"))
}

fn join(own: &Path, words: &[&str]) -> Option<String> {
    let own = own.to_str().filter(|path| !path.contains(['\n', '\r', '\0']))?;
    let quoted = std::iter::once(own).chain(words.iter().copied()).map(quote);
    Some(quoted.collect::<Vec<_>>().join(" "))
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@+,".contains(c);
    let word = word.replace('%', "%%");
    if !word.is_empty() && word.chars().all(plain) {
        return word;
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_paths_are_quoted() {
        let join = |path: &str| join(Path::new(path), &["proxy", "gw"]);
        assert_eq!(join("/usr/bin/spa-client").unwrap(), "/usr/bin/spa-client proxy gw");
        assert_eq!(join("/a b/100%/it's").unwrap(), r"'/a b/100%%/it'\''s' proxy gw");
        assert_eq!(join("/a\nb"), None);
    }
}
