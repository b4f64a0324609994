//! docker's default filter, from its documentation and behaviour: what most programs need is allowed, what a capability
//! already guards is allowed with that capability, all else answers EPERM. Pure: makes the program, `sys` loads it.
//!
//! The program is made here, as ranges of numbers: libseccomp takes 15 ms for these rules, as long as all the rest of a
//! container's start, and has no names for newer calls. It is asked only for the numbers of the older ones.
//!
//! Two answers are ENOSYS, because programs handle that one: `clone3` without `CAP_SYS_ADMIN` (its flags are behind a pointer,
//! where no filter can look; C libraries then use `clone`), and calls newer than this list (glibc then goes the older way;
//! with EPERM it would give up).

use libc::sock_filter;
use libcontainer::oci_spec::runtime::Capability;
use libseccomp::{ScmpArch, ScmpSyscall};

/// "Function not implemented".
const ENOSYS: u32 = 38;
/// "Operation not permitted".
const EPERM: u32 = 1;

/// `AF_VSOCK`: would reach past the network namespace to a hypervisor.
const AF_VSOCK: u32 = 40;

/// The flags of `clone` that make namespaces: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const CLONE_NAMESPACES: u32 = 0x7e02_0000;

/// The personalities that change no security: Linux, Linux32, both with UNAME26, and the question for the current one.
const PERSONALITIES: [u32; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

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

/// A kind of programs that this machine runs.
struct Machine {
    /// The kernel's `AUDIT_ARCH_…`.
    token: u32,
    /// Its ways to number calls; x32 is x86-64 with a bit set.
    numberings: &'static [ScmpArch],
    /// What it needs beside `ALLOWED`.
    also: &'static str,
}

#[cfg(target_arch = "x86_64")]
const MACHINES: [Machine; 2] = [
    Machine {
        token: 0xc000_003e,
        numberings: &[ScmpArch::X8664, ScmpArch::X32],
        also: "arch_prctl modify_ldt",
    },
    Machine {
        token: 0x4000_0003,
        numberings: &[ScmpArch::X86],
        also: "modify_ldt",
    },
];
#[cfg(target_arch = "aarch64")]
const MACHINES: [Machine; 2] = [
    Machine {
        token: 0xc000_00b7,
        numberings: &[ScmpArch::Aarch64],
        also: "sync_file_range2",
    },
    Machine {
        token: 0x4000_0028,
        numberings: &[ScmpArch::Arm],
        also: "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    },
];

/// Calls that an older libseccomp has no names for; from 424 on the numbers are the same on every machine.
const NEWER: [(&str, u32); 13] = [
    ("cachestat", 451),
    ("fchmodat2", 452),
    ("map_shadow_stack", 453),
    ("futex_wake", 454),
    ("futex_wait", 455),
    ("futex_requeue", 456),
    ("statmount", 457),
    ("listmount", 458),
    ("mseal", 462),
    ("setxattrat", 463),
    ("getxattrat", 464),
    ("listxattrat", 465),
    ("removexattrat", LAST_CALL),
];

/// The newest call that this list was made for.
const LAST_CALL: u32 = 466;

/// x32's numbers start here.
const X32: u32 = 1 << 30;

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

/// Makes the filter for a process with these capabilities.
pub(crate) fn filter(capabilities: &[Capability]) -> Vec<sock_filter> {
    let mut program = vec![load(offset_of(Word::Arch))];
    for machine in &MACHINES {
        let block = block(machine, capabilities);
        program.push(when(libc::BPF_JEQ, machine.token, 1, 0));
        program.push(skip(block.len()));
        program.extend(block);
    }
    // Programs of no machine that we know.
    program.push(answer(libc::SECCOMP_RET_KILL_PROCESS));
    program
}

/// The part for one machine: ends in an answer for every number.
fn block(machine: &Machine, capabilities: &[Capability]) -> Vec<sock_filter> {
    let mut program = vec![
        load(offset_of(Word::Number)),
        when(libc::BPF_JGE, X32, 2, 0),
        when(libc::BPF_JGT, LAST_CALL, 0, 1),
        answer(libc::SECCOMP_RET_ERRNO | ENOSYS),
    ];
    for (name, check) in checks(capabilities) {
        for number in numbers(name, machine) {
            // A check is a handful of statements.
            let length = u8::try_from(check.len()).unwrap_or(u8::MAX);
            program.push(when(libc::BPF_JEQ, number, 0, length));
            program.extend(&check);
        }
    }
    let mut allowed: Vec<u32> = allowed(machine, capabilities)
        .flat_map(|name| numbers(name, machine))
        .collect();
    allowed.sort_unstable();
    for (first, last) in ranges(&allowed) {
        // Whoever comes here is above all earlier ranges.
        program.push(when(libc::BPF_JGE, first, 1, 0));
        program.push(answer(libc::SECCOMP_RET_ERRNO | EPERM));
        program.push(when(libc::BPF_JGT, last, 1, 0));
        program.push(answer(libc::SECCOMP_RET_ALLOW));
    }
    program.push(answer(libc::SECCOMP_RET_ERRNO | EPERM));
    program
}

fn allowed<'a>(
    machine: &'a Machine,
    capabilities: &'a [Capability],
) -> impl Iterator<Item = &'static str> + 'a {
    let guarded = GUARDED.iter().chain(&GUARDED_NEWLY);
    guarded
        .filter(|(capability, _)| capabilities.contains(capability))
        .map(|(_, names)| *names)
        .chain([ALLOWED, machine.also])
        .flat_map(str::split_whitespace)
}

/// Calls whose answer depends on their first argument. The kernel too looks only at the lower half of these arguments.
fn checks(capabilities: &[Capability]) -> Vec<(&'static str, Vec<sock_filter>)> {
    let allow = answer(libc::SECCOMP_RET_ALLOW);
    let deny = answer(libc::SECCOMP_RET_ERRNO | EPERM);
    let argument = load(offset_of(Word::FirstArgument));
    let mut personality = vec![argument];
    for known in PERSONALITIES {
        personality.extend([when(libc::BPF_JEQ, known, 0, 1), allow]);
    }
    personality.push(deny);
    let socket = vec![argument, when(libc::BPF_JEQ, AF_VSOCK, 0, 1), deny, allow];
    let mut checks = vec![("personality", personality), ("socket", socket)];
    if !capabilities.contains(&Capability::SysAdmin) {
        let clone = vec![
            argument,
            when(libc::BPF_JSET, CLONE_NAMESPACES, 0, 1),
            deny,
            allow,
        ];
        checks.push(("clone", clone));
        checks.push(("clone3", vec![answer(libc::SECCOMP_RET_ERRNO | ENOSYS)]));
    }
    checks
}

/// The numbers of a call on a machine, which may have none.
fn numbers(name: &str, machine: &Machine) -> impl Iterator<Item = u32> {
    machine.numberings.iter().filter_map(move |numbering| {
        let known = ScmpSyscall::from_name_by_arch(name, *numbering).ok();
        // Calls that only other machines have are negative.
        let number = known.and_then(|call| u32::try_from(i32::from(call)).ok());
        let newer = NEWER
            .iter()
            .find(|(newer, _)| *newer == name)
            .map(|(_, number)| *number);
        let bit = if *numbering == ScmpArch::X32 { X32 } else { 0 };
        number.or(newer.map(|number| number | bit))
    })
}

/// Joins sorted numbers that follow each other.
fn ranges(numbers: &[u32]) -> Vec<(u32, u32)> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if number <= last.saturating_add(1) => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    ranges
}

