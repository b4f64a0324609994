//! The system calls that need `unsafe`, behind owned and safe types.
#![expect(unsafe_code, reason = "this is its home")]

use std::ffi::{CStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use nix::unistd::ForkResult;

/// Splits this process in two and returns in the child; the parent ends at once, so that the child has init as its parent.
///
/// Refuses if there is a second thread: a fork copies only the one that calls.
pub fn fork_and_leave() -> io::Result<()> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other("a process with threads cannot fork"));
    }
    // SAFETY: there is no other thread that could hold a lock (checked above), so the child may do anything.
    // WHY UNSAFE: std has no fork; a second exec of the program would cost as much as the container's start.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Child => Ok(()),
        ForkResult::Parent { .. } => std::process::exit(0),
    }
}

/// Closes every descriptor from `first` on. Only for a process that has just been executed and owns none of them yet.
pub fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: the caller owns no descriptor from `first` on (documented), so none is closed under somebody's hands.
    // WHY UNSAFE: neither std nor rustix wraps close_range.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if closed == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Returns the working directory by the kernel's own word; it begins with no slash where it is not below this process's root.
pub fn working_directory() -> io::Result<PathBuf> {
    let mut path = vec![0u8; WORKING_DIRECTORY_BYTES_MAX];
    // SAFETY: the kernel writes at most `path.len()` bytes to `path`, which is ours alone.
    // WHY UNSAFE: the C library's getcwd, which every wrapper calls, does not pass such an answer on. It looks itself for a way
    // up to something with the root's number, finds the same root in another mount, and says that the directory is "/".
    let length = unsafe { libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len()) };
    // The length counts the zero at the end.
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    path.truncate(length.saturating_sub(1));
    Ok(OsString::from_vec(path).into())
}

/// What the kernel's getcwd writes at most: a page.
const WORKING_DIRECTORY_BYTES_MAX: usize = 4096;

/// Puts something harmless in the place of every directory that is open from `first` on: each is a way to what is above it
/// for who names it through `/proc/self/fd`. Only for a process that needs none of them any more.
///
/// The numbers stay taken, so that an owner that closes its own later closes nobody else's. Where there is no `/proc` there
/// is no such way either.
pub fn forget_directories(first: RawFd) -> io::Result<()> {
    let names = match std::fs::read_dir("/proc/self/fd") {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // All of them first: reading the list holds a directory open too.
    let open: Vec<RawFd> = names
        .flatten()
        .filter_map(|name| name.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd >= first)
        .collect();
    let harmless = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC)?;
    for fd in open.into_iter().filter(|fd| *fd != harmless.as_raw_fd()) {
        // SAFETY: fstat and dup3 take numbers, of which one that is not open is answered with an error; whoever owns the
        // number finds it open as before, and does not need the directory (documented).
        // WHY UNSAFE: the owners are in libraries that do not hand them out.
        let forgotten = unsafe {
            let is_directory = rustix::fs::fstat(BorrowedFd::borrow_raw(fd))
                .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir());
            !is_directory || libc::dup3(harmless.as_raw_fd(), fd, libc::O_CLOEXEC) >= 0
        };
        if !forgotten {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Lets every signal do what it does by default, and none be blocked: what a program expects at its start.
///
/// Rust ignores SIGPIPE, and an ignored signal stays ignored through exec.
pub fn reset_signals() {
    // struct kernel_sigaction: the handler (SIG_DFL is 0), flags, on some machines a restorer, and the mask.
    let default = [0u64; 4];
    for number in 1..=64 {
        // SAFETY: the kernel reads at most the 32 bytes of `default`; SIG_DFL is no handler of ours, so no code runs that
        // signals could disturb; KILL and STOP answer with an error that changes nothing.
        // WHY UNSAFE: setting a disposition is unsafe in every wrapper, and the C library's refuses the two signals that it
        // keeps for itself, which its own posix_spawn leaves ignored.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                number,
                default.as_ptr(),
                std::ptr::null::<u64>(),
                8,
            );
        }
    }
    // Unblocking cannot fail with a set that is whole.
    nix::sys::signal::SigSet::all()
        .thread_unblock()
        .unwrap_or_default();
}

/// Sends a signal by number, real-time signals included, to the process that a pidfd holds.
pub fn signal_process(process: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    let null = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open for the call, and the null pointer is documented as "as kill does".
    // WHY UNSAFE: rustix and nix take only the signals that have a name.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            number,
            null,
            0,
        )
    };
    if sent == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Sends a signal by number, real-time signals included, to one process.
pub fn signal_number(pid: i32, number: i32) -> io::Result<()> {
    if pid <= 0 {
        // Zero and negative numbers mean whole groups, our own among them.
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: kill takes two numbers and touches no memory of ours.
    // WHY UNSAFE: rustix and nix take only the signals that have a name.
    let sent = unsafe { libc::kill(pid, number) };
    if sent == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Makes a mount and all that is mounted below it read-only.
pub fn make_read_only(path: &CStr) -> io::Result<()> {
    // struct mount_attr: what to set, what to clear, propagation, a user namespace.
    let attributes = [libc::MOUNT_ATTR_RDONLY, 0, 0, 0];
    // SAFETY: the path ends with a zero, and the kernel reads the 32 bytes of `attributes` that it is told.
    // WHY UNSAFE: neither rustix nor nix wraps mount_setattr.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    if set == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Puts a filter on the system calls of this process and its children, for good.
///
/// Needs CAP_SYS_ADMIN or no_new_privs.
pub fn filter_calls(program: &[libc::sock_filter]) -> io::Result<()> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies `filter` and the program it points to during the call and writes to neither; both live until
    // it returns. It checks the program itself.
    // WHY UNSAFE: no wrapper in use takes a raw program.
    let set = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const filter,
        )
    };
    if set == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn signals_go_to_one_process_only() {
        for group in [0, -1, -5] {
            assert_eq!(
                signal_number(group, 0).unwrap_err().kind(),
                io::ErrorKind::InvalidInput
            );
        }
        signal_number(i32::try_from(std::process::id()).unwrap(), 0).unwrap();
    }

    #[test]
    fn the_working_directory_is_the_one_that_the_library_finds() {
        assert_eq!(
            working_directory().unwrap(),
            std::env::current_dir().unwrap()
        );
    }

    #[test]
    fn only_directories_from_a_number_on_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "kept").unwrap();
        // Other tests run beside this one and have directories open: only those at high numbers are meant.
        let at =
            |file: std::fs::File, number| rustix::io::fcntl_dupfd_cloexec(file, number).unwrap();
        let low = at(std::fs::File::open(folder.path()).unwrap(), 700);
        let high = at(std::fs::File::open(folder.path()).unwrap(), 900);
        let file = at(std::fs::File::open(&path).unwrap(), 900);
        forget_directories(900).unwrap();
        let is_directory = |fd: &std::os::fd::OwnedFd| {
            let mode = rustix::fs::fstat(fd).unwrap().st_mode;
            rustix::fs::FileType::from_raw_mode(mode).is_dir()
        };
        assert!(is_directory(&low));
        assert!(!is_directory(&high));
        assert_eq!(
            std::io::read_to_string(std::fs::File::from(file)).unwrap(),
            "kept"
        );
    }

    #[test]
    fn a_process_with_threads_does_not_fork() {
        std::thread::scope(|scope| {
            let (send, receive) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || receive.recv());
            fork_and_leave().unwrap_err();
            drop(send);
        });
    }
}
