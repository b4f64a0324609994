//! Rows on names and identity.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::{Seen, TICK, code, errno, here, names, row};
use crate::support::Layer;

#[test]
fn row_02_a_device_0_0_is_a_device_and_hides_nothing() {
    let seen = row("create f 644\nmkdir d 755", |root| {
        fs::remove_file(root.join("f")).unwrap();
        let make = |name: &str| {
            let path = root.join(name);
            rustix::fs::mknodat(CWD, path, FileType::CharacterDevice, Mode::RUSR, 0).unwrap();
        };
        make("f");
        make("d/g");
        let stat = fs::symlink_metadata(root.join("f")).unwrap();
        let mut seen = vec![format!("{:o} {}", stat.mode(), stat.rdev())];
        seen.push(format!("{:?} {:?}", names(root), names(&root.join("d"))));
        seen.push(code(fs::remove_dir(root.join("d"))).to_string());
        fs::remove_file(root.join("f")).unwrap();
        seen.push(format!("{:?}", names(root)));
        seen
    });
    if let Some(seen) = seen {
        assert_eq!(seen[0], "20400 0");
    }
}

#[test]
fn row_05_a_listing_has_each_name_once_with_the_number_and_kind_of_stat() {
    let base =
        "mkdir d 755\ncreate d/a 644\nwrite d/a 0 9 1\ncreate d/b 644\nmkdir d/s 755\nlink d/b d/l";
    row(base, |root| {
        let dir = root.join("d");
        fs::write(dir.join("a"), "changed").unwrap();
        fs::remove_file(dir.join("b")).unwrap();
        fs::write(dir.join("b"), "anew").unwrap();
        fs::rename(dir.join("s"), dir.join("t")).unwrap();
        std::os::unix::fs::symlink("a", dir.join("y")).unwrap();
        // Looked up by name before the listing, which brings attributes of its own along.
        let number = |name: &OsStr| fs::symlink_metadata(dir.join(name)).unwrap().ino();
        let all = ["a", "b", "l", "t", "y"].map(OsStr::new);
        let numbers = all.map(|name| (name, number(name)));
        let mut seen: Seen = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let stat = fs::symlink_metadata(entry.path()).unwrap();
                let kind = entry.file_type().unwrap() == stat.file_type();
                let name = entry.file_name();
                let known = numbers.contains(&(&name, entry.ino()));
                let same = known && entry.ino() == stat.ino();
                format!("{name:?} number: {same}, kind: {kind}")
            })
            .collect();
        seen.sort();
        let open = File::open(&dir).unwrap();
        for entry in rustix::fs::Dir::read_from(&open).unwrap() {
            let entry = entry.unwrap();
            let to = match entry.file_name().to_bytes() {
                b"." => &dir,
                b".." => root,
                _ => continue,
            };
            let same = entry.ino() == fs::metadata(to).unwrap().ino();
            seen.push(format!("{:?} number: {same}", entry.file_name()));
        }
        seen.iter()
            .for_each(|line| assert!(!line.contains("false"), "{line}"));
        seen
    });
}

#[test]
fn row_09_a_layer_may_come_twice() {
    let layer = || Layer::new().dir("d").file("d/f", b"once");
    here(&[layer(), layer()], |root| {
        assert_eq!(names(&root.join("d")), ["f"]);
        fs::write(root.join("d/f"), "twice").unwrap();
        assert_eq!(fs::read(root.join("d/f")).unwrap(), b"twice");
        fs::remove_file(root.join("d/f")).unwrap();
        fs::remove_dir(root.join("d")).unwrap();
        assert!(names(root).is_empty());
    });
}

#[test]
fn row_11_names_are_bytes_255_of_them_and_none_is_reserved() {
    let seen = row("mkdir d 755", |root| {
        let dir = root.join("d");
        let (most, more) = ([b'x'; 255], [b'x'; 256]);
        let all: [&[u8]; 9] = [
            b"\xff\xfe",
            b"a\nb",
            b".wh.x",
            b".wh..wh..opq",
            b"a",
            b"A",
            b" ",
            &most,
            &more,
        ];
        let mut seen: Seen = all
            .iter()
            .map(|name| {
                let path = dir.join(OsStr::from_bytes(name));
                format!("{}", code(fs::write(&path, name)))
            })
            .collect();
        seen.push(format!("{:?}", names(&dir)));
        let file = File::open(dir.join("a")).unwrap();
        let (name, flags) = (b"user.\xff".as_slice(), rustix::fs::XattrFlags::empty());
        seen.push(errno(rustix::fs::fsetxattr(&file, name, b"v", flags)).to_string());
        let mut list = vec![0; 64];
        let len = rustix::fs::flistxattr(&file, &mut list).unwrap();
        seen.push(format!("{:?}", &list[..len]));
        seen
    });
    if let Some(seen) = seen {
        assert_eq!((&*seen[7], &*seen[8]), ("0", "36"), "255, and one more");
        assert!(seen[9].contains(".wh..wh..opq"));
    }
}

