//! The shape of the house: which room may import which, that no two files import each other, and that the half which works
//! from a file knows no runtime. `docs/architecture.md` shows the same table.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

/// Each room, and the rooms that it may import.
const ROOMS: [(&str, &[&str]); 12] = [
    ("os", &[]),
    ("experiment", &["os"]),
    ("record", &["experiment"]),
    ("generator", &["os", "experiment", "record"]),
    ("sink", &["experiment", "record"]),
    ("sut", &["experiment", "record"]),
    ("verdict", &["experiment", "record"]),
    ("lab", &["os", "experiment", "record", "generator", "sink", "sut", "verdict"]),
    ("studies", &["os", "experiment", "record", "generator", "sink", "sut", "verdict", "lab"]),
    ("report", &["experiment", "record", "verdict"]),
    ("cli", &["experiment", "lab", "studies"]),
    (
        "commands",
        &["os", "experiment", "record", "generator", "sink", "sut", "verdict", "lab", "studies", "report", "cli"],
    ),
];

/// Rooms that work from a file, and crates that none of them may name: runtimes, servers and telemetry.
const OFFLINE: [&str; 3] = ["record", "verdict", "report"];
const MACHINERY: [&str; 14] = [
    "axum",
    "h2",
    "hyper",
    "hyper_util",
    "metrics",
    "metrics_exporter_opentelemetry",
    "opentelemetry",
    "opentelemetry_otlp",
    "opentelemetry_sdk",
    "tokio",
    "tonic",
    "tower",
    "tracing",
    "tracing_subscriber",
];

#[test]
fn a_listing_of_src_fits_on_one_screen() {
    let entries = fs::read_dir(root().join("src")).unwrap().count();
    assert!(entries <= 14, "src/ has {entries} entries, and 14 at most are its architecture");
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let wrong = House::read(&root().join("src")).arrows_against(&ROOMS);
    assert!(wrong.is_empty(), "imports that the table of rooms does not allow:\n{}", wrong.join("\n"));
}

#[test]
fn no_files_import_each_other_but_a_module_and_its_parent() {
    let circles: Vec<String> = House::read(&root().join("src")).circles().into_iter().collect();
    assert!(circles.is_empty(), "these files import each other in a circle:\n{}", circles.join("\n"));
}

#[test]
fn the_half_that_works_from_a_file_knows_no_runtime_and_no_telemetry() {
    let house = House::read(&root().join("src"));
    for (module, file) in &house.files {
        let room = module.split("::").next().unwrap_or_default();
        if OFFLINE.contains(&room) {
            let named: Vec<&str> = MACHINERY.into_iter().filter(|name| file.externals.contains(*name)).collect();
            assert!(named.is_empty(), "{module} imports {}", named.join(", "));
        }
    }
}

#[test]
fn the_page_on_the_architecture_shows_the_same_table() {
    let page = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    for (room, may) in ROOMS {
        let may = if may.is_empty() { "nothing".to_owned() } else { may.join(", ") };
        let line = format!("{room} -> {may}");
        assert!(page.lines().any(|shown| shown == line), "docs/architecture.md lacks the line `{line}`");
    }
}

#[test]
fn an_arrow_against_the_table_and_a_circle_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("lib.rs", "pub mod verdict;\npub mod lab;\n");
    write("verdict/mod.rs", "pub mod a;\npub mod b;\n");
    write("verdict/a.rs", "use crate::{verdict::b::{self, B as C}};\n");
    write("verdict/b.rs", "// use crate::lab::Lane;\nconst S: &str = \"crate::lab\";\n");
    write("lab/mod.rs", "use crate::verdict::a;\n#[cfg(test)]\nmod tests {\n    use crate::cli::Cli;\n}\n");
    let table: [(&str, &[&str]); 2] = [("verdict", &[]), ("lab", &["verdict"])];
    let house = || House::read(folder.path());
    assert_eq!(house().arrows_against(&table), Vec::<String>::new());
    assert_eq!(house().circles(), BTreeSet::new());
    write("verdict/b.rs", "fn f() -> super::a::A { crate::lab::lane() }\n");
    assert_eq!(house().arrows_against(&table), ["verdict::b imports lab"]);
    let circle = "verdict::a → verdict::b → verdict::a".to_owned();
    assert!(house().circles().contains(&circle), "{:?}", house().circles());
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The modules under a `src/`, by path, and what each imports.
struct House {
    files: BTreeMap<String, Source>,
}

