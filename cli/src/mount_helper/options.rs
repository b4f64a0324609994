//! The words that mount(8) and umount(8) pass to their helpers. Pure.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

/// Options of one mount, which the service understands.
const FLAGS: [&str; 19] = [
    "ro",
    "rw",
    "nosuid",
    "suid",
    "nodev",
    "dev",
    "noexec",
    "exec",
    "nosymfollow",
    "symfollow",
    "nodiratime",
    "diratime",
    "noatime",
    "atime",
    "strictatime",
    "nostrictatime",
    "relatime",
    "norelatime",
    "defaults",
];

/// Options that are true of every mount of nacre, that mean something to mount(8) or to init alone, or that say how
/// eagerly to write, which fsync(2) decides here.
const ACCEPTED: [&str; 24] = [
    "allow_other",
    "default_permissions",
    "auto",
    "noauto",
    "nofail",
    "user",
    "nouser",
    "users",
    "owner",
    "group",
    "_netdev",
    "async",
    "sync",
    "dirsync",
    "lazytime",
    "nolazytime",
    "silent",
    "loud",
    "mand",
    "nomand",
    "iversion",
    "noiversion",
    "bg",
    "fg",
];

/// Options with a value that are accepted for the same reasons. SELinux's are the kernel's, which ignores them without SELinux.
const ACCEPTED_VALUES: [&str; 14] = [
    // What the kernel shows of a FUSE mount, and mount(8) gives back with `remount`.
    "fd",
    "rootmode",
    "user_id",
    "group_id",
    "max_read",
    "blksize",
    "context",
    "fscontext",
    "defcontext",
    "rootcontext",
    "comment",
    "uhelper",
    "helper",
    "subtype",
];

/// Where the kernel shows that SELinux is in force.
const SELINUX: &str = "/sys/fs/selinux/enforce";

/// What both helpers are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(super) target: PathBuf,
    /// What holds for the mount alone, in the order given.
    pub(super) flags: Vec<String>,
    pub(super) name: Option<String>,
    pub(super) platform: Option<String>,
    pub(super) root: Option<OsString>,
    pub(super) host: Option<String>,
    pub(super) is_remount: bool,
    /// The kernel reads large files of a read-only view by itself.
    pub(super) is_passthrough: bool,
    /// `-f` of mount(8): everything but the mount itself.
    pub(super) is_fake: bool,
}

impl Line {
    /// Whether the last word on writing was `ro`.
    pub(super) fn is_read_only(&self) -> bool {
        let mut words = self.flags.iter().rev();
        words
            .find(|word| matches!(word.as_str(), "ro" | "rw"))
            .is_some_and(|word| word == "ro")
    }
}

/// What a helper is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Mount { source: String, line: Line },
    Unmount { line: Line, is_lazy: bool },
}

impl Asked {
    pub(super) fn line(&self) -> &Line {
        match self {
            Self::Mount { line, .. } | Self::Unmount { line, .. } => line,
        }
    }
}

/// Why a helper does nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The words are not those of a helper.
    Usage(String),
    /// An option that is not known, or cannot be had.
    Option(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Option(text) => f.write_str(text),
        }
    }
}

/// `mount.fuse.nacre SRC DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]`.
pub(super) fn mount(words: &[OsString]) -> Result<Asked, Refusal> {
    let mut line = Line::default();
    let mut given = Words::read(words, "sfnvrw", "Not")?;
    line.is_fake = given.has('f');
    for (switch, option) in [('r', "ro"), ('w', "rw")] {
        if given.has(switch) {
            line.flags.push(option.to_owned());
        }
    }
    let unknown = if given.has('s') {
        Unknown::Ignored
    } else {
        Unknown::Refused
    };
    for options in given.values('o') {
        for option in split(text(&options)?) {
            line.option(&option, unknown)?;
        }
    }
    match given.operands.as_slice() {
        [source, target] => {
            line.target = PathBuf::from(target);
            Ok(Asked::Mount {
                source: text(source)?.to_owned(),
                line,
            })
        }
        operands => Err(Refusal::Usage(format!(
            "needs a source and a directory, not {} words",
            operands.len()
        ))),
    }
}

/// `umount.fuse.nacre DIR [-flnrv] [-N NAMESPACE] [-t TYPE]`.
pub(super) fn unmount(words: &[OsString]) -> Result<Asked, Refusal> {
    let given = Words::read(words, "flnrv", "Nt")?;
    match given.operands.as_slice() {
        [target] => Ok(Asked::Unmount {
            line: Line {
                target: PathBuf::from(target),
                ..Line::default()
            },
            is_lazy: given.has('l'),
        }),
        operands => Err(Refusal::Usage(format!(
            "needs one directory, not {} words",
            operands.len()
        ))),
    }
}

/// What becomes of an option that nobody knows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unknown {
    Refused,
    Ignored,
}

