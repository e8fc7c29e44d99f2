//! The source files as the rules see them: a line scanner, exact for code that rustfmt has formatted and that keeps the
//! rules about how paths are written.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The files that the rules look at: `src/`, `tests/` and `benches/`.
pub struct House {
    pub files: Vec<File>,
    /// Files that `mod` lines lead to, from `src/lib.rs` and `src/main.rs`.
    pub reached: BTreeSet<String>,
    /// Files of which nothing is production code.
    pub test_files: BTreeSet<String>,
}

pub struct File {
    /// Relative to the repository, with `/`.
    pub path: String,
    /// Empty for files that no rule reads, e.g. test vectors.
    pub text: String,
    /// The lines of `text` without comments and literals.
    pub code: Vec<String>,
}

pub struct Function {
    pub name: String,
    pub first: usize,
    pub last: usize,
    /// Braces of the body that stay open at the end of a line, the body's own not counted.
    pub nesting: usize,
}

impl House {
    pub fn on_disk() -> Self {
        let top = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = Vec::new();
        for folder in ["src", "tests", "benches"] {
            collect(&top.join(folder), folder, &mut files);
        }
        Self::new(files)
    }

    pub fn new(files: Vec<File>) -> Self {
        let mut house = Self { files, reached: BTreeSet::new(), test_files: BTreeSet::new() };
        let mut open = vec![("src/lib.rs".to_owned(), false), ("src/main.rs".to_owned(), false)];
        while let Some((path, test)) = open.pop() {
            let Some(file) = house.files.iter().find(|file| file.path == path) else { continue };
            for (number, name) in file.mod_lines() {
                let folder =
                    path.trim_end_matches(".rs").trim_end_matches("/mod").trim_end_matches("/lib").trim_end_matches("/main");
                let test = test || number > 0 && file.code[number - 1].trim() == "#[cfg(test)]";
                open.extend([format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")].map(|child| (child, test)));
            }
            if test {
                house.test_files.insert(path.clone());
            }
            house.reached.insert(path);
        }
        let outside = house.files.iter().map(|file| file.path.clone()).filter(|path| !path.starts_with("src/"));
        house.test_files.extend(outside);
        house
    }

    pub fn under<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = &'a File> {
        self.files.iter().filter(move |file| file.path.starts_with(folder))
    }

    /// The program's own code.
    pub fn source(&self) -> impl Iterator<Item = &File> {
        self.rust().filter(|file| file.path.starts_with("src/"))
    }

    pub fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    /// The names of a file's `mod` lines, in their order.
    pub fn modules(&self, path: &str) -> Vec<String> {
        self.under(path).flat_map(|file| file.mod_lines().map(|(_, name)| name.to_owned())).collect()
    }

    /// The lines before the test module.
    pub fn production<'a>(&self, file: &'a File) -> &'a [String] {
        if self.test_files.contains(&file.path) {
            return &[];
        }
        let is_test_module = |number: usize| {
            let mut below = file.code[number + 1..].iter().skip_while(|line| line.starts_with(['#', ' ', ')']));
            file.code[number] == "#[cfg(test)]"
                && below.next().is_some_and(|line| line.trim_start_matches("pub ").starts_with("mod ") && line.ends_with('{'))
        };
        let end = (0..file.code.len()).find(|number| is_test_module(*number)).unwrap_or(file.code.len());
        &file.code[..end]
    }
}

impl File {
    pub fn new(path: String, text: String) -> Self {
        let code = without_comments_and_literals(&text).lines().map(|line| line.trim_end().to_owned()).collect();
        Self { path, text, code }
    }

    pub fn at(&self, number: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, number + 1)
    }

    fn mod_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.iter().enumerate().filter_map(|(number, line)| {
            let rest = line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub ")).unwrap_or(line);
            Some((number, rest.strip_prefix("mod ")?.strip_suffix(';')?))
        })
    }

    /// The module of `folder` that the file belongs to. `None` for the folder's own root and for files elsewhere.
    pub fn module_in(&self, folder: &str) -> Option<&str> {
        let name = self.path.strip_prefix(folder)?.split('/').next()?.trim_end_matches(".rs");
        (!["lib", "main", "mod"].contains(&name)).then_some(name)
    }

    /// The folder within which tests share functions, e.g. `tests/gateway` or `src/token`.
    pub fn area(&self) -> String {
        self.path.split('/').take(2).collect::<Vec<_>>().join("/")
    }

    pub fn is_in_room(&self, room: &str) -> bool {
        self.path
            .strip_prefix("src/")
            .and_then(|path| path.strip_prefix(room))
            .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    }
}