#[derive(Default)]
struct Source {
    /// Paths from the root of the crate, such as `lab::lane::Lane`.
    internals: Vec<String>,
    /// The first names of other paths.
    externals: BTreeSet<String>,
}

impl House {
    fn read(src: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut folders = vec![src.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let module = module(path.strip_prefix(src).unwrap());
                    let text = code(&fs::read_to_string(&path).unwrap());
                    files.insert(module.clone(), Source::of(&module, &text));
                }
            }
        }
        // What is declared for tests alone is no part of the house; nor is what stands under it.
        let for_tests =
            |module: &String| module.split("::").any(|name| ["tests", "fixture", "simulation"].contains(&name));
        files.retain(|module, _| !for_tests(module) && !["main", "lib"].contains(&module.as_str()));
        Self { files }
    }

    fn arrows_against(&self, table: &[(&str, &[&str])]) -> Vec<String> {
        let rooms: BTreeMap<&str, &[&str]> = table.iter().copied().collect();
        let mut wrong = Vec::new();
        for (module, file) in &self.files {
            let room = module.split("::").next().unwrap_or_default();
            let targets: BTreeSet<&str> =
                file.internals.iter().filter_map(|path| path.split("::").next()).filter(|to| *to != room).collect();
            for to in targets {
                let known = self.files.contains_key(to);
                if known && !rooms.get(room).is_some_and(|may| may.contains(&to)) {
                    wrong.push(format!("{module} imports {to}"));
                }
            }
        }
        wrong
    }

    /// The circles of imports, each as a way from a module back to itself; a module and those under it do not count as two.
    fn circles(&self) -> BTreeSet<String> {
        let mut circles = BTreeMap::new();
        for module in self.files.keys() {
            if let Some(way) = self.way_back(module) {
                let members: BTreeSet<&str> = way.iter().copied().collect();
                circles.entry(members).or_insert_with(|| way.join(" → "));
            }
        }
        circles.into_values().collect()
    }

    /// The shortest way of imports from a module to itself.
    fn way_back<'a>(&'a self, module: &'a str) -> Option<Vec<&'a str>> {
        let mut ways = VecDeque::from([vec![module]]);
        let mut seen = BTreeSet::new();
        while let Some(way) = ways.pop_front() {
            for to in self.imports(way[way.len() - 1]) {
                let longer = [&way[..], &[to]].concat();
                if to == module {
                    return Some(longer);
                }
                if seen.insert(to) {
                    ways.push_back(longer);
                }
            }
        }
        None
    }

    /// The modules that a module imports, but for its parents and children.
    fn imports<'a>(&'a self, module: &'a str) -> impl Iterator<Item = &'a str> {
        let related = |a: &str, b: &str| a == b || a.starts_with(&format!("{b}::")) || b.starts_with(&format!("{a}::"));
        let owners = self.files[module].internals.iter().filter_map(|path| self.owner(path));
        owners.filter(move |to| !related(module, to))
    }

    /// The module that a path leads into.
    fn owner(&self, path: &str) -> Option<&str> {
        let mut path = path;
        loop {
            if let Some((module, _)) = self.files.get_key_value(path) {
                return Some(module);
            }
            path = path.rsplit_once("::")?.0;
        }
    }
}

