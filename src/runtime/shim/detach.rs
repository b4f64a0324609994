//! The keys that end an attach: they must come one right after the other; what only began like them is passed on.

/// Watches typed bytes for the keys.
#[derive(Debug, Default)]
pub(super) struct DetachKeys {
    keys: Vec<u8>,
    /// How many of them have come.
    seen: usize,
}

/// What typed bytes come to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Typed {
    /// What goes to the process.
    pub(super) bytes: Vec<u8>,
    /// Whether the keys came; what was typed after them is lost.
    pub(super) detached: bool,
}

impl DetachKeys {
    pub(super) fn new(keys: Vec<u8>) -> Self {
        Self { keys, seen: 0 }
    }

    /// Sorts what was typed.
    pub(super) fn take(&mut self, typed: &[u8]) -> Typed {
        let mut bytes = Vec::with_capacity(typed.len());
        for &byte in typed {
            if self.keys.get(self.seen) == Some(&byte) {
                self.seen = self.seen.saturating_add(1);
                if self.seen == self.keys.len() {
                    return Typed {
                        bytes,
                        detached: true,
                    };
                }
                continue;
            }
            bytes.extend(self.keys.iter().take(self.seen));
            self.seen = 0;
            if self.keys.first() == Some(&byte) {
                self.seen = 1;
            } else {
                bytes.push(byte);
            }
        }
        Typed {
            bytes,
            detached: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(watch: &mut DetachKeys, text: &[u8]) -> (Vec<u8>, bool) {
        let typed = watch.take(text);
        (typed.bytes, typed.detached)
    }

    #[test]
    fn the_keys_detach_also_over_two_reads() {
        let mut watch = DetachKeys::new(vec![16, 17]);
        assert_eq!(typed(&mut watch, b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(typed(&mut watch, b"\x11later"), (vec![], true));
    }

    #[test]
    fn what_only_began_like_them_is_typed() {
        let mut watch = DetachKeys::new(vec![16, 17]);
        assert_eq!(typed(&mut watch, b"\x10x\x10"), (b"\x10x".to_vec(), false));
        assert_eq!(typed(&mut watch, b"\x10\x11"), (b"\x10".to_vec(), true));
        let mut none = DetachKeys::default();
        assert_eq!(typed(&mut none, b"\x10\x11"), (b"\x10\x11".to_vec(), false));
    }
}
