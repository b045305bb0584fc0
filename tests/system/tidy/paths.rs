//! Reads the paths out of Rust text: every `use`, expanded, and every `a::b` in between.
//!
//! It knows comments, literals, `use` trees and inline modules, and nothing else of the language:
//! enough to see what a module looks at, without a compiler.

/// A path in a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// From 1.
    pub(super) line: usize,
    /// Inline modules around it, outermost first.
    pub(super) inside: Vec<String>,
    /// Its segments.
    pub(super) path: Vec<String>,
    /// From a `use` or `extern crate`, where a single segment names a crate too.
    pub(super) imported: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    /// `::`
    Colons,
    Sign(char),
}

/// All paths of a source, in its order.
pub(super) fn paths(source: &str) -> Vec<Found> {
    let tokens = tokens(&without_literals(source));
    let mut found = Vec::new();
    // One entry an open brace: the inline module's name where it opens one.
    let mut open: Vec<Option<String>> = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let line = tokens[at].0;
        let inside: Vec<String> = open.iter().flatten().cloned().collect();
        match (word(&tokens, at), word(&tokens, at + 1)) {
            (Some("mod"), Some(name)) if sign(&tokens, at + 2) == Some('{') => {
                open.push(Some(name.into()));
                at += 3;
            }
            (Some("extern"), Some("crate")) => {
                let path = word(&tokens, at + 2).map(Into::into).into_iter().collect();
                found.push(Found { line, inside, path, imported: true });
                at += 3;
            }
            // `use<'a>` is the capturing bound of an `impl`, not an import.
            (Some("use"), _) if sign(&tokens, at + 1) != Some('<') => {
                let mut paths = Vec::new();
                at = tree(&tokens, at + 1, &[], &mut paths);
                found.extend(paths.into_iter().map(|(line, path)| Found {
                    line,
                    inside: inside.clone(),
                    path,
                    imported: true,
                }));
            }
            (Some(_), _) => {
                let (path, next) = path_from(&tokens, at);
                let continues = at > 0 && tokens[at - 1].1 == Token::Colons;
                if !continues {
                    found.push(Found { line, inside, path, imported: false });
                }
                at = next;
            }
            (None, _) => {
                match tokens[at].1 {
                    Token::Sign('{') => open.push(None),
                    Token::Sign('}') => drop(open.pop()),
                    Token::Word(_) | Token::Colons | Token::Sign(_) => {}
                }
                at += 1;
            }
        }
    }
    found
}

fn word(tokens: &[(usize, Token)], at: usize) -> Option<&str> {
    match tokens.get(at) {
        Some((_, Token::Word(word))) => Some(word),
        _ => None,
    }
}

fn sign(tokens: &[(usize, Token)], at: usize) -> Option<char> {
    match tokens.get(at) {
        Some((_, Token::Sign(sign))) => Some(*sign),
        _ => None,
    }
}

fn is_colons(tokens: &[(usize, Token)], at: usize) -> bool {
    tokens.get(at).is_some_and(|(_, token)| *token == Token::Colons)
}

/// `a::b::c` from its first word, and where it ends.
fn path_from(tokens: &[(usize, Token)], mut at: usize) -> (Vec<String>, usize) {
    let mut path = Vec::new();
    while let Some(segment) = word(tokens, at) {
        path.push(segment.into());
        at += 1;
        if !is_colons(tokens, at) || word(tokens, at + 1).is_none() {
            break;
        }
        at += 1;
    }
    (path, at)
}

/// Expands one use tree that begins at `at`; where it ends.
fn tree(
    tokens: &[(usize, Token)],
    mut at: usize,
    prefix: &[String],
    out: &mut Vec<(usize, Vec<String>)>,
) -> usize {
    let mut path = prefix.to_vec();
    while let Some((line, token)) = tokens.get(at) {
        match token {
            Token::Colons => at += 1,
            Token::Word(segment) => {
                path.push(segment.clone());
                at += 1;
                if !is_colons(tokens, at) {
                    out.push((*line, path));
                    return if word(tokens, at) == Some("as") { at + 2 } else { at };
                }
            }
            Token::Sign('{') => {
                at += 1;
                while at < tokens.len() && sign(tokens, at) != Some('}') {
                    let next = tree(tokens, at, &path, out);
                    // Whatever is not a tree (a comma) is stepped over.
                    at = if next == at { at + 1 } else { next };
                }
                return at + 1;
            }
            Token::Sign('*') => {
                out.push((*line, path));
                return at + 1;
            }
            Token::Sign(_) => return at,
        }
    }
    at
}

