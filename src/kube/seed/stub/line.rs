//! The line in which the stub reports why it ends.
//!
//! Always one line, whatever the arguments contain, and written by one call, so that the kubelet shows it as
//! the container's message. `main.rs` decides on the content.

use core::ffi::CStr;

use crate::sys::{self, Errno};

/// Fragment of the line.
#[derive(Clone, Copy)]
pub(crate) enum Fragment<'a> {
    /// Text of the stub.
    Text(&'a str),
    /// An argument or a file name. Control characters are replaced.
    Name(&'a CStr),
    /// Error of a system call.
    Code(Errno),
    /// A digest, in OCI form.
    Digest(&'a [u8; 32]),
    /// A number, in decimal.
    Number(u64),
}

/// Length of the line at most: as much as a kubelet takes of a log as termination message. A longer line
/// loses its end.
const MAX_LINE_BYTES: usize = 2048;

/// Writes the fragments as one line, and returns the exit code.
pub(crate) fn fail(code: i32, parts: &[Fragment]) -> i32 {
    let mut line = Line { bytes: [0; MAX_LINE_BYTES], length: 0 };
    line.text("quinistry stub: ");
    for part in parts {
        line.part(*part);
    }
    line.end();
    code
}

struct Line {
    bytes: [u8; MAX_LINE_BYTES],
    length: usize,
}

impl Line {
    fn part(&mut self, part: Fragment) {
        match part {
            Fragment::Text(text) => self.text(text),
            Fragment::Name(name) => {
                for byte in name.to_bytes() {
                    // A line break would begin a second line, and other control characters could drive a
                    // terminal.
                    self.byte(if byte.is_ascii_control() { b'?' } else { *byte });
                }
            }
            Fragment::Code(errno) => {
                self.text("errno ");
                self.number(errno.0 as u64);
                self.text(errno.name());
            }
            Fragment::Digest(digest) => {
                self.text("sha256:");
                for byte in digest {
                    self.hexadecimal(byte >> 4);
                    self.hexadecimal(byte & 15);
                }
            }
            Fragment::Number(number) => self.number(number),
        }
    }

    fn text(&mut self, text: &str) {
        for byte in text.as_bytes() {
            self.byte(*byte);
        }
    }

    fn hexadecimal(&mut self, digit: u8) {
        self.byte(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
    }

    fn number(&mut self, number: u64) {
        if number >= 10 {
            self.number(number / 10);
        }
        self.byte(b'0' + (number % 10) as u8);
    }

    /// Adds a byte, unless only the line break still fits.
    fn byte(&mut self, byte: u8) {
        if self.length < MAX_LINE_BYTES - 1 {
            self.bytes[self.length] = byte;
            self.length += 1;
        }
    }

    fn end(mut self) {
        self.bytes[self.length.min(MAX_LINE_BYTES - 1)] = b'\n';
        if let Some(line) = self.bytes.get(..=self.length) {
            sys::write_stderr(line);
        }
    }
}
