//! Who a process runs as: docker's `--user` by the container's own `/etc/passwd` and `/etc/group`.
//! Never asks the host's user database and never fails because a line of those files is odd; odd lines do not exist.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use super::rootfs::RootFs;

/// Largest passwd or group file that is looked at: tens of thousands of users.
const DATABASE_BYTES_MAX: usize = 4 << 20;

/// Groups of one process: what Linux takes (NGROUPS_MAX).
const GROUPS_MAX: usize = 65_536;

/// The largest id that docker takes for a number.
const ID_MAX: u32 = i32::MAX.unsigned_abs();

/// Who a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// All groups, the primary one first.
    pub groups: Vec<u32>,
    /// What `$HOME` is, if nobody said otherwise.
    pub home: String,
}

/// Says why there is nobody of that name; the texts are docker's.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// No such user.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    /// No such group.
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    /// A number that is no id.
    #[error("uids and gids must be in range 0-2147483647")]
    OutOfRange,
    /// The file is larger than what is looked at (CVE-2026-47262).
    #[error("{file} of the container is larger than {DATABASE_BYTES_MAX} bytes: make it shorter")]
    TooLarge {
        /// Which file.
        file: &'static str,
    },
    /// More groups than a process can have.
    #[error("user {0:?} is in more than {GROUPS_MAX} groups, which no process can be")]
    TooManyGroups(String),
    /// The file is there and cannot be read.
    #[error("{file} of the container: {source}")]
    Io {
        /// Which file.
        file: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// Finds out who `user` (docker's `--user`) with these extra groups (`--group-add`) is in this root.
pub fn resolve(
    root: &impl RootFs,
    user: &str,
    extra_groups: &[String],
) -> Result<Identity, UserError> {
    let passwd = database(root, "/etc/passwd")?;
    let group = database(root, "/etc/group")?;
    let (user, primary) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (user, None),
    };
    let found = find_user(&passwd, user)?;
    // The file is gone through once, however many groups are asked for.
    let named = if primary.is_some() || !extra_groups.is_empty() {
        by_name(&group)
    } else {
        HashMap::new()
    };
    let mut groups = Vec::new();
    let gid = match primary.filter(|name| !name.is_empty()) {
        Some(name) => find_group(&named, name)?,
        None => {
            if let Some(name) = &found.name {
                groups = member_of(&group, name);
            }
            found.gid
        }
    };
    for name in extra_groups {
        groups.push(find_group(&named, name)?);
    }
    groups.retain(|other| *other != gid);
    groups.insert(0, gid);
    let mut seen = std::collections::HashSet::new();
    groups.retain(|group| seen.insert(*group));
    if groups.len() > GROUPS_MAX {
        return Err(UserError::TooManyGroups(user.to_owned()));
    }
    Ok(Identity {
        uid: found.uid,
        gid,
        groups,
        home: found.home,
    })
}

struct User {
    name: Option<String>,
    uid: u32,
    gid: u32,
    home: String,
}

/// A name is looked up first, so that a user whose name is a number is that user.
fn find_user(passwd: &str, wanted: &str) -> Result<User, UserError> {
    let number = number(if wanted.is_empty() { "0" } else { wanted });
    let lines = || passwd.lines().filter_map(passwd_line);
    let by_name = lines().find(|user| user.name.as_deref() == Some(wanted));
    let by_number = || lines().find(|user| Some(user.uid) == number.as_ref().ok().copied());
    if let Some(user) = by_name.or_else(by_number) {
        return Ok(user);
    }
    match number {
        // A number needs no entry; docker gives it the group and the home of root.
        Ok(uid) => Ok(User {
            name: None,
            uid,
            gid: 0,
            home: "/".to_owned(),
        }),
        Err(Number::OutOfRange) => Err(UserError::OutOfRange),
        Err(Number::NotOne) => Err(UserError::NoUser(wanted.to_owned())),
    }
}

/// The groups of the file; the first line of a name counts.
fn by_name(group: &str) -> HashMap<&str, u32> {
    let mut named = HashMap::new();
    for line in group.lines().filter_map(group_line) {
        named.entry(line.name).or_insert(line.gid);
    }
    named
}