impl Line {
    fn option(&mut self, option: &str, unknown: Unknown) -> Result<(), Refusal> {
        let (key, value) = match option.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (option, None),
        };
        if key.starts_with("x-") || key.starts_with("X-") {
            return Ok(());
        }
        match (key, value) {
            ("remount", None) => self.is_remount = true,
            ("passthrough", None) => self.is_passthrough = true,
            ("defaults", None) => self
                .flags
                .extend(["rw", "suid", "dev", "exec"].map(str::to_owned)),
            ("name", Some(name)) => self.name = Some(name.to_owned()),
            ("platform", Some(platform)) => self.platform = Some(platform.to_owned()),
            ("root", Some(root)) => self.root = Some(root.into()),
            ("host", Some(host)) => self.host = Some(host.to_owned()),
            (_, None) if FLAGS.contains(&key) => self.flags.push(key.to_owned()),
            (_, None) if ACCEPTED.contains(&key) => {}
            (_, Some(_)) if ACCEPTED_VALUES.contains(&key) => {
                if key.ends_with("context") && std::path::Path::new(SELINUX).exists() {
                    return Err(Refusal::Option(format!(
                        "option {key}: SELinux is in force, and nacre gives its files no contexts"
                    )));
                }
            }
            _ if unknown == Unknown::Ignored => {}
            _ => return Err(Refusal::Option(format!("unknown option \"{option}\""))),
        }
        Ok(())
    }
}

/// A command line in the manner of getopt(3): switches, valued switches, operands in between.
struct Words {
    switches: Vec<(char, Option<OsString>)>,
    operands: Vec<OsString>,
}

impl Words {
    fn read(words: &[OsString], plain: &str, valued: &str) -> Result<Self, Refusal> {
        let mut read = Self {
            switches: Vec::new(),
            operands: Vec::new(),
        };
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            let shown = word.to_string_lossy();
            let Some(letters) = shown.strip_prefix('-').filter(|rest| !rest.is_empty()) else {
                read.operands.push(word.clone());
                continue;
            };
            if letters == "-" {
                read.operands.extend(rest.by_ref().cloned());
                break;
            }
            let mut letters = letters.chars();
            while let Some(letter) = letters.next() {
                if plain.contains(letter) {
                    read.switches.push((letter, None));
                } else if valued.contains(letter) {
                    let attached = letters.as_str();
                    let value = match attached {
                        "" => rest.next().cloned(),
                        _ => Some(OsString::from(attached)),
                    };
                    let value = value
                        .ok_or_else(|| Refusal::Usage(format!("option -{letter} needs a value")))?;
                    read.switches.push((letter, Some(value)));
                    break;
                } else {
                    return Err(Refusal::Usage(format!("unknown option -{letter}")));
                }
            }
        }
        Ok(read)
    }

    fn has(&self, letter: char) -> bool {
        self.switches.iter().any(|(given, _)| *given == letter)
    }

    fn values(&mut self, letter: char) -> Vec<OsString> {
        let of_letter = self.switches.iter().filter(|(given, _)| *given == letter);
        of_letter.filter_map(|(_, value)| value.clone()).collect()
    }
}

/// Options are divided by commas; one within quotes is part of a value, as SELinux's contexts have it (mount(8)).
fn split(options: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut is_quoted = false;
    for letter in options.chars() {
        match letter {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => all.push(String::new()),
            letter => {
                if let Some(last) = all.last_mut() {
                    last.push(letter);
                }
            }
        }
    }
    all.retain(|option| !option.is_empty());
    all
}

fn text(word: &OsStr) -> Result<&str, Refusal> {
    let not_text = || Refusal::Usage(format!("{} is not UTF-8", word.display()));
    word.to_str().ok_or_else(not_text)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    fn mounted(text: &str) -> (String, Line) {
        match mount(&words(text)).unwrap() {
            Asked::Mount { source, line } => (source, line),
            other @ Asked::Unmount { .. } => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_of_mount_8_are_told_apart() {
        let (source, line) = mounted(
            "debian:12 /mnt -o rw,noatime,nofail,x-systemd.automount,name=work,allow_other,context=\"a:b,c0,c1\" -n",
        );
        assert_eq!(source, "debian:12");
        assert_eq!(line.target, PathBuf::from("/mnt"));
        assert_eq!(line.flags, ["rw", "noatime"]);
        assert_eq!(line.name.as_deref(), Some("work"));
        assert!(!line.is_read_only() && !line.is_remount && !line.is_fake);
    }

    #[test]
    fn options_may_come_first_and_be_attached_and_the_last_one_decides() {
        let (_, line) = mounted("-oro,remount a /m -o rw -t fuse.nacre -sv");
        assert!(line.is_remount && !line.is_read_only());
        assert!(mounted("a /m -r").1.is_read_only());
    }

    #[test]
    fn what_nobody_knows_is_refused_unless_mount_is_to_be_sloppy() {
        let refused = mount(&words("a /m -o bogus=1")).unwrap_err();
        assert_eq!(refused.to_string(), "unknown option \"bogus=1\"");
        mounted("a /m -s -o bogus=1,ro");
        assert!(matches!(mount(&words("a /m -z")), Err(Refusal::Usage(_))));
        assert!(matches!(mount(&words("a")), Err(Refusal::Usage(_))));
        assert!(matches!(mount(&words("a /m -o")), Err(Refusal::Usage(_))));
    }

    #[test]
    fn umount_passes_a_directory_and_switches() {
        let asked = unmount(&words("/mnt -l -n -t fuse.nacre")).unwrap();
        assert!(matches!(&asked, Asked::Unmount { is_lazy: true, line } if line.target == *"/mnt"));
        assert!(unmount(&words("")).is_err());
    }
}
