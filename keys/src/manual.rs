//! Man pages and shell completions, made from what a program itself understands.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Command;
use clap_complete::{Shell, generate_to};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use spa_proto::UnixTime;

use crate::exit::{Exit, Failure};
use crate::units::format_time;

/// The exit codes of all programs, and when one ends so.
const EXITS: [(&str, &str); 6] = [
    ("0", "Done."),
    ("1", "The thing asked for failed."),
    ("2, 64", "Wrong usage."),
    ("69", "The daemon cannot be reached."),
    ("77", "No permission."),
    ("78", "Bad configuration, or a file whose mode or owner is wrong."),
];
const MANUAL: &str = "Single-packet authorization";

/// What the pages of a program say beside its options.
#[derive(Clone, Copy, Debug)]
pub struct Manual {
    /// The section of the manual, such as `8`.
    pub section: &'static str,
    /// Files that it reads or writes, and what they are.
    pub files: &'static [(&'static str, &'static str)],
    /// Other pages, such as `server.toml(5)`.
    pub see_also: &'static [&'static str],
    /// The program's name and version.
    pub source: &'static str,
}

impl Manual {
    /// Writes a page for `program` and each of its commands, and its completions for bash, zsh and fish, into `folder`.
    ///
    /// # Errors
    ///
    /// [`Failure`] with the path that could not be written.
    pub fn write(&self, program: Command, folder: &Path) -> Result<(), Failure> {
        let mut program = program.disable_help_subcommand(true);
        program.build();
        let written = self.write_pages(&program, folder);
        let written = written.and_then(|()| write_completions(&mut program, folder));
        written.map_err(|(path, error)| Failure::new(Exit::Failed, format!("{}: {error}", path.display())))
    }

    fn write_pages(&self, command: &Command, folder: &Path) -> Result<(), (PathBuf, io::Error)> {
        for below in command.get_subcommands().filter(|command| !command.is_hide_set()) {
            self.write_pages(below, folder)?;
        }
        let man = Man::new(command.clone()).section(self.section).manual(MANUAL);
        let man = man.source(self.source).date(date());
        let path = folder.join(man.get_filename());
        let file = File::create(&path).map(BufWriter::new);
        file.and_then(|mut file| self.render(&man, command, &mut file).and_then(|()| file.flush()))
            .map_err(|error| (path, error))
    }

    fn render(&self, man: &Man, command: &Command, file: &mut dyn Write) -> io::Result<()> {
        man.render_title(file)?;
        man.render_name_section(file)?;
        man.render_synopsis_section(file)?;
        man.render_description_section(file)?;
        man.render_options_section(file)?;
        if command.get_subcommands().any(|command| !command.is_hide_set()) {
            man.render_subcommands_section(file)?;
        }
        let mut more = Roff::default();
        if let Some(text) = command.get_after_long_help().or_else(|| command.get_after_help()) {
            write_examples(&mut more, &text.to_string());
        }
        terms(&mut more, "EXIT STATUS", &EXITS);
        terms(&mut more, "FILES", self.files);
        more.control("SH", ["SEE ALSO"]);
        more.text([roman(self.see_also.join(", "))]);
        more.to_writer(file)
    }
}

/// SOURCE_DATE_EPOCH (reproducible builds), else today.
fn date() -> String {
    let told = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|text| text.parse().ok());
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = told.unwrap_or_else(|| now.map_or(0, |since| since.as_secs()));
    let mut date = format_time(UnixTime::from_secs(seconds));
    date.truncate("2026-12-31".len());
    date
}

/// As it is typed; that these are examples is said by the heading.
fn write_examples(roff: &mut Roff, text: &str) {
    roff.control("SH", ["EXAMPLES"]);
    roff.control("nf", []);
    for line in text.lines() {
        let line = line
            .trim_start_matches("Examples:")
            .trim_start_matches("Example:")
            .trim();
        if !line.is_empty() {
            roff.text([roman(line)]);
        }
    }
    roff.control("fi", []);
}

fn terms(roff: &mut Roff, heading: &str, terms: &[(&str, &str)]) {
    roff.control("SH", [heading]);
    for (term, what) in terms {
        roff.control("TP", []);
        roff.text([bold(*term)]);
        roff.text([roman(*what)]);
    }
}

fn write_completions(program: &mut Command, folder: &Path) -> Result<(), (PathBuf, io::Error)> {
    let name = program.get_name().to_owned();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, program, &name, folder).map_err(|error| (folder.to_owned(), error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    const MANUAL: Manual = Manual {
        section: "8",
        files: &[("/etc/tool", "what it reads")],
        see_also: &["other(1)"],
        source: "tool 1.2.3",
    };

    fn tool() -> Command {
        Command::new("tool")
            .about("Does things")
            .after_help("Example:\n  tool go --far")
            .subcommand(Command::new("go").about("Goes").arg(Arg::new("far").long("far")))
            .subcommand(Command::new("secret").hide(true))
    }

    fn listed(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn each_command_that_is_shown_has_a_page() {
        let folder = tempfile::tempdir().unwrap();
        MANUAL.write(tool(), folder.path()).unwrap();
        let expected = ["_tool", "tool-go.8", "tool.8", "tool.bash", "tool.fish"];
        assert_eq!(listed(folder.path()), expected);
        let page = std::fs::read_to_string(folder.path().join("tool.8")).unwrap();
        for section in ["NAME", "SYNOPSIS", "EXAMPLES", "EXIT STATUS", "FILES", "SEE ALSO"] {
            assert!(
                page.contains(&format!(".SH \"{section}\"")) || page.contains(&format!(".SH {section}")),
                "{page}"
            );
        }
        let title = page.lines().find(|line| line.starts_with(".TH")).unwrap();
        assert!(
            title.starts_with(".TH tool 8 20") && title.ends_with("\"tool 1.2.3\" \"Single-packet authorization\""),
            "{title}"
        );
        assert!(page.contains("tool go \\-\\-far"), "{page}");
        assert!(!page.contains("secret"), "{page}");
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let failure = MANUAL.write(tool(), Path::new("/nowhere/at/all")).unwrap_err();
        assert!(
            failure.what.starts_with("/nowhere/at/all/tool-go.8: "),
            "{}",
            failure.what
        );
    }
}
