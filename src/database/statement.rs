//! SQL text taken apart into statements and words, as far as PostgreSQL's own lexer goes: enough to send statements one by one and to
//! recognise dangerous ones, and no grammar.

/// A word of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Token {
    /// A keyword or an unquoted name, in lower case.
    Word(String),
    /// A quoted name, without its quotes.
    Name(String),
    /// A text: 'x', E'x', $$x$$. Its content.
    Text(String),
    /// Anything else, one character.
    Symbol(char),
}

impl Token {
    /// Whether it is this unquoted word.
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(text) if text == word)
    }
    /// A name's or word's text.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Word(text) | Self::Name(text) => Some(text),
            _ => None,
        }
    }
}

/// A comment and the line where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// The line, from 1.
    pub line: usize,
    /// Its text without `--` or `/* */`.
    pub text: String,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The line of its first word, from 1.
    pub line: usize,
    /// Its text from its first word on, without the semicolon.
    pub text: String,
    /// Its words.
    pub tokens: Vec<Token>,
    /// Comments before and inside it.
    pub comments: Vec<Comment>,
}

impl Statement {
    /// Its first line, for messages.
    pub fn head(&self) -> String {
        let line = self.text.lines().next().unwrap_or_default().trim_end();
        let short: String = line.chars().take(80).collect();
        if short.len() < line.len() || self.text.lines().count() > 1 { format!("{short} …") } else { short }
    }
    /// Whether it begins with these words.
    pub fn starts(&self, words: &[&str]) -> bool {
        starts(&self.tokens, words)
    }
}

/// Whether the tokens begin with these words.
pub fn starts(tokens: &[Token], words: &[&str]) -> bool {
    tokens.len() >= words.len() && tokens.iter().zip(words).all(|(token, word)| token.is(word))
}

/// Takes a text apart. What is after the last semicolon is a statement too if there is more than comments in it.
pub fn split(sql: &str) -> Vec<Statement> {
    let mut splitter = Splitter { sql, at: 0, line: 1, statements: Vec::new(), current: Unfinished::default() };
    splitter.run();
    splitter.statements
}

#[derive(Default)]
struct Unfinished {
    start: Option<(usize, usize)>,
    tokens: Vec<Token>,
    comments: Vec<Comment>,
    /// Open parentheses: rules hold statements in them.
    parentheses: usize,
    /// Open BEGIN and CASE in a function's body that is not a text.
    blocks: usize,
}

struct Splitter<'a> {
    sql: &'a str,
    at: usize,
    line: usize,
    statements: Vec<Statement>,
    current: Unfinished,
}