#[test]
fn row_12_trees_are_5000_deep_and_links_4095_long() {
    const DEEP: usize = 5_000;
    row("mkdir d 755", |root| {
        let open = |dir: &File, name: &str| -> File {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            rustix::fs::openat(dir, name, flags, Mode::empty())
                .unwrap()
                .into()
        };
        let mut at = open(&File::open(root).unwrap(), "d");
        for _ in 0..DEEP {
            rustix::fs::mkdirat(&at, "n", Mode::RWXU).unwrap();
            at = open(&at, "n");
        }
        let file = rustix::fs::openat(&at, "f", OFlags::CREATE | OFlags::RDWR, Mode::RUSR);
        let mut seen = vec![errno(file).to_string()];
        rustix::fs::unlinkat(&at, "f", rustix::fs::AtFlags::empty()).unwrap();
        for _ in 0..DEEP {
            at = open(&at, "..");
            rustix::fs::unlinkat(&at, "n", rustix::fs::AtFlags::REMOVEDIR).unwrap();
        }
        seen.push(format!("{:?}", names(&root.join("d"))));
        for len in [4095, 4096] {
            let target = "t".repeat(len);
            let link = root.join(format!("l{len}"));
            seen.push(code(std::os::unix::fs::symlink(&target, &link)).to_string());
            seen.push(format!(
                "{:?}",
                fs::read_link(&link).ok().map(|t| t.as_os_str().len())
            ));
        }
        seen
    });
}

#[test]
fn row_14_15_17_numbers_devices_and_links_stay_through_every_change() {
    let base = "mkdir d 755\ncreate d/f 644\nwrite d/f 0 50 7\nlink d/f g\nmkdir e 755";
    let seen = row(base, |root| {
        let stat = |path: &str| fs::symlink_metadata(root.join(path)).unwrap();
        let before = stat("g");
        let mut seen = Vec::new();
        let mut check = |what: &str, now: Metadata| {
            let same = (now.ino(), now.dev()) == (before.ino(), before.dev());
            seen.push(format!("{what}: {same} {}", now.nlink()));
        };
        fs::write(root.join("d/f"), "copied up").unwrap();
        check("write", stat("g"));
        rustix::fs::chmod(root.join("g"), Mode::RUSR).unwrap();
        check("chmod", stat("d/f"));
        fs::rename(root.join("d/f"), root.join("e/f")).unwrap();
        check("rename", stat("e/f"));
        fs::rename(root.join("e"), root.join("d/e")).unwrap();
        check("rename of the directory", stat("d/e/f"));
        fs::hard_link(root.join("g"), root.join("h")).unwrap();
        check("link", stat("h"));
        fs::remove_file(root.join("g")).unwrap();
        check("unlink", stat("h"));
        seen.push(fs::read_to_string(root.join("h")).unwrap());
        seen.push(format!("{}", stat("d/e").dev() == stat("h").dev()));
        seen
    });
    if let Some(seen) = seen {
        assert!(seen.iter().all(|line| !line.contains("false")), "{seen:?}");
        assert!(seen[4].ends_with('3'));
    }
}

#[test]
fn row_19_a_directory_has_a_link_for_each_directory_in_it() {
    let seen = row(
        "mkdir d 755\nmkdir d/a 755\nmkdir d/b 755\ncreate d/f 644",
        |root| {
            let links = || {
                let of = |path: &str| fs::metadata(root.join(path)).unwrap().nlink();
                format!("{} {}", of("."), of("d"))
            };
            let mut seen = vec![links()];
            fs::remove_dir(root.join("d/a")).unwrap();
            seen.push(links());
            fs::create_dir(root.join("d/c")).unwrap();
            seen.push(links());
            fs::rename(root.join("d/b"), root.join("b")).unwrap();
            seen.push(links());
            fs::rename(root.join("d/c"), root.join("b")).unwrap();
            seen.push(links());
            seen
        },
    );
    if let Some(seen) = seen {
        assert_eq!(seen, ["3 4", "3 3", "3 4", "4 3", "4 2"]);
    }
}

