// SPDX-License-Identifier: Apache-2.0
// Privileges, limits and Landlock. seccomp is in system_calls.cc.
#include "serve/worker/sandbox.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <system_error>

#include "wire/transport/file_descriptor.h"

namespace outboard::serve {
namespace {

namespace fs = std::filesystem;

tl::unexpected<Error> system_error(std::string_view doing, int code) {
  return error(ErrorKind::kInternal, "{} failed: {}", doing, std::generic_category().message(code));
}

// The kernel's interface, spelled out: Debian's headers know less of it than the kernel may.
struct LandlockRuleset {
  std::uint64_t handled_access_fs = 0, handled_access_net = 0, scoped = 0;
};
struct [[gnu::packed]] LandlockPath {
  std::uint64_t allowed_access = 0;
  std::int32_t parent_fd = -1;
};
constexpr std::uint64_t kExecute = 1u << 0, kWriteFile = 1u << 1, kReadFile = 1u << 2,
                        kReadFolder = 1u << 3, kRefer = 1u << 13, kTruncate = 1u << 14,
                        kControlDevice = 1u << 15;
constexpr std::uint64_t kFirstVersion = kRefer - 1;  // all that it can deny of files
constexpr std::uint64_t kOfFiles =
    kExecute | kWriteFile | kReadFile | kTruncate | kControlDevice;  // folders have more
constexpr std::uint32_t kAskVersion = 1;
constexpr int kPathBeneath = 1;

LandlockRuleset all_that_can_be_denied(long version) {
  LandlockRuleset ruleset{.handled_access_fs = kFirstVersion};
  if (version >= 2) ruleset.handled_access_fs |= kRefer;
  if (version >= 3) ruleset.handled_access_fs |= kTruncate;
  if (version >= 4) ruleset.handled_access_net = 3;  // TCP: bind, connect
  if (version >= 5) ruleset.handled_access_fs |= kControlDevice;
  if (version >= 6) ruleset.scoped = 3;  // abstract unix sockets, signals
  return ruleset;
}

std::size_t ruleset_bytes(long version) {
  if (version >= 6) return sizeof(LandlockRuleset);
  return version >= 4 ? offsetof(LandlockRuleset, scoped)
                      : offsetof(LandlockRuleset, handled_access_net);
}

Result<void> allow(int ruleset, const std::string& path, std::uint64_t access) {
  const wire::FileDescriptor file(::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!file) return {};
  struct stat status{};
  if (::fstat(file.get(), &status) != 0) return {};
  if (!S_ISDIR(status.st_mode)) access &= kOfFiles;
  const LandlockPath rule{.allowed_access = access, .parent_fd = file.get()};
  if (::syscall(SYS_landlock_add_rule, ruleset, kPathBeneath, &rule, 0) == 0) return {};
  return system_error(fmt::format("allowing ({})", path), errno);
}

Result<void> set_limit(int resource, rlim_t value) {
  const rlimit limit{.rlim_cur = value, .rlim_max = value};
  if (::setrlimit(static_cast<__rlimit_resource>(resource), &limit) == 0) return {};
  return system_error(fmt::format("setting the limit of resource {}", resource), errno);
}

}  // namespace

Result<void> give_up_privileges(int nice) {
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return system_error("binding to the server", errno);
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    return system_error("giving up new privileges", errno);
  // Neither its memory nor a core dump is for others to read.
  if (::prctl(PR_SET_DUMPABLE, 0) != 0) return system_error("hiding the memory", errno);
  OB_CHECK_OK(set_limit(RLIMIT_CORE, 0));
  if (::setpriority(PRIO_PROCESS, 0, nice) != 0)
    return system_error("lowering the priority", errno);
  return {};
}

Result<void> limit_memory(std::uint64_t size_bytes) {
  if (size_bytes == 0) return {};
  return set_limit(RLIMIT_DATA, size_bytes);
}

Result<int> restrict_files(const std::vector<std::string>& readable,
                           const std::vector<std::string>& writable) {
  const long version = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, kAskVersion);
  if (version < 1)
    return error(ErrorKind::kUnimplemented, "this kernel has no Landlock ({})",
                 std::generic_category().message(errno));
  const LandlockRuleset all = all_that_can_be_denied(version);
  const wire::FileDescriptor ruleset(
      static_cast<int>(::syscall(SYS_landlock_create_ruleset, &all, ruleset_bytes(version), 0)));
  if (!ruleset) return system_error("making Landlock's rules", errno);
  const std::uint64_t reads = kExecute | kReadFile | kReadFolder;
  const std::uint64_t writes =
      (reads | kWriteFile | kTruncate | kControlDevice) & all.handled_access_fs;
  for (const std::string& path : readable) OB_CHECK_OK(allow(ruleset.get(), path, reads));
  for (const std::string& path : writable) OB_CHECK_OK(allow(ruleset.get(), path, writes));
  if (::syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0)
    return system_error("entering Landlock", errno);
  return static_cast<int>(version);
}

std::vector<std::string> files_to_load(const std::string& library) {
  std::vector<std::string> files = {"/usr",
                                    "/lib",
                                    "/lib64",
                                    "/etc/ld.so.cache",
                                    "/proc/cpuinfo",
                                    "/proc/meminfo",
                                    "/sys/devices/system"};
  std::error_code ignored;
  const fs::path real = fs::canonical(library, ignored);
  if (!ignored) {
    files.push_back(real.parent_path());
    // A wheel's library finds those of other wheels beside its own: SITE/onnxruntime/capi/...
    if (real.parent_path().filename() == "capi")
      files.push_back(real.parent_path().parent_path().parent_path());
  }
  const char* const more = std::getenv("LD_LIBRARY_PATH");
  std::string_view rest = more == nullptr ? "" : more;
  while (!rest.empty()) {
    const std::size_t end = std::min(rest.find(':'), rest.size());
    if (end > 0) files.emplace_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return files;
}

std::vector<std::string> gpu_files_to_read() {
  return {"/proc/self", "/proc/driver/nvidia", "/proc/devices", "/proc/modules",
          "/sys/class", "/sys/bus/pci",        "/sys/devices",  "/sys/module/nvidia"};
}

std::vector<std::string> gpu_devices() {
  std::vector<std::string> devices = {"/dev/null", "/dev/zero", "/dev/shm"};
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/dev", ignored))
    if (entry.path().filename().string().starts_with("nvidia"))
      devices.push_back(entry.path().string());
  return devices;
}

}  // namespace outboard::serve
