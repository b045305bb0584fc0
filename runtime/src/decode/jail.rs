//! What the decode child gives up before it reads an untrusted byte.

use std::collections::BTreeMap;

use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::config;

/// System calls that decoding needs: memory, threads, its two pipes, the clock, and its own end.
/// Everything else (files, sockets, processes, signals to others) answers ENOSYS: so the C library,
/// whose `clone3` cannot be looked into, goes back to `clone`, which can.
const ALLOWED: [i64; 26] = [
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_clock_gettime,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_ioctl,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Signals that a service manager or a terminal sends to every process of the service. They are the
/// daemon's to follow: it finishes the image that it has.
const STOP: [i32; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// Leaves the signals that stop the service to the daemon.
pub(crate) fn outlive_stop_signals() {
    for signal in STOP {
        #[expect(unsafe_code, reason = "no safe wrapper; ignoring a signal runs no code of ours")]
        // SAFETY: SIG_IGN is a valid disposition, and the signals are ones that may be ignored.
        let before = unsafe { libc::signal(signal, libc::SIG_IGN) };
        debug_assert_ne!(before, libc::SIG_ERR, "these can be ignored");
    }
}

/// Gives up everything; says what could not be given up.
///
/// Resource limits bind what the child may take; the filter of system calls takes the network and
/// the file system away. Where the kernel has no such filter (an emulator, a very old board) the
/// limits still hold, and the parent says so in its log.
pub(super) fn enter(limits: &config::Decode) -> Result<(), String> {
    let both = |value| Rlimit { current: Some(value), maximum: Some(value) };
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    let limited = [
        (Resource::As, limits.memory.as_u64()),
        // The kernel sends SIGXCPU at the first second beyond.
        (Resource::Cpu, limits.cpu.as_secs().max(1)),
        (Resource::Fsize, 0),
        // A core file would hold the patient's pixels.
        (Resource::Core, 0),
    ];
    for (resource, value) in limited {
        setrlimit(resource, both(value)).map_err(|e| failed("limiting resources", &e))?;
    }
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|e| failed("ending with the parent", &e))?;
    let filter = filter().map_err(|e| failed("making a filter of system calls", &e))?;
    seccompiler::apply_filter(&filter).map_err(|e| failed("filtering system calls", &e))
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.into_iter().map(|number| (number, Vec::new())).collect();
    // A thread (the JPEG decoder starts one), never a process.
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let of_a_thread = SeccompCmpOp::MaskedEq(thread);
    let flags = SeccompCondition::new(0, SeccompCmpArgLen::Qword, of_a_thread, thread)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![flags])?]);
    let denied = SeccompAction::Errno(libc::ENOSYS.unsigned_abs());
    SeccompFilter::new(rules, denied, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?
        .try_into()
}
