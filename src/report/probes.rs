//! Findings of probes, for a terminal and as Markdown.

use std::fmt::Write;

use console::{StyledObject, style};
use textwrap::Options;

use super::table::WIDTH;
use crate::record::probes::{ProbeFinding, ProbeVerdict};

/// Where the text begins: after the longest verdict and a gap.
const INDENT: usize = "unclear".len() + 2;

/// Lays findings out for a terminal of 100 columns; `colour` adds weight and colour, and no meaning.
pub fn probes_table(findings: &[ProbeFinding], colour: bool) -> String {
    let styled = |text: &str, how: fn(StyledObject<String>) -> StyledObject<String>| {
        if colour { how(style(text.to_owned()).force_styling(true)).to_string() } else { text.to_owned() }
    };
    let mut out = vec![styled(&title(findings), StyledObject::bold)];
    for finding in findings {
        let verdict = finding.seen.verdict;
        let colour_of: fn(StyledObject<String>) -> StyledObject<String> = match verdict {
            ProbeVerdict::Found => StyledObject::yellow,
            ProbeVerdict::Absent => StyledObject::green,
            ProbeVerdict::Unclear => StyledObject::red,
        };
        let shown = styled(&format!("{:INDENT$}", word(verdict)), colour_of);
        out.push(String::new());
        out.push(format!("{shown}{}  {}", styled(&finding.probe, StyledObject::bold), finding.title));
        out.extend(indented(&finding.seen.what, ""));
        out.extend(
            advice(finding).iter().flat_map(|line| indented(line, "  ")).map(|line| styled(&line, StyledObject::dim)),
        );
    }
    out.join("\n") + "\n"
}

/// Breaks a text into lines that begin where texts begin; all but the first begin with `further` too.
fn indented(text: &str, further: &str) -> Vec<String> {
    let options = Options::new(WIDTH - INDENT).subsequent_indent(further);
    textwrap::wrap(text, options).iter().map(|line| format!("{:INDENT$}{line}", "")).collect()
}

/// Lays findings out as Markdown.
pub fn probes_markdown(findings: &[ProbeFinding]) -> String {
    let mut out = format!(
        "### {}\n\n| probe | verdict | what it found | what to do |\n| --- | --- | --- | --- |\n",
        title(findings)
    );
    for finding in findings {
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} |",
            finding.probe,
            word(finding.seen.verdict),
            finding.seen.what,
            advice(finding).join(" ")
        );
    }
    out
}

fn title(findings: &[ProbeFinding]) -> String {
    let count = |verdict| findings.iter().filter(|finding| finding.seen.verdict == verdict).count();
    let gone = |f: &&ProbeFinding| f.fixed.as_ref().is_some_and(|fixed| fixed.verdict == ProbeVerdict::Absent);
    let unclear = match count(ProbeVerdict::Unclear) {
        0 => String::new(),
        n => format!(", {n} unclear"),
    };
    format!(
        "Pitfalls of the telemetry crates: {} found, {} absent{unclear}; {} gone once the advice is followed",
        count(ProbeVerdict::Found),
        count(ProbeVerdict::Absent),
        findings.iter().filter(gone).count(),
    )
}

fn word(verdict: ProbeVerdict) -> &'static str {
    match verdict {
        ProbeVerdict::Found => "found",
        ProbeVerdict::Absent => "absent",
        ProbeVerdict::Unclear => "unclear",
    }
}

/// The advice, and the observation with the advice followed.
fn advice(finding: &ProbeFinding) -> Vec<String> {
    let tried = finding.fixed.as_ref().map(|fixed| {
        let mark = if fixed.verdict == ProbeVerdict::Absent {
            "✓ With that, it is gone:"
        } else {
            "✗ With that, it is still there:"
        };
        format!("{mark} {}", fixed.what)
    });
    [Some(format!("→ {}", finding.advice)), tried].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use console::measure_text_width;

    use super::*;
    use crate::record::probes::ProbeObservation;

    fn finding(verdict: ProbeVerdict, fixed: Option<ProbeVerdict>) -> ProbeFinding {
        let seen = |verdict, what: &str| ProbeObservation { verdict, what: what.into(), figures: BTreeMap::new() };
        ProbeFinding {
            probe: "gauge-increment".into(),
            title: "a gauge that forgets".into(),
            pitfall: "Each call begins at 0.".into(),
            seen: seen(verdict, &"5 increments were exported as 1. ".repeat(5)),
            fixed: fixed.map(|verdict| seen(verdict, "5 increments were exported as 5.")),
            advice: "Keep the handle.".into(),
        }
    }

    #[test]
    fn each_finding_fits_the_width_with_its_advice_and_the_observation_with_it() {
        let findings = [
            finding(ProbeVerdict::Found, Some(ProbeVerdict::Absent)),
            finding(ProbeVerdict::Unclear, Some(ProbeVerdict::Found)),
        ];
        let text = probes_table(&findings, false);
        assert!(text.lines().all(|line| measure_text_width(line) <= WIDTH), "{text}");
        for words in [
            "1 found, 0 absent, 1 unclear; 1 gone once",
            "found    gauge-increment  a gauge that forgets",
            "unclear  gauge-increment",
            "→ Keep the handle.",
            "✓ With that, it is gone: 5 increments were exported as 5.",
            "✗ With that, it is still there: 5",
        ] {
            assert!(text.contains(words), "`{words}` is not in:\n{text}");
        }
        let coloured = probes_table(&findings, true);
        assert!(coloured.contains('\u{1b}'));
        assert_eq!(console::strip_ansi_codes(&coloured), text);
        let page = probes_markdown(&findings);
        assert_eq!(page.lines().filter(|line| line.starts_with("| `gauge-increment` |")).count(), 2, "{page}");
    }
}
