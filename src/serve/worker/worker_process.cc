// SPDX-License-Identifier: Apache-2.0
// A worker's process and the thread that looks after it.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <future>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "serve/worker/inside.h"
#include "serve/worker/worker.h"
#include "wire/frame.h"

namespace outboard::serve {
namespace {

constexpr std::size_t kLineBytes = 1024;
constexpr int kLookMs = 100;            // at limits, idle time and the process
constexpr std::size_t kLinesLook = 20;  // passed on between two looks; more are dropped
constexpr int kLastReads = 16;          // of what an ended process has said: all that a pipe holds

// What a worker may know of the server's environment.
std::vector<std::string> environment_for_workers() {
  std::vector<std::string> environment;
  for (const char* name : {"LD_LIBRARY_PATH", "OUTBOARD_LOG", "OUTBOARD_ORT_LIBRARY", "PATH",
                           "CUDA_VISIBLE_DEVICES", "ASAN_OPTIONS", "TSAN_OPTIONS"})
    if (const char* value = std::getenv(name))
      environment.push_back(fmt::format("{}={}", name, value));
  // Memory is given back rather than kept for each thread.
  environment.emplace_back("MALLOC_ARENA_MAX=4");
  return environment;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  result.reserve(texts.size() + 1);
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

std::string how(int status) {
  if (WIFSIGNALED(status))
    return fmt::format("signal {}, {}", WTERMSIG(status), ::strsignal(WTERMSIG(status)));
  return fmt::format("exit status {}", WEXITSTATUS(status));
}

// "outboard: debug: ..." of a worker is the server's debugging, too.
LogLevel level_of(std::string_view line) {
  if (line.starts_with("outboard: debug: ") || line.starts_with("outboard: session "))
    return LogLevel::kDebug;
  return line.starts_with("outboard: warning: ") || line.starts_with("outboard: error: ")
             ? LogLevel::kWarn
             : LogLevel::kInfo;
}

// Nothing of a worker's line can pass for another line or field.
std::string harmless(std::string_view line) {
  std::string text(line.substr(0, kLineBytes));
  for (char& c : text) {
    if (c == '"') c = '\'';
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) c = '?';
  }
  return text;
}

}  // namespace

Result<std::shared_ptr<Worker>> Worker::start(WorkerStart start) {
  std::shared_ptr<Worker> worker(new Worker(std::move(start)));
  // The process is bound to the thread that starts it.
  std::promise<Result<void>> spawned;
  worker->thread_ = std::thread([worker = worker.get(), &spawned] {
    auto result = worker->spawn();
    const bool there = result.has_value();
    spawned.set_value(std::move(result));
    if (there) worker->watch();
  });
  if (auto result = spawned.get_future().get(); !result)
    return tl::make_unexpected(std::move(result).error());
  return worker;
}

Worker::~Worker() {
  {
    const std::lock_guard lock(mutex_);
    retiring_ = true;
    kill_at_ = Nanoseconds::zero();
    if (pid_ > 0 && !end_) ::kill(pid_, SIGKILL);
  }
  if (thread_.joinable()) thread_.join();
}

Result<void> Worker::spawn() {
  OB_TRY(HandoverSockets sockets, make_handover_sockets());
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0)
    return error(ErrorKind::kOverloaded, "no pipe for a worker: {}",
                 std::generic_category().message(errno));
  output_ = wire::FileDescriptor(pipe[0]);
  const wire::FileDescriptor their_output(pipe[1]);
  ::fcntl(output_.get(), F_SETFL, O_NONBLOCK);

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO})
    ::posix_spawn_file_actions_adddup2(&actions, their_output.get(), fd);
  ::posix_spawn_file_actions_adddup2(&actions, sockets.worker.get(), kHandoverDescriptor);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  sigset_t none;
  ::sigemptyset(&none);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setpgroup(&attributes, 0);  // of its own, for set_nice()
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
  std::vector<std::string> environment = environment_for_workers();
  const int code = ::posix_spawn(&pid_, start_.command.front().c_str(), &actions, &attributes,
                                 pointers(start_.command).data(), pointers(environment).data());
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  if (code != 0) {
    pid_ = -1;
    return error(ErrorKind::kOverloaded, "no worker could be started ({}): {}",
                 start_.command.front(), std::generic_category().message(code));
  }
  handover_ = std::move(sockets.server);
  return {};
}

