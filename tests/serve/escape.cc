// SPDX-License-Identifier: Apache-2.0
// What a model that has taken over its process would try next.
#include <fcntl.h>
#include <linux/bpf.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

#include "tests/serve/escape.h"

namespace outboard::serve {
namespace {

template <typename... Arguments>
int call(long number, Arguments... arguments) {
  return ::syscall(number, arguments...) < 0 ? errno : 0;
}

template <int kDomain>
int make_socket() {
  return call(SYS_socket, kDomain, SOCK_STREAM, 0);
}

char scratch[64];

constexpr Attempt kAttempts[] = {
    {"open /etc/passwd", [] { return call(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY); }},
    {"open the library's folder", [] { return call(SYS_openat, AT_FDCWD, "/usr/lib", O_RDONLY); }},
    {"create a file",
     [] { return call(SYS_openat, AT_FDCWD, "/tmp/escaped", O_CREAT | O_WRONLY); }},
    {"ask whether a file is there",
     [] {
       struct stat status{};
       return call(SYS_newfstatat, AT_FDCWD, "/etc/passwd", &status, 0);
     }},
    {"access", [] { return call(SYS_faccessat, AT_FDCWD, "/etc/passwd", R_OK); }},
    {"read a link", [] { return call(SYS_readlinkat, AT_FDCWD, "/proc/self/exe", scratch, 64); }},
    {"remove a file", [] { return call(SYS_unlinkat, AT_FDCWD, "/tmp/escaped", 0); }},
    {"a socket of IPv4", make_socket<AF_INET>},
    {"a socket of IPv6", make_socket<AF_INET6>},
    {"a unix socket", make_socket<AF_UNIX>},
    {"a netlink socket", make_socket<AF_NETLINK>},
    {"connect",
     [] {
       const sockaddr address{};
       return call(SYS_connect, 0, &address, sizeof address);
     }},
    {"execute",
     [] {
       const char* const arguments[] = {"/bin/true", nullptr};
       return call(SYS_execve, "/bin/true", arguments, nullptr);
     }},
    {"fork", [] { return call(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr); }},
    {"trace itself", [] { return call(SYS_ptrace, PTRACE_TRACEME, 0, nullptr, nullptr); }},
    {"trace the server", [] { return call(SYS_ptrace, PTRACE_ATTACH, ::getppid(), 0, 0); }},
    {"read the server's memory",
     [] {
       const iovec here{scratch, sizeof scratch}, there{scratch, sizeof scratch};
       return call(SYS_process_vm_readv, ::getppid(), &here, 1, &there, 1, 0);
     }},
    {"signal the server", [] { return call(SYS_kill, ::getppid(), 0); }},
    {"signal a thread of the server", [] { return call(SYS_tgkill, ::getppid(), ::getppid(), 0); }},
    {"own a descriptor's signals", [] { return call(SYS_fcntl, 3, F_SETOWN, ::getppid()); }},
    {"memory that is code",
     [] {
       return call(SYS_mmap, nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
     }},
    {"be dumpable again", [] { return call(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0); }},
    {"other limits",
     [] {
       const rlimit limit{RLIM_INFINITY, RLIM_INFINITY};
       return call(SYS_prlimit64, 0, RLIMIT_DATA, &limit, nullptr);
     }},
    {"another priority", [] { return call(SYS_setpriority, PRIO_PROCESS, 0, 0); }},
    {"not to yield any more",
     [] {
       constexpr sched_param kNone{};
       return call(SYS_sched_setscheduler, 0, SCHED_OTHER, &kNone);
     }},
    {"a user namespace", [] { return call(SYS_unshare, 0x10000000); }},
    {"mount", [] { return call(SYS_mount, "none", "/tmp", "tmpfs", 0, nullptr); }},
    {"bpf", [] { return call(SYS_bpf, BPF_MAP_CREATE, nullptr, 0); }},
    {"io_uring", [] { return call(425, 1, nullptr); }},
    {"open its own memory", [] { return call(SYS_openat, AT_FDCWD, "/proc/self/mem", O_RDWR); }},
    {"open its folder of descriptors",
     [] { return call(SYS_openat, AT_FDCWD, "/proc/self/fd", O_RDONLY); }},
    {"open a file through it",
     [] { return call(SYS_openat, AT_FDCWD, "/proc/self/fd/../exe", O_RDONLY); }},
    {"open a descriptor of the server",
     [] { return call(SYS_openat, AT_FDCWD, "/proc/1/fd/0", O_RDONLY); }},
    {"open with openat2", [] { return call(437, AT_FDCWD, "/proc/self/fd/3", scratch, 24); }},
};

}  // namespace

std::span<const Attempt> escape_attempts() { return kAttempts; }

}  // namespace outboard::serve
