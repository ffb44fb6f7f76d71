//! The one line in which the stub says why it ends.
//!
//! One line whatever the arguments contain, and written at once, so that a kubelet shows it as the container's message.
//! Knows nothing of what went wrong; main.rs puts the parts together.

use core::ffi::CStr;

use crate::sys::{self, Errno};

/// A part of the line.
#[derive(Clone, Copy)]
pub(crate) enum Fragment<'a> {
    /// Words.
    Text(&'a str),
    /// An argument of the program or a file's name, which may be anything but one must see it as one.
    Name(&'a CStr),
    /// What the kernel said.
    Code(Errno),
    /// A digest, in the OCI's form.
    Digest(&'a [u8; 32]),
    /// A number.
    Number(u64),
}

/// As much as a kubelet reads of a log to make a message of it. What is longer loses its end.
const MAX_LINE_BYTES: usize = 2048;

/// Says the parts, and gives the exit code back.
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
                    // A line break would be a second line; other characters that move a cursor do no good either.
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

    /// Leaves room for the end of the line.
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
