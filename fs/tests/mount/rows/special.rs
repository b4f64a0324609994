//! Rows on owners, attributes, special files, locks and watches.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;

use rustix::fs::{CWD, FileType, FlockOperation, Mode, XattrFlags, inotify};

use super::{Seen, code, errno, row};

use crate::patience;

#[test]
fn row_54_attributes_are_kept_through_copy_up_and_refused_where_linux_refuses() {
    let base = "create f 644\nwrite f 0 100 102\nsetxattr f user.one x either\nsymlink x l";
    let seen = row(base, |root| {
        let file = root.join("f");
        let set = |name: &str, value: &[u8], flags| {
            format!(
                "{name} {}",
                errno(rustix::fs::setxattr(&file, name, value, flags))
            )
        };
        let mut seen = vec![
            set("user.one", b"1", XattrFlags::CREATE),
            set("user.two", b"2", XattrFlags::REPLACE),
            set("user.two", b"", XattrFlags::CREATE),
            set("trusted.three", &[7; 2_000], XattrFlags::empty()),
            set("security.four", b"4", XattrFlags::empty()),
            set("system.five", b"5", XattrFlags::empty()),
            set("six", b"6", XattrFlags::empty()),
            set("user.", b"7", XattrFlags::empty()),
        ];
        fs::write(&file, "copied up").unwrap();
        fs::rename(&file, root.join("g")).unwrap();
        let mut buf = vec![0; 4_096];
        for name in [
            "user.one",
            "user.two",
            "trusted.three",
            "security.four",
            "user.none",
        ] {
            let got = rustix::fs::getxattr(root.join("g"), name, &mut buf);
            seen.push(format!("{name} {got:?} {:?}", &buf[..got.unwrap_or(0)]));
        }
        let short = rustix::fs::getxattr(root.join("g"), "trusted.three", &mut [0_u8; 10]);
        seen.push(format!("{short:?}"));
        let link = rustix::fs::lsetxattr(root.join("l"), "user.x", b"", XattrFlags::empty());
        seen.push(errno(link).to_string());
        let len = rustix::fs::listxattr(root.join("g"), &mut buf).unwrap();
        let mut all: Vec<_> = buf[..len]
            .split(|byte| *byte == 0)
            .map(<[u8]>::to_vec)
            .collect();
        all.sort();
        seen.push(format!("{all:?}"));
        seen
    });
    if let Some(seen) = seen {
        assert_eq!(&seen[..2], ["user.one 17", "user.two 61"]);
    }
}

