// SPDX-License-Identifier: Apache-2.0
// The system calls that a worker keeps. Everything else fails with EPERM, which libraries take for
// a missing right and live with; a call that they must have is found by the tests that run whole
// models inside (tests/serve/worker_test.cc, tests/intercept with isolation).
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>
#include <system_error>

#include "serve/worker/reopening.h"
#include "serve/worker/sandbox.h"

namespace outboard::serve {
namespace {

using Filter = std::unique_ptr<void, void (*)(scmp_filter_ctx)>;

// Of descriptors that are there, memory, threads of its own, and clocks.
constexpr std::string_view kNarrow[] = {
    "read", "write", "recvmsg", "recvfrom", "sendmsg", "sendto", "shutdown", "poll", "ppoll",
    "getsockopt", "close", "dup", "lseek", "ftruncate", "memfd_create", "fstatfs",
    // memory
    "munmap", "mremap", "madvise", "brk", "mincore", "membarrier",
    // threads
    "futex", "set_robust_list", "rseq", "set_tid_address", "exit", "exit_group", "gettid", "getpid",
    "getppid", "geteuid", "getuid", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack",
    "restart_syscall", "sched_yield", "sched_getaffinity", "getcpu",
    // time, randomness and what the machine is
    "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time",
    "getrandom", "sysinfo", "uname", "getrusage", "times"};

// Beyond that, for a GPU's driver and libraries.
constexpr std::string_view kWide[] = {"open",
                                      "openat",
                                      "stat",
                                      "lstat",
                                      "fstat",
                                      "newfstatat",
                                      "statx",
                                      "access",
                                      "faccessat",
                                      "faccessat2",
                                      "readlink",
                                      "readlinkat",
                                      "getdents64",
                                      "getcwd",
                                      "ioctl",
                                      "pread64",
                                      "pwrite64",
                                      "readv",
                                      "writev",
                                      "dup2",
                                      "dup3",
                                      "pipe2",
                                      "eventfd2",
                                      "epoll_create1",
                                      "epoll_ctl",
                                      "epoll_wait",
                                      "epoll_pwait",
                                      "mlock",
                                      "munlock",
                                      "mbind",
                                      "get_mempolicy",
                                      "set_mempolicy",
                                      "sched_setaffinity",
                                      "fcntl",
                                      "setsockopt",
                                      "sched_getparam",
                                      "sched_getscheduler",
                                      "getgid",
                                      "getegid",
                                      "mmap",
                                      "mprotect",
                                      "prctl",
                                      "prlimit64",
                                      "getrlimit"};

tl::unexpected<Error> filter_error(std::string_view doing, int code) {
  return error(
      code == -EINVAL || code == -ENOSYS ? ErrorKind::kUnimplemented : ErrorKind::kInternal,
      "the filter of system calls: {} failed: {}", doing, std::generic_category().message(-code));
}

Result<void> allow(const Filter& filter, std::string_view name,
                   std::span<const scmp_arg_cmp> conditions = {}) {
  const int number = ::seccomp_syscall_resolve_name(std::string(name).c_str());
  if (number == __NR_SCMP_ERROR) return {};  // not of this architecture, or too new
  const int code =
      ::seccomp_rule_add_array(filter.get(), SCMP_ACT_ALLOW, number,
                               static_cast<unsigned>(conditions.size()), conditions.data());
  if (code == 0 || code == -EDOM) return {};
  return filter_error(name, code);
}

Result<void> allow_if(const Filter& filter, std::string_view name,
                      std::initializer_list<scmp_arg_cmp> conditions) {
  return allow(filter, name, std::span(conditions.begin(), conditions.size()));
}

// Conditions on an argument; libseccomp's own macros are C.
scmp_arg_cmp equal(unsigned argument, scmp_datum_t value) {
  return {.arg = argument, .op = SCMP_CMP_EQ, .datum_a = value, .datum_b = 0};
}
scmp_arg_cmp masked(unsigned argument, scmp_datum_t mask, scmp_datum_t value) {
  return {.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = value};
}

// Threads, not processes; clone3, whose flags lie in memory where no filter sees them, is told not
// to exist, and the C library does with clone.
Result<void> allow_threads(const Filter& filter) {
  OB_CHECK_OK(allow_if(filter, "clone", {masked(0, CLONE_THREAD, CLONE_THREAD)}));
  const int code = ::seccomp_rule_add(filter.get(), SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
  if (code != 0) return filter_error("clone3", code);
  // A signal to itself is how abort() ends it.
  return allow_if(filter, "tgkill", {equal(0, static_cast<scmp_datum_t>(::getpid()))});
}

// No memory becomes code, limits can be read.
Result<void> allow_narrowly(const Filter& filter) {
  for (const char* name : {"mmap", "mprotect"})
    OB_CHECK_OK(allow_if(filter, name, {masked(2, PROT_EXEC, 0)}));
  OB_CHECK_OK(allow_if(filter, "prlimit64", {equal(0, 0), equal(2, 0)}));
  OB_CHECK_OK(allow_if(filter, "prctl", {equal(0, PR_SET_NAME)}));
  // Not F_SETOWN, which sends signals.
  for (const int command : {F_GETFD, F_SETFD, F_GETFL, F_ADD_SEALS, F_GET_SEALS})
    OB_CHECK_OK(allow_if(filter, "fcntl", {equal(1, static_cast<scmp_datum_t>(command))}));
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO})
    OB_CHECK_OK(allow_if(filter, "setsockopt",
                         {equal(1, SOL_SOCKET), equal(2, static_cast<scmp_datum_t>(option))}));
  if (!answer_openings()) return {};
  const int code = ::seccomp_rule_add(filter.get(), SCMP_ACT_TRAP, SCMP_SYS(openat), 0);
  return code == 0 ? Result<void>{} : filter_error("openat", code);
}

}  // namespace

Result<void> restrict_calls(SystemCalls which) {
  const Filter filter(::seccomp_init(SCMP_ACT_ERRNO(EPERM)), &::seccomp_release);
  if (!filter) return error(ErrorKind::kInternal, "the filter of system calls cannot be made");
  // All threads, or none.
  if (const int code = ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1); code != 0)
    return filter_error("for all threads", code);
  ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);  // a tree: a few steps a call
  for (const std::string_view name : kNarrow) OB_CHECK_OK(allow(filter, name));
  OB_CHECK_OK(allow_threads(filter));
  if (which == SystemCalls::kWide) {
    for (const std::string_view name : kWide) OB_CHECK_OK(allow(filter, name));
  } else {
    OB_CHECK_OK(allow_narrowly(filter));
  }
  if (const int code = ::seccomp_load(filter.get()); code != 0)
    return filter_error("loading", code);
  return {};
}

}  // namespace outboard::serve
