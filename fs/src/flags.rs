//! The attributes of one mount, as the options of mount(8) name them. Knows no mount.

use rustix::mount::MountAttrFlags;

/// Which accesses move a file's access time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum AccessTimes {
    /// The first after a change, and one a day.
    #[default]
    Relative,
    All,
    None,
}

/// What holds for one mount of a tree and not for its others (mount_setattr(2)). The default: written where the tree can be,
/// devices, programs, setuid and links work, access times are relative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MountFlags {
    read_only: bool,
    no_suid: bool,
    no_devices: bool,
    no_programs: bool,
    no_links: bool,
    no_directory_times: bool,
    access_times: AccessTimes,
}

impl MountFlags {
    /// The flags with one more option; later ones win, as in mount(8). `None` for a word that is no option of a mount.
    #[must_use]
    pub fn with(mut self, option: &str) -> Option<Self> {
        match option {
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "nosuid" => self.no_suid = true,
            "suid" => self.no_suid = false,
            "nodev" => self.no_devices = true,
            "dev" => self.no_devices = false,
            "noexec" => self.no_programs = true,
            "exec" => self.no_programs = false,
            "nosymfollow" => self.no_links = true,
            "symfollow" => self.no_links = false,
            "nodiratime" => self.no_directory_times = true,
            "diratime" => self.no_directory_times = false,
            "noatime" => self.access_times = AccessTimes::None,
            "strictatime" => self.access_times = AccessTimes::All,
            "atime" | "relatime" | "norelatime" | "nostrictatime" => {
                self.access_times = AccessTimes::Relative;
            }
            _ => return None,
        }
        Some(self)
    }

    /// Whether nothing can be written through the mount.
    pub fn is_read_only(self) -> bool {
        self.read_only
    }

    /// What mount_setattr(2) sets, and what it clears.
    pub(crate) fn attributes(self) -> (u64, u64) {
        let switches = [
            (self.read_only, MountAttrFlags::MOUNT_ATTR_RDONLY),
            (self.no_suid, MountAttrFlags::MOUNT_ATTR_NOSUID),
            (self.no_devices, MountAttrFlags::MOUNT_ATTR_NODEV),
            (self.no_programs, MountAttrFlags::MOUNT_ATTR_NOEXEC),
            (self.no_links, MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW),
            (
                self.no_directory_times,
                MountAttrFlags::MOUNT_ATTR_NODIRATIME,
            ),
        ];
        let mut set = match self.access_times {
            AccessTimes::Relative => MountAttrFlags::MOUNT_ATTR_RELATIME,
            AccessTimes::All => MountAttrFlags::MOUNT_ATTR_STRICTATIME,
            AccessTimes::None => MountAttrFlags::MOUNT_ATTR_NOATIME,
        };
        // The kernel wants the whole field of access times named when it changes.
        let mut clear = MountAttrFlags::MOUNT_ATTR__ATIME;
        for (is_set, flag) in switches {
            if is_set {
                set |= flag;
            } else {
                clear |= flag;
            }
        }
        (u64::from(set.bits()), u64::from(clear.bits()))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn of(options: &[&str]) -> MountFlags {
        let none = MountFlags::default();
        options
            .iter()
            .fold(none, |flags, option| flags.with(option).unwrap())
    }

    #[test]
    fn the_last_option_wins() {
        assert!(of(&["rw", "ro"]).is_read_only());
        assert!(!of(&["ro", "rw"]).is_read_only());
        assert_eq!(of(&["nosuid", "suid", "noatime", "relatime"]), of(&[]));
        assert_eq!(MountFlags::default().with("bogus"), None);
    }

    #[test]
    fn each_attribute_is_set_or_cleared_and_none_is_forgotten() {
        let all = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC
            | MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW
            | MountAttrFlags::MOUNT_ATTR_NODIRATIME;
        let all = u64::from(all.bits());
        let time = u64::from(MountAttrFlags::MOUNT_ATTR__ATIME.bits());
        assert_eq!(of(&[]).attributes(), (0, all | time));
        let noatime = u64::from(MountAttrFlags::MOUNT_ATTR_NOATIME.bits());
        let options = [
            "ro",
            "nosuid",
            "nodev",
            "noexec",
            "nosymfollow",
            "nodiratime",
            "noatime",
        ];
        assert_eq!(of(&options).attributes(), (all | noatime, time));
    }
}