fn find_group(named: &HashMap<&str, u32>, wanted: &str) -> Result<u32, UserError> {
    match (named.get(wanted), number(wanted)) {
        (Some(gid), _) => Ok(*gid),
        (None, Ok(gid)) => Ok(gid),
        (None, Err(Number::OutOfRange)) => Err(UserError::OutOfRange),
        (None, Err(Number::NotOne)) => Err(UserError::NoGroup(wanted.to_owned())),
    }
}

fn member_of(group: &str, user: &str) -> Vec<u32> {
    group
        .lines()
        .filter_map(group_line)
        .filter(|line| line.members.split(',').any(|member| member.trim() == user))
        .map(|line| line.gid)
        .collect()
}

enum Number {
    NotOne,
    OutOfRange,
}

fn number(text: &str) -> Result<u32, Number> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Number::NotOne);
    }
    match text.parse::<u32>() {
        Ok(id) if id <= ID_MAX => Ok(id),
        _ => Err(Number::OutOfRange),
    }
}

/// `name:password:uid:gid:comment:home:shell`
fn passwd_line(line: &str) -> Option<User> {
    let mut fields = line.trim().split(':');
    let name = fields
        .next()
        .filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    let uid = fields.nth(1)?.parse().ok().filter(|id| *id <= ID_MAX)?;
    let gid = fields.next()?.parse().ok().filter(|id| *id <= ID_MAX)?;
    let home = fields.nth(1).filter(|home| !home.is_empty()).unwrap_or("/");
    Some(User {
        name: Some(name.to_owned()),
        uid,
        gid,
        home: home.to_owned(),
    })
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// `name:password:gid:member,member`
fn group_line(line: &str) -> Option<Group<'_>> {
    let mut fields = line.trim().split(':');
    let name = fields
        .next()
        .filter(|name| !name.is_empty() && !name.starts_with('#'))?;
    let gid = fields.nth(1)?.parse().ok().filter(|id| *id <= ID_MAX)?;
    let members = fields.next().unwrap_or_default();
    Some(Group { name, gid, members })
}

fn database(root: &impl RootFs, file: &'static str) -> Result<String, UserError> {
    match root.read(Path::new(file), DATABASE_BYTES_MAX) {
        Ok(content) => Ok(String::from_utf8_lossy(&content).into_owned()),
        // An image need not have one, and what is no file has no lines.
        Err(error) if is_absent(&error) => Ok(String::new()),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            Err(UserError::TooLarge { file })
        }
        Err(source) => Err(UserError::Io { file, source }),
    }
}

fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    let kind = matches!(
        error.kind(),
        Kind::NotFound | Kind::NotADirectory | Kind::InvalidInput
    );
    kind || error.raw_os_error() == Some(libc::ELOOP)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::rootfs::{InRoot, Stat};

    struct Files(&'static str, &'static str);

    impl RootFs for Files {
        fn read(&self, path: &Path, _: usize) -> io::Result<Vec<u8>> {
            let content = if path.ends_with("passwd") {
                self.0
            } else {
                self.1
            };
            if content.is_empty() {
                return Err(io::ErrorKind::NotFound.into());
            }
            Ok(content.into())
        }
        fn stat(&self, _: &Path) -> io::Result<Stat> {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    const FILES: Files = Files(
        "root:x:0:0:root:/root:/bin/sh\n#no:x:1:1::/:\nodd\n\nweb:x:33:34:,,,:/var/www:/bin/sh\n77:x:5:6::/five:\nhuge:x:4294967296:0::/:\nbare:x:8:9",
        "root:x:0:\nweb:x:34:\nadm:x:4:other,web\nsudo:x:27:web\nodd:x\nstaff:x:50:root,web2\n",
    );

    fn ids(user: &str) -> (u32, u32, Vec<u32>, String) {
        let found = resolve(&FILES, user, &[]).unwrap();
        (found.uid, found.gid, found.groups, found.home)
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        assert_eq!(ids(""), (0, 0, vec![0, 50], "/root".into()));
        assert_eq!(ids("web"), (33, 34, vec![34, 4, 27], "/var/www".into()));
        assert_eq!(
            ids("33"),
            (33, 34, vec![34, 4, 27], "/var/www".into()),
            "a number has its entry's groups"
        );
        assert_eq!(
            ids("web:adm"),
            (33, 4, vec![4], "/var/www".into()),
            "a given group is the only one"
        );
        assert_eq!(ids("1000"), (1000, 0, vec![0], "/".into()));
        assert_eq!(ids("1000:1000"), (1000, 1000, vec![1000], "/".into()));
        assert_eq!(ids(":adm"), (0, 4, vec![4], "/root".into()));
        assert_eq!(
            ids("77"),
            (5, 6, vec![6], "/five".into()),
            "a name of digits is a name first"
        );
        assert_eq!(ids("bare"), (8, 9, vec![9], "/".into()));
    }

    #[test]
    fn extra_groups_come_last_and_once() {
        let found = resolve(
            &FILES,
            "web",
            &["staff".into(), "1234".into(), "adm".into()],
        )
        .unwrap();
        assert_eq!(found.groups, [34, 4, 27, 50, 1234]);
    }

    #[test]
    fn who_is_not_there_is_named_in_dockers_words() {
        let text = |user: &str| resolve(&FILES, user, &[]).unwrap_err().to_string();
        assert_eq!(
            text("nobody"),
            "unable to find user nobody: no matching entries in passwd file"
        );
        assert_eq!(
            text("web:none"),
            "unable to find group none: no matching entries in group file"
        );
        assert_eq!(
            text("#no"),
            "unable to find user #no: no matching entries in passwd file"
        );
        assert_eq!(
            text("4294967295"),
            "uids and gids must be in range 0-2147483647"
        );
        assert_eq!(text("-1"), "uids and gids must be in range 0-2147483647");
        assert_eq!(
            text("huge"),
            "unable to find user huge: no matching entries in passwd file"
        );
    }

    /// A root on disk, as `InRoot` reads it.
    fn on_disk(passwd: &[u8], group: &[u8]) -> (tempfile::TempDir, InRoot<std::fs::File>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        std::fs::write(dir.path().join("etc/group"), group).unwrap();
        let root = InRoot::new(std::fs::File::open(dir.path()).unwrap());
        (dir, root)
    }

    /// containerd read all of them into memory, however large an image had made them.
    #[test]
    fn cve_2026_47262_a_huge_passwd_or_group_file_is_not_read() {
        for file in ["/etc/passwd", "/etc/group"] {
            let (dir, root) = on_disk(b"web:x:33:34::/:\n", b"web:x:34:\n");
            assert_eq!(resolve(&root, "web:web", &[]).unwrap().gid, 34);
            // No memory and no patience would be enough for all of it.
            let path = dir.path().join(file.trim_start_matches('/'));
            let huge = std::fs::OpenOptions::new().append(true).open(path).unwrap();
            huge.set_len(1 << 43).unwrap();
            let start = std::time::Instant::now();
            let error = resolve(&root, "web:web", &[]).unwrap_err().to_string();
            let wanted =
                format!("{file} of the container is larger than 4194304 bytes: make it shorter");
            assert_eq!(error, wanted);
            assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
        }
    }

    #[test]
    fn many_groups_of_a_large_file_are_no_more_work_each() {
        let lines: String = (0..200_000).map(|n| format!("g{n}:x:{n}:\n")).collect();
        let (_dir, root) = on_disk(b"", lines.as_bytes());
        let wanted: Vec<String> = (0..60_000).map(|n| format!("g{}", 199_999 - n)).collect();
        let start = std::time::Instant::now();
        assert_eq!(resolve(&root, "0", &wanted).unwrap().groups.len(), 60_001);
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }

    #[test]
    fn a_user_in_more_groups_than_a_process_can_have_is_refused() {
        let lines: String = (0..70_000).map(|n| format!("g{n}:x:{n}:web\n")).collect();
        let (_dir, root) = on_disk(b"web:x:33:34::/:\n", lines.as_bytes());
        let error = resolve(&root, "web", &[]).unwrap_err().to_string();
        assert!(error.contains("more than 65536 groups"), "{error}");
        assert_eq!(resolve(&root, "web:g5", &[]).unwrap().groups, [5]);
    }

    #[test]
    fn an_image_without_users_has_numbers() {
        let found = resolve(&Files("", ""), "7:8", &[]).unwrap();
        assert_eq!((found.uid, found.gid), (7, 8));
        assert_eq!(resolve(&Files("", ""), "", &[]).unwrap().uid, 0);
    }
}
