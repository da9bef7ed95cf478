//! Everything the documentation shows exists and is accepted: commands, scenarios, links, headings, files, names in the code.
//!
//! All pages of the repository are read; a new page is checked without a change here.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use clap::Parser;
use clap::error::ErrorKind;
use otelbench::cli::Cli;
use otelbench::experiment::mode;
use otelbench::experiment::scenario::{Scenario, Settings};
use otelbench::record::result::Document;

/// Folders whose files are named in the documentation by their path from the root.
const FOLDERS: [&str; 13] = [
    ".github/",
    "benches/",
    "crates/",
    "deploy/",
    "docs/",
    "examples/",
    "fuzz/",
    "results/",
    "scenarios/",
    "schema/",
    "src/",
    "tests/",
    ".ci/",
];
/// Made by the commands beside them, so not in the repository.
const MADE: [&str; 2] = ["fuzz/corpus/", "results/TIME-SCENARIO.json"];

/// A page of the documentation.
struct Page {
    /// From the root of the repository.
    path: PathBuf,
    /// Fenced blocks.
    blocks: Vec<Block>,
    /// All lines outside of them.
    prose: Vec<String>,
}

/// A fenced block.
struct Block {
    language: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<Page> {
    let mut paths = Vec::new();
    collect(root(), &mut paths);
    assert!(paths.len() > 20, "pages are missing: {paths:?}");
    paths.iter().map(|path| Page::read(path)).collect()
}

/// Adds every page under `folder`; build output and hidden folders hold none of ours.
fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            if name == ".github" || !(name.starts_with('.') || name == "target" || name == "corpus") {
                collect(&path, paths);
            }
        } else if is_of(&path, "md") {
            paths.push(path);
        }
    }
}

fn is_of(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|of| of == extension)
}

impl Page {
    fn read(path: &Path) -> Self {
        let (mut blocks, mut prose, mut open) = (Vec::new(), Vec::new(), None::<Block>);
        for line in fs::read_to_string(path).unwrap().lines() {
            match (line.trim_start().strip_prefix("```"), open.as_mut()) {
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(language), None) => {
                    open = Some(Block { language: language.trim().into(), text: String::new() });
                }
                (None, Some(block)) => block.text.extend([line, "\n"]),
                (None, None) => prose.push(line.to_owned()),
            }
        }
        assert!(open.is_none(), "{}: a block is not closed", path.display());
        Self { path: path.strip_prefix(root()).unwrap().into(), blocks, prose }
    }

    /// What stands between backticks outside of blocks.
    fn code(&self) -> impl Iterator<Item = String> {
        let spans = |line: &String| -> Vec<String> {
            line.split('`').skip(1).step_by(2).map(|span| span.replace("\\|", "|")).collect()
        };
        self.prose.iter().flat_map(spans)
    }

    /// The simple commands of the blocks for a shell, of those shown with a prompt, and of CI jobs.
    fn commands(&self) -> Vec<Vec<String>> {
        let lines = |block: &Block| -> Vec<String> {
            let joined = block.text.replace("\\\n", " ");
            let prompted = |line: &str| line.strip_prefix("$ ").map(str::to_owned);
            match block.language.as_str() {
                "sh" | "yaml" => {
                    joined.lines().map(|line| line.trim().trim_start_matches("- run: ").to_owned()).collect()
                }
                "text" => joined.lines().filter_map(prompted).collect(),
                _ => Vec::new(),
            }
        };
        self.blocks.iter().flat_map(lines).flat_map(|line| simple_commands(&line)).collect()
    }

    /// Where its links go, as written.
    fn links(&self) -> impl Iterator<Item = &str> {
        self.prose.iter().flat_map(|line| line.split("](").skip(1).filter_map(|rest| rest.split(')').next()))
    }

    /// The anchors that its headings make, as GitHub has them.
    fn anchors(&self) -> Vec<String> {
        let mut seen = HashMap::new();
        let headings = self.prose.iter().filter(|line| line.starts_with('#'));
        let anchor = |heading: &String| {
            let text = heading.trim_start_matches('#').trim().to_lowercase();
            let kept: String = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_')).collect();
            let slug = kept.replace(' ', "-");
            let nth = seen.entry(slug.clone()).and_modify(|n| *n += 1).or_insert(0);
            if *nth == 0 { slug } else { format!("{slug}-{nth}") }
        };
        headings.map(anchor).collect()
    }
}

