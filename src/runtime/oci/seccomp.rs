//! docker's default filter, from its documentation and behaviour: what most programs need is allowed, what a capability
//! already guards is allowed with that capability, all else answers EPERM.
//!
//! Two deviations that programs feel, both towards what they handle: `clone3` without `CAP_SYS_ADMIN` is ENOSYS (its flags
//! are behind a pointer, so no filter can look; C libraries then use `clone`), and calls newer than our libseccomp are
//! ENOSYS too (see `shim::payload`).

use libcontainer::oci_spec::OciSpecError;
use libcontainer::oci_spec::runtime::{
    Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompBuilder, LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

/// "Function not implemented".
const ENOSYS: u32 = 38;
/// "Operation not permitted".
const EPERM: u32 = 1;

/// `AF_VSOCK`: would reach past the network namespace to a hypervisor.
const AF_VSOCK: u64 = 40;

/// The flags of `clone` that make namespaces: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// The personalities that change no security: Linux, Linux32, both with UNAME26, and the question for the current one.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Allowed always; old and new names of one call side by side. Names that the machine does not know are skipped.
const ALLOWED: &str = "
accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime
clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64
close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old
epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2
fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64
fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync
ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat getcpu getcwd
getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername
getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit
get_robust_list getrusage getsid getsockname getsockopt get_thread_area gettid gettimeofday getuid getuid32 getxattr
getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel ioctl io_destroy io_getevents
io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set io_setup io_submit ipc kill landlock_add_rule
landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr
listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier
memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr
mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl
msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat _newselect open openat
openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl
pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead
readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat
rename renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_getaffinity sched_getattr
sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval
sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp
select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto setfsgid
setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32
setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit set_robust_list setsid setsockopt
set_thread_area set_tid_address setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack
signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx
symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun
timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64
timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime
utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
process_vm_readv process_vm_writev ptrace";

/// Allowed for one machine's sake.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &str = "arch_prctl modify_ldt";
/// Allowed for one machine's sake.
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &str =
    "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls";

/// The machines whose programs this one runs.
#[cfg(target_arch = "x86_64")]
const MACHINES: [Arch; 3] = [Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32];
/// The machines whose programs this one runs.
#[cfg(not(target_arch = "x86_64"))]
const MACHINES: [Arch; 2] = [Arch::ScmpArchAarch64, Arch::ScmpArchArm];

/// Allowed with a capability that guards it.
const GUARDED: [(Capability, &str); 12] = [
    (Capability::DacReadSearch, "open_by_handle_at"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount \
         open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (
        Capability::SysModule,
        "delete_module init_module finit_module",
    ),
    (Capability::SysPacct, "acct"),
    (Capability::SysPtrace, "kcmp pidfd_getfd process_madvise"),
    (Capability::SysRawio, "iopl ioperm"),
    (
        Capability::SysTime,
        "settimeofday stime clock_settime clock_settime64",
    ),
    (Capability::SysTtyConfig, "vhangup"),
    (
        Capability::SysNice,
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
    (Capability::Syslog, "syslog"),
];

/// Allowed with either of two capabilities.
const GUARDED_NEWLY: [(Capability, &str); 2] = [
    (Capability::Bpf, "bpf"),
    (Capability::Perfmon, "perf_event_open"),
];

/// Returns the newest call that this machine's libseccomp knows of those that are allowed.
///
/// A newer one cannot be allowed by name, and EPERM for it would break programs that try it first and go on with the older
/// way if there is none (glibc 2.39's `fchmodat2` is such a case with libseccomp 2.5.4).
pub(crate) fn last_known_call() -> Option<u32> {
    ALLOWED
        .split_whitespace()
        .filter_map(|name| libseccomp::ScmpSyscall::from_name(name).ok())
        .filter_map(|call| u32::try_from(i32::from(call)).ok())
        // Numbers of calls that this machine has under another name only are negative or beyond all real ones.
        .filter(|number| *number < NUMBERS_END)
        .max()
}

/// Above all numbers of system calls; x32's begin there.
const NUMBERS_END: u32 = 1 << 30;

/// Makes the filter for a process with these capabilities.
pub(super) fn default_profile(capabilities: &[Capability]) -> Result<LinuxSeccomp, OciSpecError> {
    let allow = LinuxSeccompAction::ScmpActAllow;
    let mut rules = vec![
        rule(ALLOWED, allow, None)?,
        rule(ALLOWED_HERE, allow, None)?,
    ];
    rules.push(rule(
        "socket",
        allow,
        Some(argument(
            0,
            LinuxSeccompOperator::ScmpCmpNe,
            AF_VSOCK,
            None,
        )?),
    )?);
    for personality in PERSONALITIES {
        let is = argument(0, LinuxSeccompOperator::ScmpCmpEq, personality, None)?;
        rules.push(rule("personality", allow, Some(is))?);
    }
    for (capability, names) in GUARDED.iter().chain(&GUARDED_NEWLY) {
        if capabilities.contains(capability) {
            rules.push(rule(names, allow, None)?);
        }
    }
    if !capabilities.contains(&Capability::SysAdmin) {
        // OCI says value = mask and value two = what is compared; libcontainer 0.7.0 reads them the other way round.
        let none_of = argument(
            0,
            LinuxSeccompOperator::ScmpCmpMaskedEq,
            0,
            Some(CLONE_NAMESPACES),
        )?;
        rules.push(rule("clone", allow, Some(none_of))?);
        let mut clone3 = rule("clone3", LinuxSeccompAction::ScmpActErrno, None)?;
        clone3.set_errno_ret(Some(ENOSYS));
        rules.push(clone3);
    }
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(EPERM)
        .architectures(MACHINES)
        .syscalls(rules)
        .build()
}

fn rule(
    names: &str,
    action: LinuxSeccompAction,
    argument: Option<LinuxSeccompArg>,
) -> Result<LinuxSyscall, OciSpecError> {
    let names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
    let builder = LinuxSyscallBuilder::default().names(names).action(action);
    match argument {
        Some(argument) => builder.args(vec![argument]).build(),
        None => builder.build(),
    }
}

fn argument(
    index: usize,
    op: LinuxSeccompOperator,
    value: u64,
    value_two: Option<u64>,
) -> Result<LinuxSeccompArg, OciSpecError> {
    let builder = LinuxSeccompArgBuilder::default()
        .index(index)
        .op(op)
        .value(value);
    match value_two {
        Some(two) => builder.value_two(two).build(),
        None => builder.build(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn allows(capabilities: &[Capability], name: &str) -> bool {
        let profile = default_profile(capabilities).unwrap();
        let rules = profile.syscalls().as_ref().unwrap();
        rules.iter().any(|rule| {
            rule.action() == LinuxSeccompAction::ScmpActAllow
                && rule.args().is_none()
                && rule.names().iter().any(|known| known == name)
        })
    }

    #[test]
    fn guarded_calls_need_their_capability() {
        for (capability, names) in GUARDED {
            for name in names.split_whitespace() {
                assert!(!allows(&[], name), "{name} without any");
                assert!(allows(&[capability], name), "{name} with {capability}");
            }
        }
        assert!(allows(&[Capability::Bpf], "bpf"));
        for name in [
            "add_key",
            "keyctl",
            "request_key",
            "kexec_load",
            "swapon",
            "userfaultfd",
            "io_uring_setup",
        ] {
            assert!(!allows(&[], name), "{name}");
        }
    }

    #[test]
    fn no_call_is_listed_twice() {
        let mut names: Vec<_> = ALLOWED
            .split_whitespace()
            .chain(ALLOWED_HERE.split_whitespace())
            .collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
