//! Platforms: `linux/arm64/v8`, and which entry of an index fits one. Never looks further than names.

use std::fmt;

/// An operating system, a processor and its variant, in Go's names.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Platform {
    /// As in `linux`.
    pub os: String,
    /// As in `amd64`, `arm64`, `arm`.
    pub architecture: String,
    /// As in `v7`; none where the architecture has only one that matters.
    pub variant: Option<String>,
}

/// A text that names no platform.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is an invalid component of a platform: expected OS[/ARCHITECTURE[/VARIANT]]")]
pub struct InvalidPlatform(pub String);

const OS_NAMES: [&str; 8] = [
    "linux", "windows", "darwin", "freebsd", "netbsd", "openbsd", "solaris", "wasi",
];

impl Platform {
    /// This machine.
    pub fn host() -> Platform {
        Platform::normal("linux", std::env::consts::ARCH, None)
    }

    /// Parses `linux/arm64`, `linux/arm/v7`, `arm64` or `linux`; what is left out is the host's.
    pub fn parse(text: &str) -> Result<Platform, InvalidPlatform> {
        let invalid = || InvalidPlatform(text.chars().take(100).collect());
        let parts: Vec<&str> = text.split('/').collect();
        let word = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        };
        if !parts.iter().all(word) {
            return Err(invalid());
        }
        match parts.as_slice() {
            [os] if OS_NAMES.contains(&os.to_lowercase().as_str()) => Ok(Platform {
                os: os.to_lowercase(),
                ..Platform::host()
            }),
            [architecture] => Ok(Platform::normal("linux", architecture, None)),
            [os, architecture] => Ok(Platform::normal(os, architecture, None)),
            [os, architecture, variant] => Ok(Platform::normal(os, architecture, Some(variant))),
            _ => Err(invalid()),
        }
    }

    /// Brings the many names of one processor together.
    pub fn normal(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
        let architecture = architecture.to_lowercase();
        let variant = variant
            .map(str::to_lowercase)
            .filter(|variant| !variant.is_empty());
        let (architecture, variant) = match (architecture.as_str(), variant.as_deref()) {
            ("x86_64" | "x86-64" | "amd64", Some("v1") | None) => ("amd64", None),
            ("x86_64" | "x86-64" | "amd64", Some(variant)) => ("amd64", Some(variant)),
            ("i386" | "i486" | "i586" | "i686" | "x86" | "386", _) => ("386", None),
            ("aarch64" | "arm64", Some("8" | "v8") | None) => ("arm64", None),
            ("aarch64" | "arm64", Some(variant)) => ("arm64", Some(variant)),
            ("armhf", _) | ("arm", Some("7") | None) => ("arm", Some("v7")),
            ("armel", _) | ("arm", Some("6")) => ("arm", Some("v6")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            ("arm", Some("8")) => ("arm", Some("v8")),
            ("powerpc64le", variant) => ("ppc64le", variant),
            (other, variant) => (other, variant),
        };
        Platform {
            os: os.to_lowercase(),
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        }
    }

    /// How well `offered` runs on this platform: `None` not at all, 0 exactly, more the older its variant is.
    pub fn distance(&self, offered: &Platform) -> Option<u32> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        if self.variant == offered.variant {
            return Some(0);
        }
        // A processor runs what was built for its predecessors: arm v7 runs v6 and v5, amd64 v3 runs v2 and v1.
        let number = |platform: &Platform| match (
            platform.variant.as_deref(),
            platform.architecture.as_str(),
        ) {
            (Some(variant), _) => variant
                .strip_prefix('v')
                .and_then(|digits| digits.parse::<u32>().ok()),
            (None, "arm64") => Some(8),
            (None, _) => Some(1),
        };
        number(self)?.checked_sub(number(offered)?)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn many_names_are_one_platform() {
        let table = [
            ("linux/x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("Linux/AMD64", "linux/amd64"),
            ("s390x", "linux/s390x"),
            ("linux/i386", "linux/386"),
        ];
        for (text, name) in table {
            assert_eq!(Platform::parse(text).unwrap().to_string(), name, "{text}");
        }
        for text in ["", "/", "linux/", "a/b/c/d", "linux/am d64"] {
            assert_eq!(
                Platform::parse(text),
                Err(InvalidPlatform(text.to_owned())),
                "{text:?}"
            );
        }
    }

    #[test]
    fn older_variants_run_newer_ones_do_not() {
        let platform = |text: &str| Platform::parse(text).unwrap();
        assert_eq!(
            platform("linux/arm/v7").distance(&platform("linux/arm/v7")),
            Some(0)
        );
        assert_eq!(
            platform("linux/arm/v7").distance(&platform("linux/arm/v6")),
            Some(1)
        );
        assert_eq!(
            platform("linux/arm/v6").distance(&platform("linux/arm/v7")),
            None
        );
        assert_eq!(
            platform("linux/amd64").distance(&platform("linux/amd64/v3")),
            None
        );
        assert_eq!(
            platform("linux/amd64").distance(&platform("linux/arm64")),
            None
        );
        assert_eq!(
            platform("linux/amd64").distance(&platform("windows/amd64")),
            None
        );
    }
}
