//! What was set by flags, variables and the settings file, in the terms of the store and of the registry client.

use std::time::Duration;

use nacre_cli::{Limit, ServiceOptions};
use nacre_store::Options;
use nacre_store::archive::Limits;

use crate::registry::{Insecure, InvalidSetting, MirrorAt, Proxies, Settings};

/// How registries are to be reached.
pub(super) fn registries(options: &ServiceOptions) -> Result<Settings, InvalidSetting> {
    let default = Settings::default();
    let insecure = options.insecure_registries.iter();
    let mirrors = options.mirror.iter().flat_map(|rule| {
        let at = |location: &String| MirrorAt::parse(&rule.prefix, location);
        rule.locations.iter().map(at)
    });
    let seconds = |set: Option<u64>, default| set.map_or(default, Duration::from_secs);
    let limited = |limit, default| match options.limits.get(&limit) {
        Some(set) => usize::try_from(*set).unwrap_or(usize::MAX),
        None => default,
    };
    // Nothing works with none of these: the least that does is taken.
    let attempts = |set: Option<u32>, default| set.map_or(default, |set| set.max(1));
    Ok(Settings {
        connect: seconds(options.connect_seconds, default.connect).max(Duration::from_secs(1)),
        stall: seconds(options.stall_seconds, default.stall).max(Duration::from_secs(1)),
        request_attempts: attempts(options.request_attempts, default.request_attempts),
        blob_attempts: attempts(options.blob_attempts, default.blob_attempts),
        layers_at_once: options
            .layers_at_once
            .and_then(|set| usize::try_from(set).ok())
            .map_or(default.layers_at_once, |set| set.max(1)),
        insecure: insecure
            .map(|entry| Insecure::parse(entry))
            .collect::<Result<_, _>>()?,
        certs_dirs: match options.certs_dirs.is_empty() {
            true => default.certs_dirs,
            false => options.certs_dirs.clone(),
        },
        proxies: Proxies::parse(
            options.http_proxy.as_deref(),
            options.https_proxy.as_deref(),
            options.no_proxy.as_deref(),
        )?,
        mirrors: mirrors.collect::<Result<_, _>>()?,
        manifest_bytes_max: limited(Limit::ManifestBytes, default.manifest_bytes_max),
        layers_max: limited(Limit::Layers, default.layers_max),
        delay_first: default.delay_first,
        delay_max: default.delay_max,
    })
}

/// How the store is to be opened.
pub(super) fn store(options: &ServiceOptions) -> Options {
    let mut limits = Limits::default();
    for (limit, number) in &options.limits {
        // What no address can hold is no limit.
        let size = usize::try_from(*number).unwrap_or(usize::MAX);
        match limit {
            Limit::LayerBytes => limits.layer_bytes_max = *number,
            Limit::InflateRatio => limits.inflate_ratio_max = *number,
            Limit::InflateGraceBytes => limits.inflate_grace_bytes = *number,
            Limit::Entries => limits.entries_max = *number,
            Limit::ExtensionBytes => limits.extension_bytes_max = *number,
            Limit::GlobalBytes => limits.global_bytes_max = size,
            Limit::UnplacedBytes => limits.unplaced_bytes_max = *number,
            Limit::PathDepth => limits.depth_max = size,
            Limit::XattrBytes => limits.xattr_bytes_max = size,
            Limit::XattrsBytes => limits.xattrs_bytes_max = size,
            Limit::SparseExtents => limits.extents_max = size,
            // The registry client's.
            Limit::ManifestBytes | Limit::Layers => {}
        }
    }
    Options {
        limits: Some(limits),
        keep_archives: options.keep_archives,
        cache_bytes: options.cache_bytes,
        ..Options::default()
    }
}

/// The limits that were set, by their names in the settings file.
pub(super) fn limits(options: &ServiceOptions) -> Vec<(&'static str, u64)> {
    let all = options.limits.iter();
    all.map(|(limit, number)| (limit.name(), *number)).collect()
}
