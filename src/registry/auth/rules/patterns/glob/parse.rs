//! Text of a pattern into its tokens.

use std::iter::Peekable;
use std::str::Chars;

/// Part of a pattern.
#[derive(Clone, Debug)]
pub(super) enum Token {
    /// One character.
    One(Class),
    /// `?`: any character of a component.
    OneOfComponent,
    /// `*`: any text within a component.
    Star,
    /// `**` alone: any text.
    All,
    /// `**/` at the beginning: nothing, or components with their slashes.
    ComponentsBefore,
    /// `/**/`: a slash, or components between two.
    ComponentsBetween,
    /// `/**` at the end: a slash and all behind it.
    ComponentsAfter,
    /// `{a,b}`: one of them.
    Alternatives(Vec<Vec<Self>>),
}

/// Characters that one position accepts.
#[derive(Clone, Debug)]
pub(super) enum Class {
    Any,
    NotSlash,
    One(char),
    /// Ranges, or all characters but those in them. With components, never a slash.
    Ranges {
        ranges: Box<[(char, char)]>,
        is_negated: bool,
        has_components: bool,
    },
}

struct Parser<'a> {
    rest: Peekable<Chars<'a>>,
    /// Last character that has been read.
    last: Option<char>,
    has_components: bool,
}

/// Parses a pattern. With `has_components`, no class matches a slash.
pub(super) fn parse(pattern: &str, has_components: bool) -> Result<Vec<Token>, &'static str> {
    let mut parser = Parser { rest: pattern.chars().peekable(), last: None, has_components };
    let tokens = parser.tokens(false)?;
    Ok(match &*tokens {
        // `**/` alone.
        [Token::ComponentsBefore] => vec![Token::All],
        _ => tokens,
    })
}

// === impl Token ===

impl Token {
    /// Returns the character that the token stands for, if it is a single one.
    pub(super) const fn as_char(&self) -> Option<char> {
        match self {
            Self::One(Class::One(character)) => Some(*character),
            _ => None,
        }
    }
}

// === impl Class ===

impl Class {
    pub(super) fn accepts(&self, character: char) -> bool {
        match self {
            Self::Any => true,
            Self::NotSlash => character != '/',
            Self::One(one) => character == *one,
            Self::Ranges { ranges, is_negated, has_components } => {
                let is_inside = ranges.iter().any(|(from, to)| (*from..=*to).contains(&character));
                is_inside != *is_negated && !(*has_components && character == '/')
            }
        }
    }
}

// === impl Parser ===

impl Parser<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.rest.next()?;
        self.last = Some(next);
        Some(next)
    }

    fn skip(&mut self, character: char) -> bool {
        let is_next = self.rest.peek() == Some(&character);
        if is_next {
            self.next();
        }
        is_next
    }

    /// Reads tokens up to the end, or with `is_inner` up to a comma or brace. Recursion is bounded by the
    /// longest pattern.
    fn tokens(&mut self, is_inner: bool) -> Result<Vec<Token>, &'static str> {
        let mut tokens = Vec::new();
        while let Some(next) = self.rest.peek() {
            if is_inner && matches!(next, ',' | '}') {
                break;
            }
            let before = self.last;
            let Some(character) = self.next() else { break };
            match character {
                '?' => tokens.push(Token::OneOfComponent),
                '*' if self.skip('*') => self.two_stars(&mut tokens, before, is_inner),
                '*' => tokens.push(Token::Star),
                '[' => tokens.push(Token::One(self.class()?)),
                '{' => tokens.push(Token::Alternatives(self.alternatives()?)),
                '}' => return Err("has a } without {"),
                '\\' => match self.next() {
                    Some(escaped) => tokens.push(Token::One(Class::One(escaped))),
                    None => return Err("ends with \\, which stands before another character"),
                },
                plain => tokens.push(Token::One(Class::One(plain))),
            }
        }
        Ok(tokens)
    }

    /// Adds the tokens of `**`, which stands for components if it is one, and else for text within one.
    fn two_stars(&mut self, tokens: &mut Vec<Token>, before: Option<char>, is_inner: bool) {
        let is_end = match self.rest.peek() {
            None => true,
            Some(next) => is_inner && matches!(next, ',' | '}'),
        };
        let has_slash = self.rest.peek() == Some(&'/');
        if tokens.is_empty() {
            if has_slash {
                self.next();
                tokens.push(Token::ComponentsBefore);
            } else if is_end {
                tokens.push(Token::All);
            } else {
                tokens.push(Token::Star);
            }
            return;
        }
        if before != Some('/') || !(is_end || has_slash) {
            tokens.push(Token::Star);
            return;
        }
        if has_slash {
            self.next();
        }
        // The slash before belongs to the components.
        match tokens.last_mut() {
            Some(Token::ComponentsBefore | Token::ComponentsAfter) => {}
            Some(last) => *last = if is_end { Token::ComponentsAfter } else { Token::ComponentsBetween },
            None => unreachable!("there are tokens before"),
        }
    }

    fn alternatives(&mut self) -> Result<Vec<Vec<Token>>, &'static str> {
        let mut alternatives = Vec::new();
        loop {
            let tokens = self.tokens(true)?;
            // An empty alternative is none: `{,a}` is `a`.
            if !tokens.is_empty() {
                alternatives.push(tokens);
            }
            match self.next() {
                Some(',') => {}
                Some(_) => return Ok(alternatives),
                None => return Err("has a { without }"),
            }
        }
    }

    fn class(&mut self) -> Result<Class, &'static str> {
        const UNCLOSED: &str = "has a [ without ]";
        let is_negated = self.skip('!') || self.skip('^');
        let mut ranges: Vec<(char, char)> = Vec::new();
        let mut is_range = false;
        let mut is_first = true;
        loop {
            let character = self.next().ok_or(UNCLOSED)?;
            match character {
                ']' if !is_first => break,
                '-' if !is_first && !is_range => is_range = true,
                '[' if !is_range && self.rest.peek() == Some(&':') => match self.named_class() {
                    Some(named) => ranges.extend(named),
                    None => ranges.push(('[', '[')),
                },
                character if is_range => {
                    is_range = false;
                    let last = ranges.last_mut().expect("a range has a beginning");
                    last.1 = character;
                    if last.1 < last.0 {
                        return Err("has a range in [] whose end is before its beginning");
                    }
                }
                character => ranges.push((character, character)),
            }
            is_first = false;
        }
        if is_range {
            ranges.push(('-', '-'));
        }
        Ok(Class::Ranges { ranges: ranges.into(), is_negated, has_components: self.has_components })
    }

    /// Reads the rest of a named class, such as `[:digit:]`. Reads nothing if there is none.
    fn named_class(&mut self) -> Option<&'static [(char, char)]> {
        let rest: String = self.rest.clone().skip(1).take(8).collect();
        let (name, _) = rest.split_once(":]")?;
        let ranges: &'static [(char, char)] = match name {
            "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
            "alpha" => &[('A', 'Z'), ('a', 'z')],
            "blank" => &[('\t', '\t'), (' ', ' ')],
            "cntrl" => &[('\0', '\x1f'), ('\x7f', '\x7f')],
            "digit" => &[('0', '9')],
            "graph" => &[('!', '~')],
            "lower" => &[('a', 'z')],
            "print" => &[(' ', '~')],
            "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
            "space" => &[('\t', '\r'), (' ', ' ')],
            "upper" => &[('A', 'Z')],
            "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
            _ => return None,
        };
        for _ in 0..name.len() + 3 {
            self.next();
        }
        Some(ranges)
    }
}
