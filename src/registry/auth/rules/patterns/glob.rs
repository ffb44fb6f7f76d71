//! One pattern as an automaton of positions (Glushkov), in the language of the crate `globset`: `*`, `?`,
//! `**` as a whole component, `[a-z]`, `{a,b}` and `\`. Pure.
//!
//! Own code, because `globset` brings a complete engine for regular expressions, of a megabyte, into the
//! executable. A text is matched from left to right with the set of all positions that are possible, so that
//! no pattern makes it go back.

mod parse;

use parse::{Class, Token, parse};

/// Most positions of a pattern: it has at most one for each of its bytes.
const MAX_POSITIONS: usize = super::MAX_PATTERN_BYTES;

const WORDS: usize = MAX_POSITIONS.div_ceil(64);

/// Set of positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Positions([u64; WORDS]);

/// Pattern without the plain text at its beginning.
#[derive(Clone, Debug)]
pub(super) struct Glob {
    /// Characters that each position accepts.
    accepted: Box<[Class]>,
    /// Positions that may come after each position.
    next: Box<[Positions]>,
    whole: Part,
}

/// Part of a pattern, by its positions.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// True if the part matches the empty text.
    is_optional: bool,
    first: Positions,
    last: Positions,
}

/// Parses a pattern into the plain text at its beginning and the rest. With `has_components`, only `**`
/// matches a slash. A pattern of more than [`MAX_POSITIONS`] bytes must have been refused before.
pub(super) fn compile(pattern: &str, has_components: bool) -> Result<(String, Glob), &'static str> {
    let tokens = parse(pattern, has_components)?;
    let plain = tokens.iter().map_while(Token::as_char).collect::<String>();
    let rest = &tokens[plain.chars().count()..];
    let mut builder = Builder { has_components, ..Builder::default() };
    let whole = builder.sequence(rest);
    Ok((plain, Glob { accepted: builder.accepted.into(), next: builder.next.into(), whole }))
}

// === impl Positions ===

impl Positions {
    fn of(position: usize) -> Self {
        let mut positions = Self::default();
        positions.0[position / 64] |= 1 << (position % 64);
        positions
    }

    fn add(&mut self, more: Self) {
        self.0.iter_mut().zip(more.0).for_each(|(word, more)| *word |= more);
    }

    fn with(mut self, more: Self) -> Self {
        self.add(more);
        self
    }

    fn is_empty(self) -> bool {
        self == Self::default()
    }

    fn meets(self, other: Self) -> bool {
        self.0.iter().zip(other.0).any(|(word, other)| word & other != 0)
    }

    fn iter(self) -> impl Iterator<Item = usize> {
        self.0.into_iter().enumerate().flat_map(|(index, mut word)| {
            std::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
                word &= word - 1;
                Some(64 * index + bit)
            })
        })
    }
}

// === impl Glob ===

impl Glob {
    /// Returns true if the pattern matches the whole text.
    pub(super) fn matches(&self, text: &str) -> bool {
        let mut possible = self.whole.first;
        let mut is_match = self.whole.is_optional;
        for character in text.chars() {
            let mut reached = Positions::default();
            let mut next = Positions::default();
            for position in possible.iter().filter(|position| self.accepted[*position].accepts(character)) {
                reached.add(Positions::of(position));
                next.add(self.next[position]);
            }
            if reached.is_empty() {
                return false;
            }
            is_match = reached.meets(self.whole.last);
            possible = next;
        }
        is_match
    }
}

// === impl Part ===

impl Part {
    /// The part that matches the empty text alone.
    const EMPTY: Self = Self { is_optional: true, first: Positions([0; WORDS]), last: Positions([0; WORDS]) };

    const fn optional(self) -> Self {
        Self { is_optional: true, ..self }
    }

    fn or(self, other: Self) -> Self {
        Self {
            is_optional: self.is_optional || other.is_optional,
            first: self.first.with(other.first),
            last: self.last.with(other.last),
        }
    }
}

#[derive(Default)]
struct Builder {
    has_components: bool,
    accepted: Vec<Class>,
    next: Vec<Positions>,
}

// === impl Builder ===

impl Builder {
    fn position(&mut self, class: Class) -> Part {
        let position = Positions::of(self.accepted.len());
        self.accepted.push(class);
        self.next.push(Positions::default());
        Part { is_optional: false, first: position, last: position }
    }

    fn repeated(&mut self, class: Class) -> Part {
        let part = self.position(class);
        self.follow(part, part);
        part.optional()
    }

    /// Lets `after` follow `before`.
    fn follow(&mut self, before: Part, after: Part) {
        for position in before.last.iter() {
            self.next[position].add(after.first);
        }
    }

    fn then(&mut self, before: Part, after: Part) -> Part {
        self.follow(before, after);
        Part {
            is_optional: before.is_optional && after.is_optional,
            first: if before.is_optional { before.first.with(after.first) } else { before.first },
            last: if after.is_optional { before.last.with(after.last) } else { after.last },
        }
    }

