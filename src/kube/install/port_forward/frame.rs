//! Frames of a WebSocket connection, as a client sends and receives them (RFC 6455, section 5). Pure.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::ForwardError;

/// Length of the longest frame that is received, in bytes. Kubelets send 32 KiB at once.
const MAX_FRAME_BYTES: u64 = 1024 * 1024;

/// Length of the longest payload of a control frame, in bytes (RFC 6455, section 5.5).
const MAX_CONTROL_BYTES: u64 = 125;

/// Bit of the last frame of a message.
const FINAL_BIT: u8 = 0x80;

/// Bit of a masked payload. Clients mask all payloads, servers none.
const MASK_BIT: u8 = 0x80;

/// Length that says that two bytes with the length follow.
const TWO_LENGTH_BYTES: u8 = 126;

/// Length that says that eight bytes with the length follow.
const EIGHT_LENGTH_BYTES: u8 = 127;

/// Kind of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// Frame of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) opcode: Opcode,
    /// True for the last frame of a message.
    pub(super) is_final: bool,
    pub(super) payload: Bytes,
}

/// Reader of frames from received bytes.
#[derive(Debug, Default)]
pub(super) struct FrameReader {
    /// Bytes that were received and not read. Has at most one frame and what one read of the connection gives.
    pub(super) buffer: BytesMut,
}

/// Appends a final frame to `out`. The payload consists of `prefix` and `data`.
pub(super) fn encode(opcode: Opcode, (prefix, data): (&[u8], &[u8]), mask: [u8; 4], out: &mut BytesMut) {
    let length = prefix.len() + data.len();
    out.reserve(length + 14);
    out.put_u8(FINAL_BIT | opcode as u8);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length), _) if length < TWO_LENGTH_BYTES => out.put_u8(MASK_BIT | length),
        (_, Ok(length)) => {
            out.put_u8(MASK_BIT | TWO_LENGTH_BYTES);
            out.put_u16(length);
        }
        _ => {
            out.put_u8(MASK_BIT | EIGHT_LENGTH_BYTES);
            out.put_u64(length as u64);
        }
    }
    out.put_slice(&mask);
    let begin = out.len();
    out.put_slice(prefix);
    out.put_slice(data);
    apply_mask(&mut out[begin..], mask);
}

/// Masks a payload, eight bytes at a time. This crate is compiled to be small: the compiler would leave a loop over
/// single bytes as it is, which takes 1.4 seconds for each gigabyte.
fn apply_mask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

// === impl FrameReader ===

impl FrameReader {
    /// Returns the next frame; `None` if more bytes must be received first.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, ForwardError> {
        let invalid = |why| Err(ForwardError::Protocol(why));
        let mut rest = &self.buffer[..];
        let (Ok(first), Ok(second)) = (rest.try_get_u8(), rest.try_get_u8()) else { return Ok(None) };
        let opcode = match first & 0x0f {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return invalid("a frame of an unknown kind"),
        };
        if first & 0x70 != 0 {
            return invalid("a frame with an extension that was not agreed on");
        }
        if second & MASK_BIT != 0 {
            return invalid("a masked frame");
        }
        let length = match second {
            TWO_LENGTH_BYTES => rest.try_get_u16().map(u64::from),
            EIGHT_LENGTH_BYTES => rest.try_get_u64(),
            length => Ok(u64::from(length)),
        };
        let Ok(length) = length else { return Ok(None) };
        let is_final = first & FINAL_BIT != 0;
        let is_control = first & 0x08 != 0;
        if is_control && (!is_final || length > MAX_CONTROL_BYTES) {
            return invalid("a control frame in parts");
        }
        if length > MAX_FRAME_BYTES {
            return invalid("a frame of more than 1 MiB");
        }
        let length = usize::try_from(length).expect("the length is below 1 MiB");
        if rest.len() < length {
            return Ok(None);
        }
        self.buffer.advance(self.buffer.len() - rest.len());
        Ok(Some(Frame { opcode, is_final, payload: self.buffer.split_to(length).freeze() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a frame as a server sends it.
    fn of_server(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            length @ 0..126 => bytes.put_u8(u8::try_from(length).unwrap()),
            length @ 126..65536 => {
                bytes.put_u8(126);
                bytes.put_u16(u16::try_from(length).unwrap());
            }
            length => {
                bytes.put_u8(127);
                bytes.put_u64(length as u64);
            }
        }
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn a_frame_is_masked_as_in_the_example_of_the_rfc() {
        let mut out = BytesMut::new();
        encode(Opcode::Text, (b"He", b"llo"), [0x37, 0xfa, 0x21, 0x3d], &mut out);
        assert_eq!(out[..], [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn each_byte_is_masked_by_the_byte_of_its_place() {
        let (mask, data) = ([1, 2, 4, 8], vec![0x40; 21]);
        for length in 0..data.len() {
            let mut out = BytesMut::new();
            encode(Opcode::Binary, (&[0x40], &data[..length]), mask, &mut out);
            let masked = [0x41, 0x42, 0x44, 0x48].into_iter().cycle().take(length + 1);
            assert_eq!(out[6..], masked.collect::<Vec<u8>>()[..], "{length}");
        }
    }

    #[test]
    fn lengths_have_the_shortest_form() {
        for (length, header) in [(125, 6), (126, 8), (65535, 8), (65536, 14)] {
            let mut out = BytesMut::new();
            encode(Opcode::Binary, (&[0], &vec![7; length - 1]), [1, 2, 3, 4], &mut out);
            assert_eq!(out.len(), header + length);
        }
    }

    #[test]
    fn frames_are_read_however_their_bytes_arrive() {
        let long = vec![2; 70_000];
        let payloads: [&[u8]; 4] = [b"", b"ab", &[1; 300], &long];
        let sent: Vec<u8> = payloads.iter().flat_map(|payload| of_server(0x82, payload)).collect();
        for step in [1, 7, sent.len()] {
            let mut reader = FrameReader::default();
            let mut found = Vec::new();
            for piece in sent.chunks(step) {
                reader.buffer.extend_from_slice(piece);
                while let Some(frame) = reader.next().unwrap() {
                    assert_eq!((frame.opcode, frame.is_final), (Opcode::Binary, true));
                    found.push(frame.payload);
                }
            }
            assert_eq!(found, payloads, "{step}");
        }
    }

    #[test]
    fn invalid_frames_are_refused_before_their_payload_arrives() {
        for bytes in [
            &[0x83, 0][..],
            &[0xc2, 0],
            &[0x82, 0x80],
            &[0x09, 0],
            &[0x89, 126, 0, 200],
            &[0x82, 127, 0, 0, 0, 0, 0, 0x10, 0, 1],
        ] {
            let mut reader = FrameReader { buffer: bytes.into() };
            assert!(matches!(reader.next(), Err(ForwardError::Protocol(_))), "{bytes:?}");
        }
    }
}
