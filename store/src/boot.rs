//! Which boot of the machine this is: numbers of processes and devices mean nothing after it, nor does what was not synced.
//! Never says what follows from that.

use std::fs;
use std::io;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Returns the boot's identity, as the kernel spells it.
pub(crate) fn this_boot() -> io::Result<String> {
    match fs::read_to_string(BOOT_ID) {
        Ok(id) => Ok(id.trim().to_owned()),
        Err(error) => Err(io::Error::new(error.kind(), format!("{BOOT_ID}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_boot_has_one_identity_of_one_line() {
        let boot = this_boot().unwrap();
        assert_eq!(boot.lines().count(), 1);
        assert_eq!(this_boot().unwrap(), boot);
    }
}