fn tokens(text: &str) -> Vec<(usize, Token)> {
    let mut tokens = Vec::new();
    for (line, text) in text.lines().enumerate() {
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let length = if first.is_alphanumeric() || first == '_' {
                let end =
                    rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
                tokens.push((line + 1, Token::Word(rest[..end].into())));
                end
            } else if rest.starts_with("::") {
                tokens.push((line + 1, Token::Colons));
                2
            } else {
                if !first.is_whitespace() {
                    tokens.push((line + 1, Token::Sign(first)));
                }
                first.len_utf8()
            };
            rest = &rest[length..];
        }
    }
    tokens
}

/// The source with comments and literals blanked; lines stay where they are.
fn without_literals(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let after_word = out.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let length =
            comment(rest).or_else(|| raw_string(rest, after_word)).or_else(|| literal(rest));
        match length {
            Some(length) => {
                out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
                rest = &rest[length..];
            }
            None => {
                out.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
}

fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    let mut at = rest.strip_prefix("/*").map(|_| 2)?;
    let mut depth = 1;
    while depth > 0 {
        let tail = &rest[at..];
        let (open, close) = (tail.find("/*"), tail.find("*/"));
        match (open, close) {
            (Some(o), Some(c)) if o < c => {
                depth += 1;
                at += o + 2;
            }
            (_, Some(c)) => {
                depth -= 1;
                at += c + 2;
            }
            _ => return Some(rest.len()),
        }
    }
    Some(at)
}

/// `r"..."`, `r#"..."#`, `br"..."`; not the raw identifier `r#word`.
fn raw_string(rest: &str, after_word: bool) -> Option<usize> {
    if after_word {
        return None;
    }
    let begin = ["r", "br", "cr"].into_iter().find_map(|p| rest.strip_prefix(p))?;
    let hashes = begin.len() - begin.trim_start_matches('#').len();
    let body = begin[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = body.find(&close).map_or(body.len(), |e| e + close.len());
    Some(rest.len() - body.len() + end)
}

/// A string or a character; a lifetime is neither.
fn literal(rest: &str) -> Option<usize> {
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let mut characters = rest.char_indices().skip(1);
    if quote == '\'' {
        let (first, second) = (rest.chars().nth(1)?, rest.chars().nth(2));
        if first != '\\' && second != Some('\'') {
            return None;
        }
    }
    while let Some((at, character)) = characters.next() {
        if character == '\\' {
            characters.next();
        } else if character == quote {
            return Some(at + 1);
        }
    }
    Some(rest.len())
}

#[test]
fn paths_are_read_out_of_trees_modules_and_code() {
    let source = r##"
        //! [`crate::publish`] in a comment is only words
        use crate::{a::{b, c as d}, e::*};
        /* use crate::nothing; /* nested */ */
        fn f<'a>(x: &'a str) -> impl Iterator<Item = u8> + use<'a> {
            let _ = ("crate::s", r#"crate::r"#, '"', '\'', b"crate::b");
            crate::g::h::<u8>(x.image)
        }
        mod tests { use super::*; fn t() { super::super::k(); } }
        extern crate sled;
    "##;
    let found: Vec<String> = paths(source)
        .iter()
        .filter(|f| f.imported || f.path.len() > 1)
        .map(|f| {
            format!(
                "{}{}:{}",
                f.inside.iter().map(|m| format!("{m}>")).collect::<String>(),
                f.path.join("::"),
                f.line
            )
        })
        .collect();
    let expected = [
        "crate::a::b:3",
        "crate::a::c:3",
        "crate::e:3",
        "crate::g::h:7",
        "tests>super:9",
        "tests>super::super::k:9",
        "sled:10",
    ];
    assert_eq!(found, expected);
}
