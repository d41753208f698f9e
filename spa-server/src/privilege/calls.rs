//! The system calls that are left, by seccomp: everything else is answered with EPERM. No program can be started, no
//! process made, nothing connected, and no socket opened but for capture and for questions about addresses and sockets.

use std::collections::BTreeMap;

use libc::{SYS_clone, SYS_fcntl, c_long};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition as Condition,
    SeccompFilter, SeccompRule as Rule, TargetArch, apply_filter, sock_filter,
};

use super::{Given, Kept, unless};
use crate::logging::JOURNAL;

/// System calls that are allowed whatever their arguments, and why.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Their numbers.
    pub numbers: &'static [c_long],
    /// What they are needed for.
    pub reason: &'static str,
}

/// What is allowed whatever the arguments; which files, addresses and processes that reaches is bounded elsewhere.
pub const ALLOWED: &[Call] = &[
    Call {
        reason: "reading and writing what is open: files, pipes, the control socket, the ring",
        numbers: &[
            libc::SYS_read,
            libc::SYS_write,
            libc::SYS_readv,
            libc::SYS_writev,
            libc::SYS_pread64,
            libc::SYS_pwrite64,
            libc::SYS_lseek,
            libc::SYS_close,
            libc::SYS_recvfrom,
            libc::SYS_recvmsg,
            libc::SYS_shutdown,
        ],
    },
    Call {
        reason: "opening and listing the files that Landlock leaves: clients, invites, keys, the record",
        numbers: &[
            libc::SYS_statx,
            libc::SYS_newfstatat,
            libc::SYS_fstat,
            libc::SYS_getdents64,
            libc::SYS_readlinkat,
            libc::SYS_faccessat,
            libc::SYS_faccessat2,
            libc::SYS_getcwd,
            libc::SYS_statfs,
            libc::SYS_fstatfs,
        ],
    },
    Call {
        reason: "writing them: drafts that are made durable and renamed, the record, the audit log",
        numbers: &[
            libc::SYS_fsync,
            libc::SYS_fdatasync,
            libc::SYS_ftruncate,
            libc::SYS_fallocate,
            libc::SYS_flock,
            libc::SYS_fchown,
            libc::SYS_unlinkat,
            libc::SYS_renameat,
            libc::SYS_renameat2,
            libc::SYS_linkat,
        ],
    },
    Call {
        reason: "noticing changes in clients.d and invites.d",
        numbers: &[
            libc::SYS_inotify_init1,
            libc::SYS_inotify_add_watch,
            libc::SYS_inotify_rm_watch,
        ],
    },
    Call {
        reason: "waiting: the loop, the ring, locks between threads",
        numbers: &[
            libc::SYS_epoll_create1,
            libc::SYS_epoll_ctl,
            libc::SYS_epoll_pwait,
            libc::SYS_epoll_pwait2,
            libc::SYS_ppoll,
            libc::SYS_eventfd2,
            libc::SYS_futex,
            libc::SYS_nanosleep,
            libc::SYS_clock_nanosleep,
            libc::SYS_restart_syscall,
            libc::SYS_sched_yield,
            libc::SYS_wait4,
        ],
    },
    Call {
        reason: "the sockets that socket(2) may make, and connections that others begin",
        numbers: &[
            libc::SYS_bind,
            libc::SYS_accept4,
            libc::SYS_getsockname,
            libc::SYS_getpeername,
            libc::SYS_setsockopt,
            libc::SYS_getsockopt,
        ],
    },
    Call {
        reason: "memory",
        numbers: &[libc::SYS_brk, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise],
    },
    Call {
        reason: "clocks, chance, and who this is",
        numbers: &[
            libc::SYS_clock_gettime,
            libc::SYS_clock_getres,
            libc::SYS_gettimeofday,
            libc::SYS_adjtimex,
            libc::SYS_clock_adjtime,
            libc::SYS_getrandom,
            libc::SYS_getpid,
            libc::SYS_gettid,
            libc::SYS_getuid,
            libc::SYS_geteuid,
            libc::SYS_getgid,
            libc::SYS_getegid,
            libc::SYS_uname,
            libc::SYS_sched_getaffinity,
            libc::SYS_getrusage,
        ],
    },
    Call {
        reason: "signals and threads of its own, and the end",
        numbers: &[
            libc::SYS_rt_sigaction,
            libc::SYS_rt_sigprocmask,
            libc::SYS_rt_sigreturn,
            libc::SYS_sigaltstack,
            libc::SYS_set_robust_list,
            libc::SYS_rseq,
            libc::SYS_membarrier,
            libc::SYS_exit,
            libc::SYS_exit_group,
        ],
    },
    #[cfg(target_arch = "x86_64")]
    Call {
        reason: "older forms of the above, which libraries on this machine use",
        numbers: &[
            libc::SYS_stat,
            libc::SYS_lstat,
            libc::SYS_access,
            libc::SYS_readlink,
            libc::SYS_poll,
            libc::SYS_epoll_wait,
            libc::SYS_unlink,
            libc::SYS_rename,
            libc::SYS_link,
            libc::SYS_time,
        ],
    },
];

