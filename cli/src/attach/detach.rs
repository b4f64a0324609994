//! Finds the keys that leave a container in what is typed. Does no I/O.

/// What came of reading the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scanned {
    /// It ended.
    Ended,
    /// The keys were pressed.
    Detached,
}

/// Holds keys back as long as they may be the beginning of the sequence.
pub(super) struct Detach {
    keys: Vec<u8>,
    matched: usize,
}

impl Detach {
    /// Without keys, everything passes.
    pub(super) fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// Returns what is to be passed on, and whether the sequence is complete.
    pub(super) fn scan(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        if self.keys.is_empty() {
            return (typed.to_vec(), false);
        }
        let mut passed = Vec::with_capacity(typed.len());
        for byte in typed {
            if self.keys.get(self.matched) == Some(byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return (passed, true);
                }
                continue;
            }
            passed.extend(self.keys.iter().take(self.matched));
            self.matched = usize::from(self.keys.first() == Some(byte));
            if self.matched == 0 {
                passed.push(*byte);
            } else if self.keys.len() == 1 {
                return (passed, true);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: u8 = 16;
    const Q: u8 = 17;

    fn scan(pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut detach = Detach::new(vec![P, Q]);
        let mut all = Vec::new();
        for piece in pieces {
            let (bytes, detached) = detach.scan(piece);
            all.extend(bytes);
            if detached {
                return (all, true);
            }
        }
        (all, false)
    }

    #[test]
    fn the_sequence_leaves_even_if_it_comes_in_pieces() {
        assert_eq!(scan(&[b"ls", &[P], &[Q], b"never"]), (b"ls".to_vec(), true));
    }

    #[test]
    fn half_a_sequence_is_passed_on_with_what_follows() {
        assert_eq!(scan(&[&[P], b"x"]), (vec![P, b'x'], false));
        assert_eq!(scan(&[&[P, P, Q]]), (vec![P], true));
    }

    #[test]
    fn without_keys_everything_passes() {
        let mut detach = Detach::new(Vec::new());
        assert_eq!(detach.scan(&[P, Q]), (vec![P, Q], false));
    }

    #[test]
    fn a_single_key_leaves() {
        let mut detach = Detach::new(vec![b'a']);
        assert_eq!(detach.scan(b"ba"), (b"b".to_vec(), true));
    }
}
