//! Which boot of the machine this is: numbers of processes mean nothing after it. Never says what follows from that.
//! (The store reads it too; a shim has no store in it.)

use std::fs;
use std::io;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Returns the boot's identity, as the kernel spells it.
pub fn this_boot() -> io::Result<String> {
    let id = fs::read_to_string(BOOT_ID)
        .map_err(|error| io::Error::new(error.kind(), format!("{BOOT_ID}: {error}")))?;
    Ok(id.trim().to_owned())
}