// Whether the process is to be killed now.
bool Worker::look_at_limits(Nanoseconds now) {
  const std::lock_guard lock(mutex_);
  if (now >= kill_at_) return true;
  for (const UnderWay& one : limits_) {
    if (now < one.until) continue;
    if (why_.empty()) why_ = fmt::format("{} took longer than it may", one.what);
    retiring_ = true;
    return true;
  }
  return false;
}

// Whether the process has ended; it is not reaped yet.
bool Worker::is_gone() const {
  siginfo_t gone{};
  return ::waitid(P_PID, static_cast<id_t>(pid_), &gone, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         gone.si_pid == pid_;
}

// What read() returns.
ssize_t Worker::read_output(std::string& pending) const {
  std::array<char, 4096> bytes;
  const ssize_t n = ::read(output_.get(), bytes.data(), bytes.size());
  if (n > 0) pending.append(bytes.data(), static_cast<std::size_t>(n));
  return n;
}

void Worker::watch() {
  std::string pending;
  for (bool open = true;;) {
    pollfd poller{.fd = open ? output_.get() : -1, .events = POLLIN, .revents = 0};
    ::poll(&poller, 1, open ? kLookMs : 5);
    if (open && poller.revents != 0) {
      const ssize_t n = read_output(pending);
      open = n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
      pass_lines_on(pending);
    }
    // Its output need not end with it: it may have sent the descriptor to somebody, even to the
    // server over a connection, where it stays open.
    if (open && is_gone()) {
      for (int left = kLastReads; left > 0 && read_output(pending) > 0;) --left;
      open = false;
    }
    if (!open && !pending.empty()) pass_lines_on(pending += '\n');
    if (!open && reap()) return;
    const Nanoseconds now = Clock::monotonic().now();
    if (look_at_limits(now)) ::kill(pid_, SIGKILL);
    bool idle = false;
    {
      const std::lock_guard lock(mutex_);
      idle =
          sessions_ == 0 && limits_.empty() && !retiring_ && now - idle_since_ > start_.idle_time;
    }
    if (idle) retire_if_quiet(true);
  }
}

void Worker::pass_lines_on(std::string& pending) {
  const std::lock_guard lock(mutex_);
  if (const Nanoseconds now = Clock::monotonic().now(); now >= next_look_) {
    next_look_ = now + std::chrono::milliseconds(kLookMs);
    lines_ = 0;
  }
  std::size_t begin = 0;
  for (std::size_t end; (end = pending.find('\n', begin)) != std::string::npos; begin = end + 1) {
    last_line_ = harmless(std::string_view(pending).substr(begin, end - begin));
    if (++lines_ <= kLinesLook)
      log(level_of(last_line_), "worker says tenant={} pid={} line=\"{}\"", start_.tenant, pid_,
          last_line_);
  }
  pending.erase(0, begin);
  if (pending.size() > kLineBytes) pending.clear();
}

std::string Worker::under_way() const {
  std::string ids;
  for (const UnderWay& one : limits_)
    ids.append(ids.empty() ? "" : " ").append(wire::request_name(one.request_id));
  return ids;
}

// Under the mutex, so that nobody sends a signal to a number that is another process's by then.
bool Worker::reap() {
  const std::lock_guard lock(mutex_);
  int status = 0;
  if (::waitpid(pid_, &status, WNOHANG) != pid_) return false;
  End end;
  end.lived = Clock::monotonic().now() - started_;
  end.expected = retiring_ && why_.empty();
  end.at_limit = !why_.empty();
  end.others = limits_.empty() ? 0 : limits_.size() - 1;
  end.sentence = why_.empty() ? how(status) : why_;
  if (WIFEXITED(status) && !end.expected && !last_line_.empty()) end.sentence += ": " + last_line_;
  log(end.expected ? LogLevel::kInfo : LogLevel::kWarn,
      "worker ended tenant={} pid={} lived_s={:.1f} under_way=\"{}\" reason=\"{}\"", start_.tenant,
      pid_, std::chrono::duration<double>(end.lived).count(), under_way(),
      end.expected ? "it was not needed" : end.sentence);
  end_ = std::move(end);
  ended_ = true;
  changed_.notify_all();
  return true;
}

}  // namespace outboard::serve
