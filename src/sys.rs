//! The system calls that need `unsafe`, behind owned and safe types.
#![expect(unsafe_code, reason = "this is its home")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

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
    fn a_process_with_threads_does_not_fork() {
        std::thread::scope(|scope| {
            let (send, receive) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || receive.recv());
            fork_and_leave().unwrap_err();
            drop(send);
        });
    }
}