#[test]
fn row_55_devices_pipes_and_sockets_work() {
    row("mkdir d 755", |root| {
        let dir = root.join("d");
        let make = |name: &str, kind, device| {
            errno(rustix::fs::mknodat(
                CWD,
                dir.join(name),
                kind,
                Mode::RWXU,
                device,
            ))
        };
        let mut seen = vec![
            make("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)).to_string(),
            make(
                "block",
                FileType::BlockDevice,
                rustix::fs::makedev(300, 70_000),
            )
            .to_string(),
            make("fifo", FileType::Fifo, 0).to_string(),
        ];
        fs::write(dir.join("null"), "gone").unwrap();
        seen.push(format!("{:?}", fs::read(dir.join("null")).unwrap()));
        seen.push(fs::metadata(dir.join("block")).unwrap().rdev().to_string());
        let fifo = dir.join("fifo");
        let writer = std::thread::spawn(move || fs::write(fifo, "through the pipe"));
        seen.push(fs::read_to_string(dir.join("fifo")).unwrap());
        seen.push(code(writer.join().unwrap()).to_string());
        let listener = UnixListener::bind(dir.join("socket")).unwrap();
        let kind = fs::metadata(dir.join("socket")).unwrap().file_type();
        seen.push(kind.is_socket().to_string());
        fs::rename(dir.join("socket"), root.join("moved")).unwrap();
        let mut client = UnixStream::connect(root.join("moved")).unwrap();
        client.write_all(b"through the socket").unwrap();
        drop(client);
        let mut text = String::new();
        listener
            .accept()
            .unwrap()
            .0
            .read_to_string(&mut text)
            .unwrap();
        seen.push(text);
        seen
    });
}

#[test]
fn row_56_owners_have_32_bits() {
    row("create f 644\nmkdir d 755", |root| {
        let mut seen = Vec::new();
        for (path, id) in [
            ("f", 2_u32.pow(21)),
            ("d", u32::MAX - 1),
            ("f", u32::MAX - 1),
        ] {
            let set = std::os::unix::fs::chown(root.join(path), Some(id), Some(id - 1));
            let stat = fs::metadata(root.join(path)).unwrap();
            seen.push(format!("{} {} {}", code(set), stat.uid(), stat.gid()));
        }
        seen
    });
}

/// Takes POSIX locks and locks of an open file on parts of a file, and asks another process and another open file.
const LOCKS: &str = "
import fcntl, os, struct, sys
def ask(fd, kind, start, length, command):
    try:
        fcntl.fcntl(fd, command, struct.pack('hhqqi4x', kind, 0, start, length, 0))
        return 'ok'
    except OSError as e:
        return str(e.errno)
POSIX, OPEN = fcntl.F_SETLK, 37
one, two = os.open(sys.argv[1], os.O_RDWR), os.open(sys.argv[1], os.O_RDWR)
print(ask(one, fcntl.F_WRLCK, 0, 10, POSIX), ask(one, fcntl.F_WRLCK, 20, 10, OPEN))
print(ask(two, fcntl.F_RDLCK, 20, 1, OPEN), ask(two, fcntl.F_RDLCK, 30, 1, OPEN))
if os.fork() == 0:
    own = os.open(sys.argv[1], os.O_RDWR)
    print(ask(own, fcntl.F_RDLCK, 5, 1, POSIX), ask(own, fcntl.F_RDLCK, 10, 1, POSIX), flush=True)
    os._exit(0)
os.wait()
";

#[test]
fn row_58_locks_of_all_three_kinds_exclude_each_other() {
    let seen = row("create f 644\nwrite f 0 100 102", |root| {
        let open = || {
            File::options()
                .read(true)
                .write(true)
                .open(root.join("f"))
                .unwrap()
        };
        let (one, two) = (open(), open());
        let lock = |file: &File, how| errno(rustix::fs::flock(file, how)).to_string();
        let mut seen: Seen = vec![
            lock(&one, FlockOperation::LockExclusive),
            lock(&two, FlockOperation::NonBlockingLockShared),
        ];
        fs::write(root.join("f"), "copied up meanwhile").unwrap();
        seen.push(lock(&two, FlockOperation::NonBlockingLockExclusive));
        drop(one);
        seen.push(lock(&two, FlockOperation::NonBlockingLockExclusive));
        let script = patience::output(
            Command::new("python3")
                .args(["-c", LOCKS])
                .arg(root.join("f")),
        );
        assert!(
            script.status.success(),
            "{}",
            String::from_utf8_lossy(&script.stderr)
        );
        seen.push(String::from_utf8(script.stdout).unwrap());
        seen
    });
    if let Some(seen) = seen {
        assert_eq!(seen, ["0", "11", "11", "0", "ok ok\n11 ok\n11 ok\n"]);
    }
}

#[test]
fn row_59_watches_see_what_happens_also_through_copy_up() {
    let base = "mkdir d 755\ncreate d/f 644\nwrite d/f 0 100 102\nmkdir e 755";
    row(base, |root| {
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        let (mut places, mut seen) = (Vec::new(), Vec::new());
        for path in ["d", "d/f", "e"] {
            let all = inotify::WatchFlags::ALL_EVENTS;
            places.push((
                inotify::add_watch(&watch, root.join(path), all).unwrap(),
                path,
            ));
        }
        rustix::fs::chmod(root.join("d/f"), Mode::RWXU).unwrap();
        File::options()
            .append(true)
            .open(root.join("d/f"))
            .unwrap()
            .write_all(b"x")
            .unwrap();
        fs::rename(root.join("d/f"), root.join("e/g")).unwrap();
        fs::write(root.join("e/g"), "by its new name").unwrap();
        fs::create_dir(root.join("d/n")).unwrap();
        fs::remove_file(root.join("e/g")).unwrap();
        fs::remove_dir_all(root.join("d")).unwrap();
        let mut buf = [MaybeUninit::uninit(); 8192];
        let mut reader = inotify::Reader::new(&watch, &mut buf);
        while let Ok(event) = reader.next() {
            let place = places.iter().find(|(wd, _)| *wd == event.wd()).unwrap().1;
            seen.push(format!(
                "{place} {:?} {:?}",
                event.events(),
                event.file_name()
            ));
        }
        assert!(seen.len() > 10, "{seen:?}");
        seen
    });
}
