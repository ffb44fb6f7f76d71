//! Channels of a port-forward over a WebSocket connection, protocol `v4.channel.k8s.io`: the first byte of each message
//! is the number of its channel. The first two bytes of each channel are the port. Pure.

use bytes::{Buf as _, Bytes};

use super::ForwardError;
use super::frame::{Frame, Opcode};

/// Channel of the bytes to and from the port.
pub(super) const DATA_CHANNEL: u8 = 0;

/// Channel on which the kubelet reports that the port cannot be reached.
const ERROR_CHANNEL: u8 = 1;

/// Content of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// Bytes from the port.
    Data(Bytes),
    /// Request of the server for a sign of life with the same payload.
    Ping(Bytes),
    /// End of the connection.
    Closed,
    /// Nothing to act on.
    Nothing,
}

/// State of the channels of one port.
#[derive(Debug)]
pub(super) struct Channels {
    port: [u8; 2],
    /// Number of bytes of the port that each channel has begun with.
    header_bytes: [usize; 2],
    /// Channel of a message some of whose frames are still to come.
    unfinished: Option<usize>,
}

// === impl Channels ===

impl Channels {
    pub(super) fn new(port: u16) -> Self {
        Self { port: port.to_le_bytes(), header_bytes: [0; 2], unfinished: None }
    }

    /// Interprets a frame. Fails with what the kubelet reports about the port.
    pub(super) fn receive(&mut self, frame: Frame) -> Result<Event, ForwardError> {
        let Frame { opcode, is_final, mut payload } = frame;
        let channel = match opcode {
            Opcode::Ping => return Ok(Event::Ping(payload)),
            Opcode::Pong => return Ok(Event::Nothing),
            Opcode::Close => return Ok(Event::Closed),
            Opcode::Text => return Err(ForwardError::Protocol("a message of text")),
            Opcode::Continuation => self.unfinished.take(),
            Opcode::Binary if self.unfinished.is_some() => None,
            Opcode::Binary => match payload.try_get_u8() {
                Ok(channel) => Some(usize::from(channel)),
                // A message without a channel says nothing; kubelets of other versions may send some as a sign of life.
                Err(_) if is_final => return Ok(Event::Nothing),
                Err(_) => None,
            },
        };
        let channel = channel.ok_or(ForwardError::Protocol("a frame out of order"))?;
        self.unfinished = (!is_final).then_some(channel);
        let header_bytes = self.header_bytes.get_mut(channel);
        let header_bytes = header_bytes.ok_or(ForwardError::Protocol("a message of an unknown channel"))?;
        while let Some(expected) = self.port.get(*header_bytes)
            && let Ok(byte) = payload.try_get_u8()
        {
            if byte != *expected {
                return Err(ForwardError::Protocol("a channel of another port"));
            }
            *header_bytes += 1;
        }
        if payload.is_empty() {
            Ok(Event::Nothing)
        } else if channel == usize::from(ERROR_CHANNEL) {
            Err(ForwardError::Pod(String::from_utf8_lossy(&payload).into_owned()))
        } else {
            Ok(Event::Data(payload))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: Opcode, is_final: bool, payload: &'static [u8]) -> Frame {
        Frame { opcode, is_final, payload: Bytes::from_static(payload) }
    }

    fn message(payload: &'static [u8]) -> Frame {
        frame(Opcode::Binary, true, payload)
    }

    #[test]
    fn data_follows_the_port() {
        let mut channels = Channels::new(8090);
        for payload in [&[0, 0x9a, 0x1f][..], &[1, 0x9a, 0x1f]] {
            assert_eq!(channels.receive(message(payload)).unwrap(), Event::Nothing);
        }
        assert_eq!(channels.receive(message(b"\0HTTP")).unwrap(), Event::Data("HTTP".into()));
        let parts = [
            (frame(Opcode::Binary, false, b"\0a"), Event::Data("a".into())),
            (frame(Opcode::Ping, true, b"?"), Event::Ping("?".into())),
            (frame(Opcode::Continuation, false, b"b"), Event::Data("b".into())),
            (frame(Opcode::Continuation, true, b"c"), Event::Data("c".into())),
            (frame(Opcode::Pong, true, b""), Event::Nothing),
            (frame(Opcode::Close, true, b"\x03\xe8"), Event::Closed),
        ];
        for (frame, event) in parts {
            assert_eq!(channels.receive(frame).unwrap(), event);
        }
    }

    #[test]
    fn the_port_may_arrive_in_parts_and_with_data() {
        let mut channels = Channels::new(0x0102);
        assert_eq!(channels.receive(message(&[0, 2])).unwrap(), Event::Nothing);
        assert_eq!(channels.receive(message(&[0, 1, 7])).unwrap(), Event::Data(Bytes::from_static(&[7])));
    }

    #[test]
    fn a_report_of_the_kubelet_is_an_error() {
        let mut channels = Channels::new(8090);
        assert_eq!(channels.receive(message(&[1, 0x9a, 0x1f])).unwrap(), Event::Nothing);
        let error = channels.receive(message(b"\x01connection refused")).unwrap_err();
        assert!(matches!(error, ForwardError::Pod(text) if text == "connection refused"));
    }

    #[test]
    fn other_messages_are_refused() {
        for frames in [
            vec![message(&[0, 0x9b])],
            vec![message(&[2, 0x9a, 0x1f])],
            vec![frame(Opcode::Text, true, b"\0")],
            vec![frame(Opcode::Continuation, true, b"a")],
            vec![frame(Opcode::Binary, false, b"\0"), message(b"\0")],
            vec![frame(Opcode::Binary, false, b"")],
        ] {
            let mut channels = Channels::new(8090);
            let result: Result<Vec<_>, _> = frames.into_iter().map(|frame| channels.receive(frame)).collect();
            assert!(matches!(result, Err(ForwardError::Protocol(_))), "{result:?}");
        }
    }
}
