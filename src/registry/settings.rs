//! What a client is told: how patient it is, and how it reaches registries.

use std::path::PathBuf;
use std::time::Duration;

use super::manifest::{LAYERS_MAX, MANIFEST_BYTES_MAX};
use super::reach::{Insecure, MirrorAt, Proxies};

/// How patient a client is, and how it reaches registries.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Until a connection must stand.
    pub connect: Duration,
    /// Without a byte, before an exchange counts as broken.
    pub stall: Duration,
    /// How often a short request is sent.
    pub request_attempts: u32,
    /// How often a blob's transfer is begun or taken up again without having come further.
    pub blob_attempts: u32,
    /// Before the second attempt; twice as long before each further one.
    pub delay_first: Duration,
    /// No pause is longer.
    pub delay_max: Duration,
    /// Layers of one image that are fetched at once.
    pub layers_at_once: usize,
    /// Bytes of a manifest or an index.
    pub manifest_bytes_max: usize,
    /// Layers of one image; more than [`LAYERS_MAX`] are none in any case.
    pub layers_max: usize,
    /// Registries that need no verified TLS.
    pub insecure: Vec<Insecure>,
    /// Directories in the layout of docker's certs.d.
    pub certs_dirs: Vec<PathBuf>,
    /// Through what.
    pub proxies: Proxies,
    /// Where images are looked for first, in order.
    pub mirrors: Vec<MirrorAt>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(60),
            request_attempts: 3,
            blob_attempts: 6,
            delay_first: Duration::from_secs(1),
            delay_max: Duration::from_secs(30),
            layers_at_once: 3,
            manifest_bytes_max: MANIFEST_BYTES_MAX,
            layers_max: LAYERS_MAX,
            insecure: Vec::new(),
            certs_dirs: ["/etc/docker/certs.d", "/etc/containers/certs.d"]
                .map(PathBuf::from)
                .into(),
            proxies: Proxies::default(),
            mirrors: Vec::new(),
        }
    }
}

impl Settings {
    /// The pause after this many failures.
    pub(super) fn delay(&self, failures: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
        self.delay_first.saturating_mul(doubled).min(self.delay_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let settings = Settings::default();
        let seconds: Vec<u64> = (1..8)
            .map(|failures| settings.delay(failures).as_secs())
            .collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
    }
}