/// The words of each simple command of a line, as a shell reads it: pipes and `&` part commands, quotes hold words together,
/// redirections and comments go.
fn simple_commands(line: &str) -> Vec<Vec<String>> {
    let (mut commands, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let mut chars = line.chars().peekable();
    let mut to_file = false;
    while let Some(c) = chars.next() {
        match c {
            '\'' | '"' => word.get_or_insert_default().extend(chars.by_ref().take_while(|next| *next != c)),
            '#' if word.is_none() => break,
            ' ' | '|' | '&' | ';' | '>' | '<' => {
                if !std::mem::take(&mut to_file) || word.is_none() {
                    words.extend(word.take());
                }
                word = None;
                match c {
                    '|' | '&' | ';' => commands.push(std::mem::take(&mut words)),
                    '>' | '<' => {
                        while chars.next_if(|next| matches!(next, '>' | ' ')).is_some() {}
                        to_file = true;
                    }
                    _ => {}
                }
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    if !to_file {
        words.extend(word);
    }
    commands.push(words);
    commands.retain(|words| !words.is_empty());
    commands
}

/// The arguments that a command gives to this program, if it runs it.
fn ours(command: &[String]) -> Option<&[String]> {
    let start = command.iter().position(|word| !word.contains('='))?;
    let command = &command[start..];
    if command[0] == "otelbench" || command[0].ends_with("/otelbench") {
        return Some(&command[1..]);
    }
    let runs = command[0] == "cargo" && command.get(1).is_some_and(|word| word == "run");
    let at = command.iter().position(|word| word == "--").filter(|_| runs)?;
    Some(&command[at + 1..])
}

/// Why clap refuses these arguments; asking for help is no refusal.
fn refusal(arguments: &[String]) -> Option<clap::Error> {
    let line = ["otelbench".to_owned()].into_iter().chain(arguments.iter().cloned());
    Cli::try_parse_from(line)
        .err()
        .filter(|error| !matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion))
}

/// Fails with all that is wrong at once.
fn nothing_is_wrong(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_command_that_a_page_shows_is_accepted() {
    let (mut checked, mut wrong) = (0, Vec::new());
    for page in pages() {
        for command in page.commands() {
            let Some(arguments) = ours(&command) else { continue };
            checked += 1;
            if let Some(error) = refusal(arguments) {
                wrong.push(format!("{}: `{}`: {error}", page.path.display(), command.join(" ")));
            }
        }
    }
    nothing_is_wrong(&wrong);
    assert!(checked > 40, "only {checked} commands were found");
}

/// Such as `otelbench load`, which may leave out what the command needs.
#[test]
fn every_command_within_a_sentence_is_accepted() {
    let incomplete = [ErrorKind::MissingRequiredArgument, ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand];
    let (mut checked, mut wrong) = (0, Vec::new());
    for page in pages() {
        for span in page.code().filter(|span| span.starts_with("otelbench ")) {
            checked += 1;
            let command = simple_commands(&span).swap_remove(0);
            if let Some(error) = refusal(&command[1..]).filter(|error| !incomplete.contains(&error.kind())) {
                wrong.push(format!("{}: `{span}`: {error}", page.path.display()));
            }
        }
    }
    nothing_is_wrong(&wrong);
    assert!(checked > 40, "only {checked} commands were found");
}

/// Binaries of tests and benchmarks, and recipes of the justfile.
#[test]
fn everything_that_cargo_and_just_are_asked_for_exists() {
    let recipes = fs::read_to_string(root().join("justfile")).unwrap();
    let heads: HashSet<&str> = recipes.lines().filter_map(|line| line.split([' ', ':']).next()).collect();
    let folders = [("--test", "tests"), ("--bench", "benches"), ("--example", "examples")];
    let value = |command: &[String], flag: &str| {
        command.iter().position(|word| word == flag).and_then(|at| command.get(at + 1)).cloned()
    };
    let mut wrong = Vec::new();
    for page in pages() {
        let inline = page.code().filter(|span| span.starts_with("cargo ") || span.starts_with("just "));
        let inline: Vec<Vec<String>> = inline.flat_map(|span| simple_commands(&span)).collect();
        for command in page.commands().iter().chain(&inline) {
            let mut note =
                |what: String| wrong.push(format!("{}: `{}`: no {what}", page.path.display(), command.join(" ")));
            match command[0].as_str() {
                "just" if command.len() > 1 && !heads.contains(command[1].as_str()) => {
                    note(format!("recipe {}", command[1]));
                }
                "cargo" => {
                    let package = match value(command, "-p").as_deref().and_then(|name| name.strip_prefix("otelbench-"))
                    {
                        Some(name) => root().join("crates").join(name),
                        None => root().to_path_buf(),
                    };
                    for (flag, folder) in folders {
                        let Some(name) = value(command, flag).filter(|name| name != "*") else { continue };
                        let named = package.join(folder).join(&name);
                        if !named.with_extension("rs").exists() && !named.join("main.rs").exists() {
                            note(format!("{folder}/{name}"));
                        }
                    }
                }
                _ => {}
            }
        }
    }
    nothing_is_wrong(&wrong);
}

#[test]
fn every_scenario_that_a_page_shows_resolves() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shown.toml");
    let (mut arms, mut wrong) = (Vec::new(), Vec::new());
    for page in pages() {
        let is_scenario = |block: &&Block| block.language == "toml" && !block.text.contains("[dependencies]");
        for block in page.blocks.iter().filter(is_scenario) {
            fs::write(&file, &block.text).unwrap();
            match Settings::from_file(&file).and_then(Scenario::resolve) {
                Ok(scenario) => arms.extend(scenario.arms),
                Err(error) => wrong.push(format!("{}: {error}", page.path.display())),
            }
        }
    }
    nothing_is_wrong(&wrong);
    assert!(arms.iter().any(|arm| arm.mode.name == "mine" && arm.mode.traces.as_ref().unwrap().redact));
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let pages = pages();
    let anchors: HashMap<&Path, Vec<String>> = pages.iter().map(|page| (page.path.as_path(), page.anchors())).collect();
    let mut wrong = Vec::new();
    for page in &pages {
        for link in page.links().filter(|link| !link.starts_with("http")) {
            let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
            let target = if file.is_empty() { page.path.clone() } else { beside(&page.path, file) };
            let leads = root().join(&target).exists()
                && anchor.is_none_or(|anchor| {
                    anchors
                        .get(target.as_path())
                        .is_some_and(|headings| headings.iter().any(|heading| heading == anchor))
                });
            if !leads {
                wrong.push(format!("{}: ({link})", page.path.display()));
            }
        }
    }
    nothing_is_wrong(&wrong);
}

/// The path of `file`, which is written as seen from `page`.
fn beside(page: &Path, file: &str) -> PathBuf {
    let mut path = page.parent().unwrap().to_path_buf();
    for part in Path::new(file).components() {
        match part {
            Component::ParentDir => assert!(path.pop(), "{file} leaves the repository"),
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    path
}

#[test]
fn every_file_that_a_page_names_exists() {
    let mut wrong = Vec::new();
    for page in pages() {
        let blocks = page.blocks.iter().flat_map(|block| block.text.lines());
        for line in page.prose.iter().map(String::as_str).chain(blocks) {
            let words = line.split(|c: char| c.is_whitespace() || "`()[]<>\"',;|=".contains(c));
            for word in words.map(|word| word.trim_end_matches(['.', ':', '/'])) {
                let is_named =
                    FOLDERS.iter().any(|folder| word.starts_with(folder)) && !word.contains(['*', '{', '…', '#']);
                // Some are written as seen from the page.
                let exists = || root().join(word).exists() || root().join(&page.path).with_file_name(word).exists();
                if is_named && !MADE.iter().any(|made| word.starts_with(made)) && !exists() {
                    wrong.push(format!("{}: {word}", page.path.display()));
                }
            }
        }
    }
    nothing_is_wrong(&wrong);
}

/// Rows of architecture.md name a file, and then functions, types and fields that it defines.
#[test]
fn the_map_names_what_its_files_define() {
    let map = Page::read(&root().join("docs/architecture.md"));
    let (mut checked, mut wrong) = (0, Vec::new());
    for line in map.prose.iter().filter(|line| line.starts_with('|')) {
        let spans: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
        let Some((file, names)) = spans.split_first().filter(|(file, _)| is_of(Path::new(file), "rs")) else {
            continue;
        };
        let code = fs::read_to_string(root().join(file)).unwrap_or_default();
        let columns = line.split('|').nth(2).unwrap_or_default();
        for name in names.iter().filter(|name| columns.contains(&format!("`{name}`"))) {
            checked += 1;
            let defines = |keyword: &str, after: char| {
                let head = format!("{keyword}{name}");
                code.match_indices(&head)
                    .any(|(at, _)| code[at + head.len()..].starts_with([after, '<', '(', ';', '{']))
            };
            let types = ["struct ", "enum ", "trait "].iter().any(|keyword| defines(keyword, ' '));
            if !(types || defines("fn ", '(') || defines(" ", ':')) {
                wrong.push(format!("{file}: `{name}`"));
            }
        }
    }
    nothing_is_wrong(&wrong);
    assert!(checked > 40, "only {checked} names were found");
}

#[test]
fn every_mode_is_described() {
    let page = Page::read(&root().join("docs/modes.md"));
    for mode in mode::all() {
        let row = format!("| `{}` |", mode.name);
        assert!(
            page.prose.iter().any(|line| line.starts_with(&row)),
            "docs/modes.md does not describe `{}`",
            mode.name
        );
    }
}

/// As results/claims.py makes it of what `otelbench report` says.
#[test]
fn the_table_of_claims_is_what_the_stored_result_says() {
    let page = Page::read(&root().join("docs/claims.md"));
    let claims = Document::read(&root().join("results/claims.json")).unwrap().claims;
    let rows = claims.iter().map(|claim| {
        let verdict = serde_json::to_value(claim.verdict).unwrap();
        let verdict = verdict.as_str().unwrap();
        format!("| `{}` | {} | **{verdict}** | {} |", claim.id, claim.statement, claim.reason)
    });
    let wrong: Vec<String> = rows.filter(|row| !page.prose.contains(row)).collect();
    nothing_is_wrong(&wrong);
}

#[test]
fn a_line_is_read_as_a_shell_reads_it() {
    let read = |line| simple_commands(line).iter().map(|words| words.join("·")).collect::<Vec<_>>();
    assert_eq!(
        read("otelbench sink --addr 127.0.0.1:4317 &   # the receiver"),
        ["otelbench·sink·--addr·127.0.0.1:4317"]
    );
    assert_eq!(read("otelbench report r.json --format json >out.json"), ["otelbench·report·r.json·--format·json"]);
    assert_eq!(read("a 'b c' > d e | f"), ["a·b c·e", "f"]);
    assert_eq!(read("OTEL_X=1 cargo run -- modes >> \"$FILE\" && g"), ["OTEL_X=1·cargo·run·--·modes", "g"]);
}
