//! Errors on one line of bounded length, for logs and for the terminal. Pure; used by both clients of the API
//! server.
//!
//! An answer of the API server may quote whole objects, and a decoder's error what it could not decode.

use std::error::Error;
use std::fmt::Write as _;

use kube::core::Status;

/// Length of the longest line, in characters: enough for a refusal of Kubernetes with its reason.
const LINE: usize = 400;

/// Writes an error with its causes on one line, each cause once.
pub(crate) fn one_line(error: &(dyn Error + 'static)) -> String {
    cut(&with_causes(error))
}

/// Writes an error with its causes, each once, whatever its length.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let (words, cause) = match answer(error) {
            // As kubectl tells it. kube shows all its parts, and then again.
            Some(status) => (format!("{} ({} {})", status.message, status.code, status.reason), None),
            None => (error.to_string(), error.source()),
        };
        // Some errors tell their causes by themselves.
        if !text.contains(&words) {
            let joint = if text.is_empty() { "" } else { ": " };
            text = text + joint + &words;
        }
        next = cause;
    }
    text
}

/// Writes a text on one line, with control characters escaped, and leaves out its middle if it is too long:
/// what failed stands at the beginning, and why at the end.
pub(crate) fn cut(text: &(impl ToString + ?Sized)) -> String {
    let text = text.to_string();
    let mut line = String::with_capacity(text.len().min(LINE));
    let length = text.chars().count();
    let (head, tail) = if length > LINE { (LINE / 2, LINE / 2) } else { (length, 0) };
    for (place, character) in text.chars().enumerate() {
        if place == head && tail > 0 {
            let _ = write!(line, " [{} characters left out] ", length - head - tail);
        }
        if place >= head && place < length - tail {
            continue;
        }
        match character {
            '\n' | '\t' => line.push(' '),
            '\r' => {}
            character if character.is_control() => line.extend(character.escape_unicode()),
            character => line.push(character),
        }
    }
    line
}

/// Returns the API server's answer, if that is the error.
fn answer<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Status> {
    let boxed = error.downcast_ref::<Box<kube::Error>>().map(AsRef::as_ref);
    match boxed.or_else(|| error.downcast_ref()) {
        Some(kube::Error::Api(status)) => Some(status),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::{LINE, cut, one_line};

    #[test]
    fn a_list_of_thousands_of_objects_is_cut_to_a_line() {
        let list = "{\"kind\":\"NodeList\"}\n".repeat(30_000);
        let status = Status::failure(&format!("refused: {list}because"), "Invalid").with_code(422).boxed();
        let line = one_line(&kube::Error::Api(status));
        assert!(line.chars().count() < LINE + 50 && !line.contains('\n'), "{line}");
        assert!(line.starts_with("refused: ") && line.ends_with("because (422 Invalid)"), "{line}");
        let short = "ü".repeat(LINE);
        assert_eq!(cut(&short), short);
    }

    #[test]
    fn escape_sequences_reach_no_terminal() {
        assert_eq!(cut("a\u{1b}[2Jb\nc"), "a\\u{1b}[2Jb c");
    }

    #[test]
    fn an_answer_of_the_api_server_is_told_in_its_words() {
        let status = Status::failure("away", "ServiceUnavailable").with_code(503).boxed();
        assert_eq!(one_line(&kube::Error::Api(status)), "away (503 ServiceUnavailable)");
    }
}