impl Source {
    fn of(module: &str, text: &str) -> Self {
        let mut source = Self::default();
        let tokens = tokens(text);
        let mut at = 0;
        while at < tokens.len() {
            let (is_use, start) = if tokens[at] == "use" { (true, at + 1) } else { (false, at) };
            let before = at.checked_sub(1).map(|before| tokens[before].as_str());
            let is_name = tokens[start.min(tokens.len() - 1)].starts_with(|c: char| c.is_alphabetic() || c == '_');
            if is_use || (is_name && before != Some("::") && tokens.get(start + 1).is_some_and(|next| next == "::")) {
                let mut paths = Vec::new();
                at = tree(&tokens, start, String::new(), is_use, &mut paths).max(at + 1);
                for path in &paths {
                    source.add(module, path);
                }
            } else {
                at += 1;
            }
        }
        source
    }

    /// Notes a path as it stands in `module`.
    fn add(&mut self, module: &str, path: &str) {
        let mut here: Vec<&str> = module.split("::").collect();
        let mut names = path.split("::").peekable();
        match names.peek() {
            Some(&"crate") => {
                here.clear();
                names.next();
            }
            Some(&("self" | "super")) => {
                while let Some(step) = names.next_if(|name| ["self", "super"].contains(name)) {
                    if step == "super" {
                        here.pop();
                    }
                }
            }
            Some(first) => {
                self.externals.insert((*first).to_owned());
                return;
            }
            None => return,
        }
        here.extend(names);
        self.internals.push(here.join("::"));
    }
}

/// Reads a path from `at`, in a `use` with its braces; returns where it ends.
fn tree(tokens: &[String], mut at: usize, mut prefix: String, is_use: bool, paths: &mut Vec<String>) -> usize {
    while at < tokens.len() {
        match tokens[at].as_str() {
            "{" if is_use => {
                at += 1;
                while at < tokens.len() && tokens[at] != "}" {
                    at = tree(tokens, at, prefix.clone(), true, paths);
                    at += usize::from(tokens.get(at).is_some_and(|token| token == ","));
                }
                return at + 1;
            }
            "::" => at += 1,
            "as" => at += 2,
            name if name.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                if name != "self" || prefix.is_empty() {
                    prefix = if prefix.is_empty() { name.into() } else { format!("{prefix}::{name}") };
                }
                at += 1;
                if !tokens.get(at).is_some_and(|next| next == "::" || (is_use && next == "as")) {
                    break;
                }
            }
            _ => break,
        }
    }
    if !prefix.is_empty() {
        paths.push(prefix);
    }
    at
}

/// Names, `::`, braces and commas; of everything else one token each.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_alphanumeric() || c == '_' {
            let mut name = c.to_string();
            while let Some(next) = chars.next_if(|c| c.is_alphanumeric() || *c == '_') {
                name.push(next);
            }
            tokens.push(name);
        } else if c == ':' && chars.next_if_eq(&':').is_some() {
            tokens.push("::".into());
        } else if !c.is_whitespace() {
            tokens.push(c.into());
        }
    }
    tokens
}

/// The text without comments, strings and what is compiled for tests alone.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            // The item that follows: an import, a declaration, or a function up to its closing brace.
            let indent = line.len() - line.trim_start().len();
            let end = |line: &str| {
                let closes = line.ends_with(';') || line.trim_start().starts_with('}');
                closes && line.len() - line.trim_start().len() == indent
            };
            lines.by_ref().find(|line| end(line));
            continue;
        }
        let mut in_string = false;
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\\' if in_string => drop(chars.next()),
                '"' => in_string = !in_string,
                '/' if !in_string && chars.peek() == Some(&'/') => break,
                c if !in_string => kept.push(c),
                _ => {}
            }
        }
        kept.push('\n');
    }
    kept
}

/// `lab/lane/mod.rs` is `lab::lane`.
fn module(path: &Path) -> String {
    let path = path.with_extension("");
    let names: Vec<String> = path.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    names.join("::").trim_end_matches("::mod").to_owned()
}