impl Splitter<'_> {
    fn rest(&self) -> &str {
        &self.sql[self.at..]
    }

    /// Takes so many bytes.
    fn take(&mut self, bytes: usize) -> &str {
        let from = self.at;
        self.at += bytes;
        let text = &self.sql[from..self.at];
        self.line += text.matches('\n').count();
        &self.sql[from..self.at]
    }

    fn push(&mut self, from: (usize, usize), token: Token) {
        self.current.start.get_or_insert(from);
        self.current.tokens.push(token);
    }

    fn run(&mut self) {
        while let Some(next) = self.rest().chars().next() {
            let from = (self.at, self.line);
            if next.is_whitespace() || next == '\u{feff}' {
                self.take(next.len_utf8());
            } else if self.rest().starts_with("--") || self.rest().starts_with("/*") {
                self.comment();
            } else if next == ';' && self.current.parentheses == 0 && self.current.blocks == 0 {
                self.end();
                self.take(1);
            } else if next == '\'' {
                let text = self.quoted('\'', Escapes::None);
                self.push(from, Token::Text(text));
            } else if next == '"' {
                let name = self.quoted('"', Escapes::None);
                self.push(from, Token::Name(name));
            } else if let Some(text) = self.dollar_quoted() {
                self.push(from, Token::Text(text));
            } else if next.is_alphabetic() || next == '_' {
                self.word();
            } else {
                self.take(next.len_utf8());
                match next {
                    '(' => self.current.parentheses += 1,
                    ')' => self.current.parentheses = self.current.parentheses.saturating_sub(1),
                    _ => {}
                }
                self.push(from, Token::Symbol(next));
            }
        }
        self.end();
    }

    fn end(&mut self) {
        let current = std::mem::take(&mut self.current);
        if let Some((from, line)) = current.start {
            let text = self.sql[from..self.at].trim_end().to_owned();
            self.statements.push(Statement { line, text, tokens: current.tokens, comments: current.comments });
        }
    }

    fn comment(&mut self) {
        let line = self.line;
        let length =
            if self.rest().starts_with("--") { self.rest().find(['\n', '\r']).unwrap_or(self.rest().len()) } else { self.block_comment() };
        let text = self.take(length);
        let text = text.trim_start_matches("--").trim_start_matches("/*").trim_end_matches("*/").trim().to_owned();
        self.current.comments.push(Comment { line, text });
    }

    /// They nest.
    fn block_comment(&self) -> usize {
        let (text, mut at, mut depth) = (self.rest(), 0, 0usize);
        while at < text.len() {
            if text[at..].starts_with("/*") {
                (at, depth) = (at + 2, depth + 1);
            } else if text[at..].starts_with("*/") {
                (at, depth) = (at + 2, depth - 1);
                if depth == 0 {
                    return at;
                }
            } else {
                at += text[at..].chars().next().map_or(1, char::len_utf8);
            }
        }
        text.len()
    }

    /// A text in quotes, which are doubled inside it.
    fn quoted(&mut self, quote: char, escapes: Escapes) -> String {
        let (mut text, mut length) = (String::new(), 1);
        let mut letters = self.rest()[1..].chars().peekable();
        while let Some(letter) = letters.next() {
            length += letter.len_utf8();
            if letter == '\\' && escapes == Escapes::Backslash {
                if let Some(escaped) = letters.next() {
                    length += escaped.len_utf8();
                    text.push(escaped);
                }
            } else if letter == quote {
                if letters.next_if_eq(&quote).is_none() {
                    break;
                }
                length += 1;
                text.push(quote);
            } else {
                text.push(letter);
            }
        }
        self.take(length);
        text
    }

    fn dollar_quoted(&mut self) -> Option<String> {
        let after = self.rest().strip_prefix('$')?;
        let tag = &after[..after.find('$')?];
        let valid = tag.chars().all(|letter| letter.is_alphanumeric() || letter == '_') && !tag.starts_with(|c: char| c.is_ascii_digit());
        if !valid {
            return None;
        }
        let quote = format!("${tag}$");
        let inside = &self.rest()[quote.len()..];
        let (text, length) = match inside.find(&quote) {
            Some(end) => (inside[..end].to_owned(), end + 2 * quote.len()),
            None => (inside.to_owned(), self.rest().len()),
        };
        self.take(length);
        Some(text)
    }

    fn word(&mut self) {
        let from = (self.at, self.line);
        let rest = self.rest();
        let length = rest.find(|letter: char| !(letter.is_alphanumeric() || letter == '_' || letter == '$')).unwrap_or(rest.len());
        let word = rest[..length].to_lowercase();
        let quote_follows = rest[length..].starts_with('\'');
        self.take(length);
        if quote_follows && ["e", "b", "x", "n"].contains(&word.as_str()) {
            let escapes = if word == "e" { Escapes::Backslash } else { Escapes::None };
            let text = self.quoted('\'', escapes);
            return self.push(from, Token::Text(text));
        }
        // As psql does it: bodies in BEGIN ATOMIC … END hold statements with semicolons.
        let tokens = &self.current.tokens;
        let routine = tokens.first().is_some_and(|token| token.is("create"))
            && tokens.iter().take(4).any(|token| token.is("function") || token.is("procedure"));
        match word.as_str() {
            "begin" if routine => self.current.blocks += 1,
            "case" if self.current.blocks > 0 => self.current.blocks += 1,
            "end" if routine => self.current.blocks = self.current.blocks.saturating_sub(1),
            _ => {}
        }
        self.push(from, Token::Word(word));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Escapes {
    None,
    Backslash,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sql: &str) -> Vec<String> {
        split(sql).into_iter().map(|statement| statement.text).collect()
    }

    #[test]
    fn semicolons_end_statements_only_where_postgresql_sees_them() {
        assert_eq!(texts("SELECT 1; SELECT 2"), ["SELECT 1", "SELECT 2"]);
        assert_eq!(texts("-- a;\n/* b; /* c; */ d; */ ;;\n"), [""; 0]);
        for whole in [
            "SELECT ';', 'it''s;', E'\\';', \"a;\"\"b\"",
            "DO $$ BEGIN; $$",
            "DO $body$ a; $$ b; $$ c; $body$",
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END",
            "CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2)",
            "SELECT $1, a$b$c FROM größe",
        ] {
            assert_eq!(texts(&format!("{whole};\nSELECT 'after'")), [whole, "SELECT 'after'"], "{whole}");
        }
    }

    #[test]
    fn words_lines_and_comments_are_told() {
        let found = split("-- first\nCREATE  Table \"My\".T ( -- inside\n a int);\n\n/* second */ DROP TABLE t");
        assert_eq!((found[0].line, found[1].line), (2, 5));
        assert!(found[0].starts(&["create", "table"]) && found[0].tokens[2] == Token::Name("My".into()));
        let comments: Vec<(usize, &str)> =
            found.iter().flat_map(|statement| &statement.comments).map(|comment| (comment.line, comment.text.as_str())).collect();
        assert_eq!(comments, [(1, "first"), (2, "inside"), (5, "second")]);
        assert_eq!(found[0].head(), "CREATE  Table \"My\".T ( -- inside …");
        assert_eq!(found[1].head(), "DROP TABLE t");
    }

    #[test]
    fn a_text_without_an_end_ends_with_the_file() {
        for torn in ["SELECT 'a;", "SELECT $$a;", "/* a;", "SELECT \"a;", "SELECT E'a\\"] {
            assert!(split(torn).len() <= 1, "{torn}");
        }
    }
}