#[test]
fn row_27_renames_replace_what_is_open_and_refuse_what_linux_refuses() {
    let base = "mkdir d 755\nmkdir d/s 755\ncreate d/s/x 644\nmkdir e 755\ncreate f 644\nwrite f 0 5 102\ncreate g 644\nwrite g 0 5 103\nlink g h";
    let seen = row(base, |root| {
        let mut held = File::open(root.join("g")).unwrap();
        let to = |from: &str, to: &str| {
            format!(
                "{from} {to}: {}",
                code(fs::rename(root.join(from), root.join(to)))
            )
        };
        let mut seen = vec![
            to("f", "g"),
            to("e", "d"),
            to("d", "d/s/in"),
            to("h", "e"),
            to("e", "h"),
            to("d/s", "e"),
            to("none", "g"),
        ];
        let mut text = String::new();
        held.read_to_string(&mut text).unwrap();
        seen.push(text);
        seen.push(format!(
            "{} {:?}",
            held.metadata().unwrap().nlink(),
            names(root)
        ));
        fs::hard_link(root.join("h"), root.join("i")).unwrap();
        seen.push(to("h", "i"));
        seen.push(format!("{:?} {:?}", names(root), names(&root.join("e"))));
        seen
    });
    if let Some(seen) = seen {
        assert_eq!(&seen[..4], ["f g: 0", "e d: 39", "d d/s/in: 22", "h e: 21"]);
        assert_eq!(seen[7], "ggggg", "what is open keeps its bytes");
    }
}

#[test]
fn row_61_a_listing_holds_while_entries_come_and_go() {
    let base: String = (0..400).map(|n| format!("create n{n:03} 644\n")).collect();
    row(&base, |root| {
        let open = File::open(root).unwrap();
        let mut dir = rustix::fs::Dir::read_from(&open).unwrap();
        let mut got: Vec<Vec<u8>> = Vec::new();
        let mut at = 0;
        for entry in dir.by_ref() {
            got.push(entry.unwrap().file_name().to_bytes().to_vec());
            at += 1;
            if at % 20 == 0 {
                // Odd names go and come, even ones stay; others are new.
                let name = format!("n{:03}", ((at * 7) % 400) | 1);
                fs::remove_file(root.join(&name)).ok();
                fs::write(root.join(format!("new{at}")), "").unwrap();
            }
        }
        let stayed = (0..400).step_by(2).map(|n| format!("n{n:03}").into_bytes());
        let once = stayed.filter(|name| got.iter().filter(|got| *got == name).count() == 1);
        let mut seen = vec![format!("{} stayed and came once", once.count())];
        drop(dir);
        let before = names(root).len();
        fs::write(root.join("after"), "").unwrap();
        seen.push(format!("{}", names(root).len() - before));
        seen
    });
}

#[test]
fn row_50_times_are_kept_to_the_nanosecond_and_move_when_they_must() {
    let base = "mkdir d 755\ncreate d/f 644\nwrite d/f 0 9 1\nsymlink x l";
    row(base, |root| {
        let mut seen = Vec::new();
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        for (path, seconds, nanos) in [
            ("d/f", -2_147_483_000, 1),
            ("d", 8_589_934_592, 999_999_999),
            ("l", -1, 500),
        ] {
            let time = rustix::fs::Timespec {
                tv_sec: seconds,
                tv_nsec: nanos,
            };
            let times = rustix::fs::Timestamps {
                last_access: time,
                last_modification: time,
            };
            let set = rustix::fs::utimensat(CWD, root.join(path), &times, flags);
            let stat = fs::symlink_metadata(root.join(path)).unwrap();
            seen.push(format!(
                "{} {} {}",
                errno(set),
                stat.mtime(),
                stat.mtime_nsec()
            ));
        }
        let mut moved = |what: &str, act: &dyn Fn(&Path)| {
            let of = |path: &str| {
                let stat = fs::symlink_metadata(root.join(path)).ok()?;
                Some((
                    (stat.mtime(), stat.mtime_nsec()),
                    (stat.ctime(), stat.ctime_nsec()),
                ))
            };
            let before = (of("d"), of("d/f"));
            std::thread::sleep(TICK);
            act(root);
            let after = (of("d"), of("d/f"));
            let differ = |a: Option<(_, _)>, b: Option<(_, _)>| match (a, b) {
                (Some((m, c)), Some((n, d))) => format!("{:?}", (m != n, c != d)),
                _ => "gone".to_owned(),
            };
            seen.push(format!(
                "{what}: {} {}",
                differ(before.0, after.0),
                differ(before.1, after.1)
            ));
        };
        let chmod = |root: &Path| rustix::fs::chmod(root.join("d/f"), Mode::RWXU).unwrap();
        moved("chmod", &chmod);
        moved("copy-up", &|root: &Path| {
            fs::write(root.join("d/f"), "x").unwrap()
        });
        moved("link", &|root: &Path| {
            fs::hard_link(root.join("d/f"), root.join("k")).unwrap()
        });
        moved("create", &|root: &Path| {
            fs::write(root.join("d/n"), "x").unwrap()
        });
        moved("unlink", &|root: &Path| {
            fs::remove_file(root.join("d/n")).unwrap()
        });
        moved("rename", &|root: &Path| {
            fs::rename(root.join("d/f"), root.join("g")).unwrap()
        });
        seen
    });
}
