//! The framing of stdout and stderr in one stream: eight bytes of header
//! (kind, three zeros, big-endian length), then the payload. Only encodes and
//! decodes; reading and writing belong to the caller.

/// The size of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 8;

/// Whose bytes a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// Echoed input; docker writes it to stdout.
    Stdin,
    /// The process's output.
    Stdout,
    /// The process's errors.
    Stderr,
    /// An error of the service, not of the process.
    System,
}

impl StreamKind {
    fn byte(self) -> u8 {
        match self {
            Self::Stdin => 0,
            Self::Stdout => 1,
            Self::Stderr => 2,
            Self::System => 3,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Stdin),
            1 => Some(Self::Stdout),
            2 => Some(Self::Stderr),
            3 => Some(Self::System),
            _ => None,
        }
    }
}

/// Returns the header of a frame with `len` bytes of payload.
#[must_use]
pub fn frame_header(kind: StreamKind, len: u32) -> [u8; FRAME_HEADER_BYTES] {
    let [a, b, c, d] = len.to_be_bytes();
    [kind.byte(), 0, 0, 0, a, b, c, d]
}

/// A piece of one stream: a frame's payload, or as much of it as has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Whose bytes these are.
    pub kind: StreamKind,
    /// The bytes.
    pub payload: &'a [u8],
}

/// Takes frames out of bytes that arrive in pieces of any size. Holds at most
/// one header, never a payload.
#[derive(Debug, Default)]
pub struct Demux {
    header: [u8; FRAME_HEADER_BYTES],
    header_len: usize,
    /// The frame that is being passed through, and what is missing of it.
    open: Option<(StreamKind, u32)>,
}

/// The stream is not framed, or broken: the first byte of a header is no kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unrecognized stream kind {0} in a multiplexed stream")]
pub struct UnknownKind(pub u8);

impl Demux {
    /// Passes every piece of payload in `bytes` to `sink`, in order.
    ///
    /// # Errors
    /// [`UnknownKind`] for a broken header; the error of `sink`.
    pub fn feed<E: From<UnknownKind>>(
        &mut self,
        mut bytes: &[u8],
        mut sink: impl FnMut(Frame<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            if let Some((kind, missing)) = self.open {
                let wanted = usize::try_from(missing).unwrap_or(usize::MAX);
                let (payload, rest) = bytes.split_at(wanted.min(bytes.len()));
                bytes = rest;
                let taken = u32::try_from(payload.len()).unwrap_or(missing);
                let missing = missing.saturating_sub(taken);
                self.open = (missing > 0).then_some((kind, missing));
                if !payload.is_empty() {
                    sink(Frame { kind, payload })?;
                }
                if missing > 0 {
                    return Ok(());
                }
            }
            let Some((first, rest)) = bytes.split_first() else {
                return Ok(());
            };
            bytes = rest;
            if let Some(slot) = self.header.get_mut(self.header_len) {
                *slot = *first;
            }
            self.header_len += 1;
            if self.header_len == FRAME_HEADER_BYTES {
                self.header_len = 0;
                let [kind, _, _, _, a, b, c, d] = self.header;
                let len = u32::from_be_bytes([a, b, c, d]);
                let kind = StreamKind::from_byte(kind).ok_or(UnknownKind(kind))?;
                self.open = (len > 0).then_some((kind, len));
            }
        }
    }

    /// Says whether the stream may end here: not within a frame.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        self.header_len == 0 && self.open.is_none()
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use proptest::prelude::*;

    fn collect(pieces: &[&[u8]]) -> Result<Vec<(u8, Vec<u8>)>, UnknownKind> {
        let mut demux = Demux::default();
        let mut out: Vec<(u8, Vec<u8>)> = Vec::new();
        for piece in pieces {
            demux.feed(piece, |frame| {
                match out.last_mut() {
                    Some((kind, bytes)) if *kind == frame.kind.byte() => {
                        bytes.extend_from_slice(frame.payload);
                    }
                    _ => out.push((frame.kind.byte(), frame.payload.to_vec())),
                }
                Ok::<(), UnknownKind>(())
            })?;
        }
        assert!(demux.is_between_frames());
        Ok(out)
    }

    #[test]
    fn an_unknown_kind_is_an_error() {
        let error = collect(&[b"hello, world"]).unwrap_err();
        assert_eq!(error, UnknownKind(b'h'));
    }

    #[test]
    fn an_empty_frame_carries_nothing() {
        let mut bytes = frame_header(StreamKind::Stdout, 0).to_vec();
        bytes.extend(frame_header(StreamKind::Stderr, 1));
        bytes.push(b'e');
        assert_eq!(collect(&[&bytes]).unwrap(), vec![(2, b"e".to_vec())]);
    }

    proptest! {
        #[test]
        fn frames_cut_anywhere_are_put_together_again(
            frames in prop::collection::vec((1u8..3, prop::collection::vec(any::<u8>(), 1..40)), 0..12),
            cut in 1usize..17,
        ) {
            let mut wire = Vec::new();
            let mut expected: Vec<(u8, Vec<u8>)> = Vec::new();
            for (kind, payload) in &frames {
                let kind = StreamKind::from_byte(*kind).unwrap();
                wire.extend(frame_header(kind, u32::try_from(payload.len()).unwrap()));
                wire.extend(payload);
                match expected.last_mut() {
                    Some((last, bytes)) if *last == kind.byte() => bytes.extend(payload),
                    _ => expected.push((kind.byte(), payload.clone())),
                }
            }
            let pieces: Vec<&[u8]> = wire.chunks(cut).collect();
            prop_assert_eq!(collect(&pieces).unwrap(), expected);
        }
    }
}
