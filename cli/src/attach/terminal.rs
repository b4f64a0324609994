//! The terminal of this program: its size, and raw mode for as long as a
//! process has it.

use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

use crate::error::{Error, Result};

/// The terminal in raw mode. Dropping it, also on the way out of a panic,
/// restores it.
pub(crate) struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// Enters raw mode; nothing to do if input is no terminal.
    pub(crate) fn enter() -> Result<Option<Self>> {
        if !isatty(stdin()) {
            return Ok(None);
        }
        let fail = |errno: rustix::io::Errno| Error::io("the terminal", errno.into());
        let before = tcgetattr(stdin()).map_err(fail)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw).map_err(fail)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        tcsetattr(stdin(), OptionalActions::Now, &self.before).unwrap_or_default();
    }
}

/// Rows and columns of the terminal; `None` if there is none.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(stdout())
        .or_else(|_| tcgetwinsize(stdin()))
        .ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}