/// Applies the filter to this thread and all that it starts.
pub(super) fn keep_needed(to_journal: bool) -> Given {
    let arch = std::env::consts::ARCH.try_into().map_err(|_| {
        let arch = std::env::consts::ARCH;
        Kept(format!(
            "seccomp is not known here for {arch}: every system call stays allowed"
        ))
    })?;
    let failed = "may use every system call";
    let program = program(arch, to_journal).map_err(unless(failed))?;
    apply_filter(&program).map_err(unless(failed))
}

fn program(arch: TargetArch, to_journal: bool) -> Result<BpfProgram, seccompiler::BackendError> {
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules(to_journal)?, refused, SeccompAction::Allow, arch)?;
    let filter: BpfProgram = filter.try_into()?;
    Ok(without_clone3().into_iter().chain(filter).collect())
}

fn rules(to_journal: bool) -> Result<BTreeMap<c_long, Vec<Rule>>, seccompiler::BackendError> {
    let numbers = ALLOWED.iter().flat_map(|call| call.numbers);
    let mut rules: BTreeMap<c_long, Vec<Rule>> = numbers.map(|number| (*number, Vec::new())).collect();
    let mut allow = |number, conditions| -> Result<(), seccompiler::BackendError> {
        rules.entry(number).or_default().push(Rule::new(conditions)?);
        Ok(())
    };
    // Capture.
    allow(libc::SYS_socket, vec![equals(0, libc::AF_PACKET)?])?;
    // What libpcap asks of an interface. It cannot be connected, and nothing can be sent to an address over it.
    let datagrams = vec![equals(0, libc::AF_INET)?, equals(1, libc::SOCK_DGRAM)?, equals(2, 0)?];
    allow(libc::SYS_socket, datagrams)?;
    // To whom a socket is connected, or to the kernel: only the length of an address can be looked at. With the log in the
    // journal, to whatever has an address as long as its name.
    let journal = to_journal.then_some(size_of::<libc::sa_family_t>() + JOURNAL.len() + 1);
    let lengths = [0, size_of::<libc::sockaddr_nl>()];
    for length in lengths.into_iter().chain(journal) {
        let length = Condition::new(5, Len::Dword, Op::Eq, length as u64)?;
        allow(libc::SYS_sendto, vec![length])?;
    }
    // Addresses and routes; which sockets are there.
    for protocol in [libc::NETLINK_ROUTE, libc::NETLINK_SOCK_DIAG] {
        allow(
            libc::SYS_socket,
            vec![equals(0, libc::AF_NETLINK)?, equals(2, protocol)?],
        )?;
    }
    // Memory is never both written and run.
    for number in [libc::SYS_mmap, libc::SYS_mprotect] {
        let not_run = Op::MaskedEq(u64::from(libc::PROT_EXEC.unsigned_abs()));
        allow(number, vec![Condition::new(2, Len::Dword, not_run, 0)?])?;
    }
    // Files, but none that runs as its owner.
    for (number, mode) in [(libc::SYS_openat, 3), (libc::SYS_fchmod, 1)] {
        let plain = Condition::new(mode, Len::Dword, Op::MaskedEq(0o7000), 0)?;
        allow(number, vec![plain])?;
    }
    // What libpcap and tokio ask of their sockets; never keys pressed into the terminal that this was started from.
    let refused = [libc::TIOCSTI, libc::TIOCLINUX, libc::TIOCSCTTY, libc::TIOCSETD];
    let not_one = |request: &libc::Ioctl| Condition::new(1, Len::Dword, Op::Ne, *request);
    allow(libc::SYS_ioctl, refused.iter().map(not_one).collect::<Result<_, _>>()?)?;
    // Threads, but no process.
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    allow(
        SYS_clone,
        vec![Condition::new(0, Len::Dword, Op::MaskedEq(thread), thread)?],
    )?;
    // A thread's name.
    allow(libc::SYS_prctl, vec![equals(0, libc::PR_SET_NAME)?])?;
    // The name that the allocator gives its memory.
    allow(libc::SYS_prctl, vec![equals(0, PR_SET_VMA)?])?;
    // How large a thread's stack may be; asked, never changed.
    allow(
        libc::SYS_prlimit64,
        vec![equals(0, 0)?, Condition::new(2, Len::Qword, Op::Eq, 0)?],
    )?;
    // Itself: how a panic that aborts ends.
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    allow(libc::SYS_tgkill, vec![equals(0, own)?])?;
    // Flags, locks and copies of descriptors; not who is told of them by a signal.
    for command in [
        libc::F_GETFD,
        libc::F_SETFD,
        libc::F_GETFL,
        libc::F_SETFL,
        libc::F_DUPFD_CLOEXEC,
        libc::F_OFD_GETLK,
        libc::F_OFD_SETLK,
        libc::F_OFD_SETLKW,
    ] {
        allow(SYS_fcntl, vec![equals(1, command)?])?;
    }
    Ok(rules)
}

