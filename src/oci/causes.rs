//! Errors with their causes, for logs. Pure.

use std::error::Error;
use std::fmt;

use crate::escape::Escaped;

/// Error whose [`Display`](fmt::Display) shows its causes as well: from the outermost to the innermost, on one line, in
/// a harmless form. A cause that its error repeats is shown once.
#[derive(Clone, Copy, Debug)]
pub struct WithCauses<'a>(pub &'a (dyn Error + 'static));

// === impl WithCauses ===

impl fmt::Display for WithCauses<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.0.to_string();
        let mut next = self.0.source();
        while let Some(cause) = next {
            let own = cause.to_string();
            if !text.ends_with(&own) {
                text.push_str(": ");
                text.push_str(&own);
            }
            next = cause.source();
        }
        Escaped(&text).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug)]
    struct Failed(&'static str, Option<io::Error>);

    impl fmt::Display for Failed {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Failed {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_ref().map(|error| error as _)
        }
    }

    #[test]
    fn each_cause_is_shown_once_and_on_one_line() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        let connect = io::Error::other(Failed("tcp connect\nerror", Some(refused)));
        let error = Failed("PUT a: no answer", Some(io::Error::other(Failed("no answer", Some(connect)))));
        assert_eq!(
            WithCauses(&error).to_string(),
            r"PUT a: no answer: tcp connect\nerror: connection refused"
        );
    }
}
