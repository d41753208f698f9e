//! The marked block of hosts.allow. Pure: texts in, texts out; every byte that is not of the block stays.

use super::Line;

const BEGIN: &[u8] = b"# BEGIN spa-server: `spa-server uninstall` takes this out again";
const END: &[u8] = b"# END spa-server";
const BEGIN_MARK: &[u8] = b"# BEGIN spa-server";

/// The text with exactly one block that has these lines: where the block was, else at the very beginning, so that no
/// other line matches first. Without lines there is no block.
#[must_use]
pub fn with_block(text: &[u8], lines: &[Line]) -> Vec<u8> {
    let cut = Cut::new(text);
    let mut out = cut.before.concat();
    if !lines.is_empty() {
        out.extend(block(lines));
    }
    out.extend(cut.behind.concat());
    out
}

/// The text without any block.
#[must_use]
pub fn without_block(text: &[u8]) -> Vec<u8> {
    with_block(text, &[])
}

fn block(lines: &[Line]) -> Vec<u8> {
    let mut out = [BEGIN, b"\n"].concat();
    for line in lines {
        out.extend(format!("{}: {}\n", line.daemon, line.file.display()).into_bytes());
    }
    out.extend([END, b"\n"].concat());
    out
}

/// What stands before and behind the (first) block.
#[derive(Default)]
struct Cut<'a> {
    before: Vec<&'a [u8]>,
    behind: Vec<&'a [u8]>,
}

impl<'a> Cut<'a> {
    /// A block that somebody has edited is cut out as far as it is ours; what they wrote into it stays, behind it.
    fn new(text: &'a [u8]) -> Self {
        let lines: Vec<&[u8]> = text.split_inclusive(|octet| *octet == b'\n').collect();
        let first = lines.iter().position(|line| line.starts_with(BEGIN_MARK));
        let mut cut = Self::default();
        let mut inside = false;
        for (index, line) in lines.iter().enumerate() {
            let is_mark = line.starts_with(BEGIN_MARK) || line.starts_with(END);
            if is_mark {
                inside = line.starts_with(BEGIN_MARK);
            } else if !(inside && is_ours(line)) {
                let target = if first.is_some_and(|first| index < first) {
                    &mut cut.before
                } else {
                    &mut cut.behind
                };
                target.push(line);
            }
        }
        cut
    }
}

/// `DAEMON: …/wrappers/DAEMON`, which nobody else writes, though somebody may have commented it out.
fn is_ours(line: &[u8]) -> bool {
    let Ok(line) = str::from_utf8(line) else { return false };
    let Some((daemon, file)) = line.trim_start_matches(['#', ' ']).trim_end().split_once(": ") else {
        return false;
    };
    let name = file.starts_with('/').then(|| file.rsplit_once("/wrappers/")).flatten();
    name.is_some_and(|(_, name)| name == daemon)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(daemons: &[&str]) -> Vec<Line> {
        let line = |daemon: &&str| Line {
            daemon: (*daemon).into(),
            file: format!("/run/spa/wrappers/{daemon}").into(),
        };
        daemons.iter().map(line).collect()
    }

    fn shown(text: &[u8]) -> String {
        String::from_utf8(text.to_vec()).unwrap()
    }

    #[test]
    fn it_stands_first_and_goes_without_a_trace() {
        for text in [
            "",
            "# head\nsshd: 10.0.0.0/8\n",
            "a: b\r\n# no end",
            "c: \\\n d\n\n\n",
            "\u{e4}: \0\n",
        ] {
            let with = with_block(text.as_bytes(), &lines(&["sshd"]));
            let block = "# BEGIN spa-server: `spa-server uninstall` takes this out again\n\
                         sshd: /run/spa/wrappers/sshd\n# END spa-server\n";
            assert_eq!(shown(&with), format!("{block}{text}"));
            assert_eq!(with_block(&with, &lines(&["sshd"])), with);
            assert_eq!(shown(&without_block(&with)), text);
        }
        assert_eq!(without_block(b"x\xff\n"), b"x\xff\n");
    }

    #[test]
    fn a_block_that_was_moved_stays_where_it_is() {
        let block = shown(&with_block(b"", &lines(&["sshd"])));
        let moved = format!("ALL: 10.0.0.0/8\n{block}ftpd: ALL\n");
        assert_eq!(shown(&with_block(moved.as_bytes(), &lines(&["sshd"]))), moved);
        let two = shown(&with_block(moved.as_bytes(), &lines(&["in.telnetd", "sshd"])));
        assert!(two.starts_with("ALL: 10.0.0.0/8\n# BEGIN") && two.ends_with("# END spa-server\nftpd: ALL\n"));
        assert!(two.contains("in.telnetd: /run/spa/wrappers/in.telnetd\nsshd: /run/spa/wrappers/sshd\n"));
    }

    #[test]
    fn an_edited_block_is_mended_and_what_others_wrote_stays() {
        let whole = shown(&with_block(b"z: y\n", &lines(&["sshd"])));
        let edits = [
            whole.replace("# END spa-server\n", ""),
            whole.replace("sshd: /run/spa/wrappers/sshd\n", ""),
            whole.replace("sshd: /run/spa/wrappers/sshd\n", "sshd: /old/wrappers/sshd\n"),
            whole.clone()
                + &with_block(b"", &lines(&["sshd"]))
                    .iter()
                    .map(|b| *b as char)
                    .collect::<String>(),
        ];
        for edit in edits {
            assert_eq!(shown(&with_block(edit.as_bytes(), &lines(&["sshd"]))), whole, "{edit}");
        }
        let theirs = whole.replace("# END", "sshd: 192.0.2.9\n# END");
        let mended = shown(&with_block(theirs.as_bytes(), &lines(&["sshd"])));
        assert_eq!(mended, whole.replace("z: y\n", "sshd: 192.0.2.9\nz: y\n"));
    }
}