const PR_SET_VMA: i32 = 0x5356_4d41;

fn equals(argument: u8, value: i32) -> Result<Condition, seccompiler::BackendError> {
    Condition::new(argument, Len::Dword, Op::Eq, u64::from(value.cast_unsigned()))
}

/// Its arguments cannot be looked at, so it does not exist; the library then takes clone(2). Only here is the answer
/// another than EPERM, so these three instructions stand before the filter.
fn without_clone3() -> [sock_filter; 3] {
    let number = u32::try_from(libc::SYS_clone3).unwrap_or(u32::MAX);
    let instruction = |code: u32, jf: u8, k: u32| sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt: 0,
        jf,
        k,
    };
    [
        // The call's number is the first field of what the filter sees.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 1, number),
        instruction(
            libc::BPF_RET | libc::BPF_K,
            0,
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_starts_connects_or_traces_is_allowed() {
        let rules = rules(false).unwrap();
        let forbidden = [
            libc::SYS_execve,
            libc::SYS_execveat,
            libc::SYS_connect,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_clone3,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_mount,
            libc::SYS_bpf,
            libc::SYS_kill,
            libc::SYS_pidfd_open,
            libc::SYS_listen,
            libc::SYS_keyctl,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
            libc::SYS_perf_event_open,
            libc::SYS_init_module,
            libc::SYS_setuid,
            libc::SYS_capset,
        ];
        for number in forbidden {
            assert!(!rules.contains_key(&number), "{number}");
        }
    }

    #[test]
    fn each_call_is_told_once_and_the_filter_can_be_built() {
        let mut numbers: Vec<_> = ALLOWED.iter().flat_map(|call| call.numbers).collect();
        let all = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), all);
        program(std::env::consts::ARCH.try_into().unwrap(), true).unwrap();
    }
}