    fn sequence(&mut self, tokens: &[Token]) -> Part {
        tokens.iter().fold(Part::EMPTY, |before, token| {
            let part = self.token(token);
            self.then(before, part)
        })
    }

    fn token(&mut self, token: &Token) -> Part {
        let within = if self.has_components { Class::NotSlash } else { Class::Any };
        match token {
            Token::One(class) => self.position(class.clone()),
            Token::OneOfComponent => self.position(within),
            Token::Star => self.repeated(within),
            Token::All => self.repeated(Class::Any),
            Token::ComponentsBefore => self.components().optional(),
            Token::ComponentsBetween => {
                let slash = self.position(Class::One('/'));
                let components = self.components().optional();
                self.then(slash, components)
            }
            Token::ComponentsAfter => {
                let slash = self.position(Class::One('/'));
                let rest = self.repeated(Class::Any);
                self.then(slash, rest)
            }
            Token::Alternatives(alternatives) => {
                let parts = alternatives.iter().map(|tokens| self.sequence(tokens)).reduce(Part::or);
                parts.unwrap_or(Part::EMPTY)
            }
        }
    }

    /// Any text that ends with a slash.
    fn components(&mut self) -> Part {
        let text = self.repeated(Class::Any);
        let slash = self.position(Class::One('/'));
        self.then(text, slash)
    }
}

#[cfg(test)]
mod tests {
    use globset::GlobBuilder;

    use super::*;

    fn matches(pattern: &str, has_components: bool, text: &str) -> Result<bool, &'static str> {
        let (plain, glob) = compile(pattern, has_components)?;
        Ok(text.strip_prefix(&plain).is_some_and(|rest| glob.matches(rest)))
    }

    /// Calls `check` with every text of up to `length` of these pieces.
    fn each_text(pieces: &[&str], length: usize, check: &mut impl FnMut(&str)) {
        let mut texts = vec![String::new()];
        for _ in 0..length {
            texts = texts
                .iter()
                .flat_map(|text| pieces.iter().map(move |piece| format!("{text}{piece}")))
                .collect();
            for text in &texts {
                check(text);
            }
        }
    }

    #[test]
    fn patterns_match_as_those_of_globset() {
        let mut names = Vec::new();
        each_text(&["a", "b", "/"], 4, &mut |name| names.push(name.to_owned()));
        // Names neither begin nor end with a slash, nor have two in a row.
        names.retain(|name| !name.starts_with('/') && !name.ends_with('/') && !name.contains("//"));
        let pieces = ["a", "/", "*", "**", "**/", "/**/", "?", "{", ",", "}", "[a/]", "[!a]"];
        let mut compared = 0;
        each_text(&pieces, 3, &mut |pattern| {
            for has_components in [false, true] {
                let theirs = GlobBuilder::new(pattern).literal_separator(has_components).build();
                let Ok(theirs) = theirs else {
                    assert!(compile(pattern, has_components).is_err(), "{pattern}");
                    continue;
                };
                // A `**` alone between braces matches nothing but slashes there, and everything here.
                if pattern.contains("{**}") || pattern.contains("**}") || pattern.contains("**,") {
                    continue;
                }
                let theirs = theirs.compile_matcher();
                for name in &names {
                    compared += 1;
                    let expected = Ok(theirs.is_match(name));
                    assert_eq!(matches(pattern, has_components, name), expected, "{pattern} {name}");
                }
            }
        });
        assert!(compared > 10_000, "{compared}");
    }

    #[test]
    fn classes_match_as_those_of_globset() {
        for pattern in [
            "[a-c]x",
            "[]a]",
            "[!]a]",
            "[a-]",
            "[-a]",
            "[^a-c]",
            "[[:digit:]]",
            "[[:alpha:]_]",
            "[a-c-e]",
            "\\*",
            "\\\\",
            "a\\{b",
            "[\\]",
            "[z-a]",
            "[a",
            "\\",
            "a}",
            "{a",
            "[[:digit:]-z]",
            "é?",
            "[é-ü]x",
        ] {
            let theirs = GlobBuilder::new(pattern).literal_separator(true).build();
            assert_eq!(compile(pattern, true).is_ok(), theirs.is_ok(), "{pattern}");
            let Ok(theirs) = theirs else { continue };
            let theirs = theirs.compile_matcher();
            for text in [
                "a", "b", "ax", "dx", "]", "-", "e", "7", "_", "[", ":", ":]", "*", "\\", "a{b", "d", "z",
                "éa", "/", "a]", "n]", "n",
            ] {
                assert_eq!(matches(pattern, true, text), Ok(theirs.is_match(text)), "{pattern} {text}");
            }
        }
    }

    #[test]
    fn the_longest_patterns_have_a_position_for_each_character() {
        for pattern in ["?".repeat(255), "**/".repeat(85), "{a,".repeat(63) + &"}".repeat(63)] {
            assert!(compile(&pattern, true).is_ok(), "{pattern}");
        }
    }
}
