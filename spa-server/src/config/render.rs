//! Findings for people: the line, a caret under the value, what to try.

use std::fmt::Write;

use annotate_snippets::{AnnotationKind, Group, Level as Severity, Origin, Renderer, Snippet};

use super::finding::{Cited, Finding, Level};

/// Whether the text may carry colour; only the caller knows whether a terminal reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Colour {
    /// Plain text.
    #[default]
    Never,
    /// ANSI sequences.
    Always,
}

/// Renders all findings, an empty line between two, a newline at the end; nothing for none.
#[must_use]
pub fn render(findings: &[Finding], colour: Colour) -> String {
    let renderer = match colour {
        Colour::Never => Renderer::plain(),
        Colour::Always => Renderer::styled(),
    };
    let texts: Vec<_> = findings.iter().map(|finding| one(finding, &renderer)).collect();
    texts.join("\n")
}

fn one(finding: &Finding, renderer: &Renderer) -> String {
    let severity = match finding.level {
        Level::Error => Severity::ERROR,
        Level::Warning => Severity::WARNING,
    };
    let title = severity.primary_title(finding.text.as_str()).id(finding.code.name());
    let mut text = renderer.render(&[place(Group::with_title(title), finding)]);
    text.push('\n');
    if let Some(remedy) = &finding.remedy {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "try: {remedy}");
    }
    text
}

fn place<'a>(group: Group<'a>, finding: &'a Finding) -> Group<'a> {
    match (&finding.cited, &finding.file) {
        (Some(cited), _) => group.element(citation(cited, finding)),
        (None, Some(file)) => group.element(Origin::path(file.as_str())),
        (None, None) => group,
    }
}

fn citation<'a>(cited: &'a Cited, finding: &'a Finding) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    Snippet::source(cited.line.as_str())
        .line_start(finding.line.unwrap_or(1))
        .path(finding.file.as_deref())
        .annotation(AnnotationKind::Primary.span(cited.span.clone()))
}

#[cfg(test)]
mod tests {
    use super::super::Code;
    use super::*;
    use std::path::Path;

    fn finding() -> Finding {
        let source = "[[service]]\nports = [\"tcp/0\"] # \x1b[31m\n";
        Finding::error(Code::BadPort, "no port")
            .in_file(Path::new("s.toml"))
            .at(source, &(21..28))
            .with_try("tcp/22")
    }

    #[test]
    fn the_caret_stands_under_the_value() {
        insta::assert_snapshot!(render(&[finding()], Colour::Never), @r#"
        error[bad-port]: no port
         --> s.toml:2:10
          |
        2 | ports = ["tcp/0"] # \u{1b}[31m
          |          ^^^^^^^
        try: tcp/22
        "#);
    }

    #[test]
    fn colour_only_when_told() {
        assert!(!render(&[finding()], Colour::Never).contains('\x1b'));
        assert!(render(&[finding()], Colour::Always).contains('\x1b'));
    }

    #[test]
    fn a_finding_without_a_place_still_names_its_file() {
        let bare = Finding::warning(Code::NoHost, "text");
        insta::assert_snapshot!(render(&[bare.clone(), bare.in_file(Path::new("s.toml"))], Colour::Never), @"
        warning[no-host]: text

        warning[no-host]: text
        --> s.toml
        ");
    }

    #[test]
    fn an_empty_line_at_the_end_is_a_place_too() {
        let finding = Finding::error(Code::Syntax, "more was expected")
            .in_file(Path::new("s.toml"))
            .at("a = [\n", &(6..6));
        insta::assert_snapshot!(render(&[finding], Colour::Never), @"
        error[syntax]: more was expected
         --> s.toml:2:1
          |
        2 |
          | ^
        ");
    }
}