fn collect(folder: &Path, path: &str, files: &mut Vec<File>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    for name in names.iter().filter(|name| !name.starts_with('.')) {
        let (child, path) = (folder.join(name), format!("{path}/{name}"));
        if child.is_dir() {
            collect(&child, &path, files);
        } else {
            let is_read = name.ends_with(".rs") || path.starts_with("src/");
            let bytes = if is_read { fs::read(&child).unwrap() } else { Vec::new() };
            files.push(File::new(path, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
}

/// Every function of these lines, a nested one after the one around it.
pub fn functions(lines: &[String]) -> Vec<Function> {
    let begins = lines.iter().enumerate().filter_map(|(number, line)| Some((number, function_name(line)?)));
    begins.filter_map(|(first, name)| whole_function(lines, first, name)).collect()
}

fn function_name(line: &str) -> Option<&str> {
    let qualifier = |word: &&str| ["pub", "const", "async", "unsafe", "extern"].contains(word) || word.starts_with("pub(");
    let mut words = line.split_whitespace().skip_while(qualifier);
    (words.next()? == "fn").then_some(())?;
    words.next()?.split(|c| !is_word(c)).next()
}

/// `None` for a declaration without a body.
fn whole_function(lines: &[String], first: usize, name: &str) -> Option<Function> {
    let (mut braces, mut brackets, mut deepest, mut opened) = (0_usize, 0_usize, 0, false);
    for (number, line) in lines.iter().enumerate().skip(first) {
        for c in line.chars() {
            match c {
                '(' | '[' => brackets += 1,
                ')' | ']' => brackets = brackets.saturating_sub(1),
                '{' => (braces, opened) = (braces + 1, true),
                '}' => braces = braces.saturating_sub(1),
                ';' if !opened && brackets == 0 => return None,
                _ => {}
            }
        }
        deepest = deepest.max(braces);
        if opened && braces == 0 {
            return Some(Function { name: name.to_owned(), first, last: number, nesting: deepest.saturating_sub(1) });
        }
    }
    None
}

/// What follows each `root` in a line, e.g. `config` for `crate::config::Config`; empty when that is no name.
pub fn paths_from<'a>(line: &'a str, root: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(root)
        .filter(|(at, _)| !line[..*at].ends_with(is_word))
        .map(|(at, _)| line[at + root.len()..].split(|c| !is_word(c)).next().unwrap_or_default())
}

/// Whether a line has a path that begins with the crate's name.
pub fn names_crate(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + name.len()..]);
        let begins =
            !before.ends_with(|c| is_word(c) || c == '.') && !before.trim_end_matches("::").ends_with(|c| is_word(c) || c == '>');
        let used = before.trim_end().ends_with("use") && (after.starts_with(';') || after.starts_with(" as "));
        begins && (after.starts_with("::") || used)
    })
}

/// The words that stand right before a mark: macros before `!`, calls before `(`.
pub fn words_before<'a>(line: &'a str, mark: &'a str) -> impl Iterator<Item = &'a str> {
    line.match_indices(mark).filter_map(|(at, _)| line[..at].rsplit(|c| !is_word(c)).next()).filter(|word| !word.is_empty())
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The same lines with spaces in place of comments, strings and characters.
fn without_comments_and_literals(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        match comment_or_literal(rest) {
            Some(length) => {
                out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
                rest = &rest[length..];
            }
            None => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    out
}

/// The length of the comment or literal that `rest` begins with.
fn comment_or_literal(rest: &str) -> Option<usize> {
    let raw = rest.strip_prefix(['b', 'c']).unwrap_or(rest).strip_prefix('r').map(|tail| tail.trim_start_matches('#'));
    if rest.starts_with("//") {
        Some(rest.find('\n').unwrap_or(rest.len()))
    } else if rest.starts_with("/*") {
        Some(rest.find("*/").map_or(rest.len(), |end| end + 2))
    } else if let Some(tail) = raw.filter(|tail| tail.starts_with('"')) {
        let opening = rest.len() - tail.len();
        let closing = format!("\"{}", "#".repeat(rest[..opening].matches('#').count()));
        tail[1..].find(&closing).map(|end| opening + 1 + end + closing.len())
    } else if rest.starts_with('"') {
        end_of_quotes(rest, '"')
    } else if rest.starts_with("'\\") || rest.starts_with('\'') && rest.chars().nth(2) == Some('\'') {
        end_of_quotes(rest, '\'')
    } else {
        None
    }
}

fn end_of_quotes(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    rest.char_indices().skip(1).find_map(|(at, c)| {
        let ends = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(at + 1)
    })
}
