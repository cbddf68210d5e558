//! Patterns for paths: `*` is any run of characters of a name, `?` one of them, `**` any folders.
//!
//! Deliberately absent: classes, alternatives and escapes. A pattern that looks as if it had them is an error, so that
//! no rule means less than its author thinks. Pure: no look at a disk.

/// Most bytes of one pattern.
const MAX_PATTERN_BYTES: usize = 1024;

/// What is wrong with a pattern, and its mend.
pub(super) type BadPattern = &'static str;

/// A pattern for the names of a path, one after another. Big and small letters are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Glob {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// `**`: any number of names, none too.
    AnyNames,
    Name(Vec<Letter>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Letter {
    Any,
    One,
    Is(char),
}

impl Glob {
    /// Reads a pattern without a slash at either end.
    pub(super) fn parse(text: &str) -> Result<Self, BadPattern> {
        if text.len() > MAX_PATTERN_BYTES {
            return Err("is longer than 1024 bytes: make it shorter");
        }
        if text.contains(['[', ']', '{', '}', '\\']) || text.starts_with('!') {
            return Err(
                "has one of [ ] { } \\ or begins with !, which have no meaning here: use *, ? and ** (a ? stands for such a letter)",
            );
        }
        if text.contains('\0') {
            return Err("has a NUL byte, which no path has: leave it out");
        }
        let parts = text.split('/').map(Part::parse).collect::<Result<_, _>>()?;
        Ok(Self { parts })
    }

    /// Makes it match in any folder.
    pub(super) fn in_any_folder(mut self) -> Self {
        self.parts.insert(0, Part::AnyNames);
        self
    }

    /// Makes it match whatever lies below what it matches.
    pub(super) fn and_below(mut self) -> Self {
        self.parts.push(Part::AnyNames);
        self
    }

    /// Tells whether it matches these names, all of them.
    pub(super) fn matches(&self, names: &[&str]) -> bool {
        let names: Vec<Vec<char>> = names.iter().map(|name| folded(name)).collect();
        wild(
            &self.parts,
            &names,
            |part| matches!(part, Part::AnyNames),
            |part, name| match part {
                Part::AnyNames => true,
                Part::Name(letters) => like(letters, name),
            },
        )
    }
}

impl Part {
    fn parse(name: &str) -> Result<Self, BadPattern> {
        match name {
            "" => Err("is empty, or has an empty name between two slashes: write each name"),
            "." | ".." => Err("has . or .. in it: write the path without them"),
            "**" => Ok(Self::AnyNames),
            _ if name.contains("**") => {
                Err("has ** beside other letters: ** stands for whole folders, so put slashes around it")
            }
            _ => Ok(Self::Name(
                folded(name)
                    .into_iter()
                    .map(|letter| match letter {
                        '*' => Letter::Any,
                        '?' => Letter::One,
                        letter => Letter::Is(letter),
                    })
                    .collect(),
            )),
        }
    }
}

fn like(letters: &[Letter], name: &[char]) -> bool {
    wild(
        letters,
        name,
        |letter| matches!(letter, Letter::Any),
        |letter, found| match letter {
            Letter::Any | Letter::One => true,
            Letter::Is(letter) => letter == found,
        },
    )
}

/// Letters as they are compared: one for one, so that `?` means the same in any case.
fn folded(name: &str) -> Vec<char> {
    name.chars().map(|letter| single(single(letter, char::to_uppercase), char::to_lowercase)).collect()
}

/// Changes a letter, unless that would make several of it.
fn single<I: Iterator<Item = char>>(letter: char, change: impl Fn(char) -> I) -> char {
    let mut changed = change(letter);
    match (changed.next(), changed.next()) {
        (Some(one), None) => one,
        _ => letter,
    }
}

/// Matches with one kind of wildcard. A later star can do whatever an earlier one could, so only the last is tried
/// again: the time is at most the product of the lengths.
fn wild<P, T>(
    pattern: &[P],
    text: &[T],
    is_star: impl Fn(&P) -> bool,
    is_like: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(piece) if is_star(piece) => {
                star = Some((p + 1, t));
                p += 1;
            }
            Some(piece) if is_like(piece, &text[t]) => {
                p += 1;
                t += 1;
            }
            Some(_) | None => match &mut star {
                Some((after, taken)) => {
                    *taken += 1;
                    (p, t) = (*after, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(is_star)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        let names: Vec<&str> = path.split('/').collect();
        Glob::parse(pattern).unwrap().matches(&names)
    }

    #[test]
    fn stars_and_question_marks_match_as_in_a_shell() {
        for (pattern, path) in [
            ("a", "a"),
            ("*", "anything"),
            ("*.key", ".key"),
            ("day-*.csv", "day-2026-11-25.csv"),
            ("d?y", "däy"),
            ("a*b*c", "aXbXbXc"),
            ("**/x", "x"),
            ("**/x", "a/b/x"),
            ("a/**", "a"),
            ("a/**/z", "a/z"),
            ("a/**/z", "a/b/c/z"),
            ("a/*/z", "a/b/z"),
            ("**/a/**/b", "x/a/y/a/b"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("a", "ab"),
            ("*", "a/b"),
            ("?", ""),
            ("?", "ab"),
            ("a/*/z", "a/z"),
            ("a/*/z", "a/b/c/z"),
            ("*.key", "x.key.txt"),
        ] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn letters_are_compared_one_for_one_in_any_case() {
        for (pattern, path) in [
            ("*.key", "TILL.KEY"),
            ("Geheim", "gEHEIM"),
            ("ÄRGER", "ärger"),
            // KELVIN SIGN, LONG S, final sigma: other letters of the same name to a file system that folds case.
            ("*.key", "x.\u{212a}ey"),
            ("secret", "\u{17f}ecret"),
            ("σ", "ς"),
            ("?", "İ"),
            ("ß", "ẞ"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn a_pattern_that_looks_like_more_is_no_pattern() {
        for bad in [
            "",
            "a//b",
            "[ab]",
            "{a,b}",
            "a\\*",
            "!a",
            "a/../b",
            "./a",
            "a**",
            "**a/b",
            "a\0",
            &"x".repeat(1025),
        ] {
            assert!(Glob::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn many_stars_cost_no_more_than_they_should() {
        let (pattern, path) = ("*a".repeat(300), "a".repeat(4000));
        assert!(!matches(&(pattern.clone() + "b"), &path));
        let deep = vec!["a"; 2000].join("/");
        assert!(!matches(&format!("{}b", "**/a/".repeat(150)), &deep));
    }
}