/// What the filter can look at: `struct seccomp_data { int nr; u32 arch; u64 ip; u64 args[6]; }`, little-endian.
enum Word {
    Number,
    Arch,
    FirstArgument,
}

fn offset_of(word: Word) -> u32 {
    match word {
        Word::Number => 0,
        Word::Arch => 4,
        Word::FirstArgument => 16,
    }
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter {
        // Codes have 16 bits.
        code: u16::try_from(code).unwrap_or(u16::MAX),
        jt: 0,
        jf: 0,
        k,
    }
}

fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

/// Goes on after so many statements if the comparison holds, after so many others if not.
fn when(comparison: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter {
        jt,
        jf,
        ..statement(libc::BPF_JMP | comparison | libc::BPF_K, k)
    }
}

fn skip(statements: usize) -> sock_filter {
    // The kernel takes 4096 at most, and refuses a jump beyond the end.
    let far = u32::try_from(statements).unwrap_or(u32::MAX);
    statement(libc::BPF_JMP | libc::BPF_JA, far)
}

fn answer(with: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, with)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// Runs a filter as the kernel does.
    fn judge(program: &[sock_filter], token: u32, number: u32, argument: u32) -> u32 {
        let words = [number, token, 0, 0, argument, 0];
        let (mut place, mut a) = (0usize, 0u32);
        loop {
            let now = program[place];
            place += 1;
            let code = u32::from(now.code);
            let jump = |holds: bool| usize::from(if holds { now.jt } else { now.jf });
            match code {
                _ if code == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    a = words[now.k as usize / 4]
                }
                _ if code == libc::BPF_RET | libc::BPF_K => return now.k,
                _ if code == libc::BPF_JMP | libc::BPF_JA => place += now.k as usize,
                _ if code == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => {
                    place += jump(a == now.k)
                }
                _ if code == libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K => {
                    place += jump(a > now.k)
                }
                _ if code == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K => {
                    place += jump(a >= now.k)
                }
                _ if code == libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K => {
                    place += jump(a & now.k != 0)
                }
                _ => panic!("code {code:#x}"),
            }
        }
    }

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const NOT_PERMITTED: u32 = libc::SECCOMP_RET_ERRNO | EPERM;
    const NOT_THERE: u32 = libc::SECCOMP_RET_ERRNO | ENOSYS;

    /// What a call named so comes to on every machine and in every numbering that has it.
    fn verdicts(capabilities: &[Capability], name: &str, argument: u32) -> Vec<u32> {
        let program = filter(capabilities);
        let mut verdicts: Vec<u32> = MACHINES
            .iter()
            .flat_map(|machine| numbers(name, machine).map(|number| (machine.token, number)))
            .map(|(token, number)| judge(&program, token, number, argument))
            .collect();
        verdicts.dedup();
        verdicts
    }

    #[test]
    fn guarded_calls_need_their_capability() {
        for (capability, names) in GUARDED {
            for name in names
                .split_whitespace()
                .filter(|name| !name.starts_with("clone"))
            {
                let known = !verdicts(&[], name, 0).is_empty();
                assert!(known, "{name} has no number");
                assert_eq!(
                    verdicts(&[], name, 0),
                    [NOT_PERMITTED],
                    "{name} without any"
                );
                assert_eq!(
                    verdicts(&[capability], name, 0),
                    [ALLOW],
                    "{name} with {capability}"
                );
            }
        }
        assert_eq!(verdicts(&[Capability::Bpf], "bpf", 0), [ALLOW]);
        for name in [
            "add_key",
            "keyctl",
            "request_key",
            "kexec_load",
            "swapon",
            "userfaultfd",
            "io_uring_setup",
        ] {
            assert_eq!(verdicts(&[], name, 0), [NOT_PERMITTED], "{name}");
        }
    }

    #[test]
    fn every_listed_call_is_allowed_wherever_it_exists() {
        let program = filter(&[]);
        for machine in &MACHINES {
            for name in ALLOWED
                .split_whitespace()
                .chain(machine.also.split_whitespace())
            {
                for number in numbers(name, machine) {
                    assert_eq!(
                        judge(&program, machine.token, number, 0),
                        ALLOW,
                        "{name} as {number}"
                    );
                }
            }
        }
        assert!(program.len() < 4096, "{} statements", program.len());
    }

    #[test]
    fn no_other_number_is_allowed() {
        let program = filter(&[]);
        for machine in &MACHINES {
            let mut known: Vec<u32> = allowed(machine, &[])
                .flat_map(|name| numbers(name, machine))
                .collect();
            known.extend(
                ["socket", "personality", "clone", "clone3"]
                    .iter()
                    .flat_map(|name| numbers(name, machine)),
            );
            for number in (0..1024).chain(X32..X32 + 1024).chain([u32::MAX]) {
                if !known.contains(&number) {
                    let expected = if (LAST_CALL + 1..X32).contains(&number) {
                        NOT_THERE
                    } else {
                        NOT_PERMITTED
                    };
                    assert_eq!(
                        judge(&program, machine.token, number, 0),
                        expected,
                        "{number}"
                    );
                }
            }
        }
        assert_eq!(
            judge(&program, 0x1234, 0, 0),
            libc::SECCOMP_RET_KILL_PROCESS
        );
    }

    #[test]
    fn arguments_are_looked_at() {
        for (flags, verdict) in [
            (0x11, ALLOW),
            (0x1000_0011, NOT_PERMITTED),
            (0x0002_0000, NOT_PERMITTED),
        ] {
            assert_eq!(verdicts(&[], "clone", flags), [verdict], "{flags:#x}");
        }
        assert_eq!(verdicts(&[], "clone3", 0), [NOT_THERE]);
        for name in ["clone", "clone3"] {
            assert_eq!(
                verdicts(&[Capability::SysAdmin], name, 0x1000_0000),
                [ALLOW]
            );
        }
        assert_eq!(verdicts(&[], "socket", 2), [ALLOW]);
        assert_eq!(verdicts(&[], "socket", AF_VSOCK), [NOT_PERMITTED]);
        assert_eq!(verdicts(&[], "personality", 0xffff_ffff), [ALLOW]);
        assert_eq!(verdicts(&[], "personality", 0x0040_0000), [NOT_PERMITTED]);
    }

    #[test]
    fn newer_calls_have_numbers_whatever_libseccomp_knows() {
        for (name, number) in NEWER {
            assert!(
                numbers(name, MACHINES.first().unwrap()).any(|known| known == number),
                "{name}"
            );
        }
    }

    #[test]
    fn no_call_is_listed_twice() {
        let mut names: Vec<_> = ALLOWED.split_whitespace().collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
