// SPDX-License-Identifier: Apache-2.0
// A program that makes Runs without pause while the test bed plays faults; it knows nothing of
// Outboard. Every Run has another input, and every answer is compared bit for bit with the right
// one, which this program works out by itself.
//
//   fault_client LIBRARY MODEL [--plain MODEL] [--threads N] [--processes N] [--pause-us N]
//
// MODEL is linear in whole numbers (tests/net/fault_models.py), so what it makes of a*p + b*q is
// a times what it makes of p plus b times what it makes of q, exactly and in any order of sums.
// What it makes of p and q comes with the model, computed without ONNX Runtime. With --plain one
// more thread makes Runs of another copy of the network, one that Outboard leaves alone: its
// longest Run is what "one local Run" takes on this machine at this moment, under this load. With
// --processes that many processes are such a program each; answers are sums and maxima over them.
//
// Prints {"opened_us": what opening the other copy took} once the sessions are open; obeys lines on
// standard input, a line of JSON each:
//   go       Runs begin (again); their figures begin anew
//   pause    no thread is inside a Run any more; the figures since `go`
//   open     opens that other copy once more, and closes it: {"opened_us": ...}
//   spawn    forks amid the Runs, and the child becomes another program
//   fork N   forks between two Runs; the child makes N Runs in as many threads and ends; its
//            figures. The parent's Runs wait only for the fork itself.
// At the end of its input it ends.
#include <dlfcn.h>
#include <fcntl.h>
#include <onnxruntime_c_api.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void die(const std::string& message) {
  std::fprintf(stderr, "fault_client: %s\n", message.c_str());
  std::_Exit(1);
}

std::uint64_t us_since(Clock::time_point begin) {
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - begin).count());
}

struct Arguments {
  const char* library = nullptr;
  const char* model = nullptr;
  const char* plain = nullptr;
  int threads = 8, processes = 1, pause_us = 0;
};

// What `pause` tells. Times in microseconds.
struct Figures {
  std::uint64_t runs = 0, failed = 0, wrong = 0, longest_us = 0, plain_us = 0;

  void add(const Figures& other) {
    runs += other.runs;
    failed += other.failed;
    wrong += other.wrong;
    longest_us = std::max(longest_us, other.longest_us);
    plain_us = std::max(plain_us, other.plain_us);
  }
  std::string json() const {
    std::string text(256, '\0');
    text.resize(static_cast<std::size_t>(std::snprintf(
        text.data(), text.size(),
        R"({"runs": %llu, "failed": %llu, "wrong": %llu, "longest_us": %llu, "plain_us": %llu})",
        static_cast<unsigned long long>(runs), static_cast<unsigned long long>(failed),
        static_cast<unsigned long long>(wrong), static_cast<unsigned long long>(longest_us),
        static_cast<unsigned long long>(plain_us))));
    return text;
  }
  static Figures parse(const std::string& text) {
    Figures f;
    unsigned long long v[5] = {};
    if (std::sscanf(
            text.c_str(),
            R"({"runs": %llu, "failed": %llu, "wrong": %llu, "longest_us": %llu, "plain_us": %llu})",
            &v[0], &v[1], &v[2], &v[3], &v[4]) != 5)
      die("a process answered (" + text + ") where its figures were expected");
    f.runs = v[0], f.failed = v[1], f.wrong = v[2], f.longest_us = v[3], f.plain_us = v[4];
    return f;
  }
};

// MODEL.base: the number of inputs' and outputs' elements, then p, q, and what becomes of them.
struct Base {
  std::vector<float> p, q, made_p, made_q;

  explicit Base(const std::string& model) {
    std::FILE* file = std::fopen((model + ".base").c_str(), "rb");
    if (file == nullptr) die("there is no " + model + ".base");
    std::uint32_t counts[2];
    bool whole = std::fread(counts, sizeof counts, 1, file) == 1;
    for (auto [vector, count] : {std::pair{&p, 0}, {&q, 0}, {&made_p, 1}, {&made_q, 1}}) {
      vector->resize(counts[count]);
      whole = whole &&
              std::fread(vector->data(), sizeof(float), vector->size(), file) == vector->size();
    }
    std::fclose(file);
    if (!whole) die(model + ".base is not whole");
  }
};

class Model {
 public:
  Model(const OrtApi& ort, OrtEnv* env, const char* path) : ort_(ort), base_(path) {
    OrtSessionOptions* options = nullptr;
    check(ort_.CreateSessionOptions(&options));
    check(ort_.SetIntraOpNumThreads(options, 1));
    const auto begin = Clock::now();
    check(ort_.CreateSession(env, path, options, &session_));
    opened_us_ = us_since(begin);
    ort_.ReleaseSessionOptions(options);
    check(ort_.CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory_));
    OrtAllocator* allocator = nullptr;
    check(ort_.GetAllocatorWithDefaultOptions(&allocator));
    OrtTypeInfo* info = nullptr;
    check(ort_.SessionGetInputTypeInfo(session_, 0, &info));
    const OrtTensorTypeAndShapeInfo* shape = nullptr;
    check(ort_.CastTypeInfoToTensorInfo(info, &shape));
    std::size_t rank = 0;
    check(ort_.GetDimensionsCount(shape, &rank));
    dims_.resize(rank);
    check(ort_.GetDimensions(shape, dims_.data(), rank));
    ort_.ReleaseTypeInfo(info);
  }
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;
  ~Model() {
    ort_.ReleaseMemoryInfo(memory_);
    ort_.ReleaseSession(session_);
  }

  std::uint64_t opened_us() const { return opened_us_; }

  // Run number `number`, over memory of the calling thread.
  void run(std::uint64_t number, std::vector<float>& input, Figures& figures) const {
    const auto a = static_cast<float>(number % 61), b = static_cast<float>(number / 61 % 61);
    input.resize(base_.p.size());
    for (std::size_t i = 0; i < input.size(); ++i) input[i] = a * base_.p[i] + b * base_.q[i];
    OrtValue* value = nullptr;
    check(ort_.CreateTensorWithDataAsOrtValue(memory_, input.data(), input.size() * sizeof(float),
                                              dims_.data(), dims_.size(),
                                              ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &value));
    const char *input_name = "x", *output_name = "y";
    OrtValue* output = nullptr;
    const auto begin = Clock::now();
    OrtStatus* status =
        ort_.Run(session_, nullptr, &input_name, &value, 1, &output_name, 1, &output);
    figures.longest_us = std::max(figures.longest_us, us_since(begin));
    ++figures.runs;
    if (status != nullptr) {
      if (++figures.failed == 1) std::fprintf(stderr, "failed: %s\n", ort_.GetErrorMessage(status));
      ort_.ReleaseStatus(status);
    } else if (!is_right(output, a, b)) {
      ++figures.wrong;
    }
    ort_.ReleaseValue(value);
    if (output != nullptr) ort_.ReleaseValue(output);
  }

 private:
  void check(OrtStatus* status) const {
    if (status != nullptr) die(ort_.GetErrorMessage(status));
  }

  bool is_right(OrtValue* output, float a, float b) const {
    OrtTensorTypeAndShapeInfo* shape = nullptr;
    check(ort_.GetTensorTypeAndShape(output, &shape));
    std::size_t count = 0;
    check(ort_.GetTensorShapeElementCount(shape, &count));
    ort_.ReleaseTensorTypeAndShapeInfo(shape);
    if (count != base_.made_p.size()) return false;
    void* data = nullptr;
    check(ort_.GetTensorMutableData(output, &data));
    const auto* values = static_cast<const float*>(data);
    bool right = true;
    for (std::size_t i = 0; i < count; ++i)
      right &= values[i] == a * base_.made_p[i] + b * base_.made_q[i];
    return right;
  }

  const OrtApi& ort_;
  const Base base_;
  OrtSession* session_ = nullptr;
  OrtMemoryInfo* memory_ = nullptr;
  std::vector<std::int64_t> dims_;
  std::uint64_t opened_us_ = 0;
};

// Makes Runs in threads, between `go` and `pause`.
class Load {
 public:
  Load(const Model& model, const Model* plain, int threads, int pause_us)
      : model_(model), plain_(plain) {
    for (int i = 0; i < threads; ++i)
      threads_.emplace_back([this, i, pause_us] {
        work(static_cast<std::uint64_t>(i) << 32, std::chrono::microseconds(pause_us));
      });
    if (plain_ != nullptr) threads_.emplace_back([this] { work_plainly(); });
  }
  ~Load() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
      changed_.notify_all();
    }
    for (std::thread& thread : threads_) thread.join();
  }
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  void go() {
    const std::lock_guard lock(mutex_);
    sum_ = {};
    going_ = true;
    changed_.notify_all();
  }
  Figures pause() {
    std::unique_lock lock(mutex_);
    stand_still(lock);
    return sum_;
  }
  // Forks while no thread is inside a Run.
  pid_t fork_between_runs() {
    std::unique_lock lock(mutex_);
    const bool was_going = going_;
    stand_still(lock);
    const pid_t child = ::fork();
    if (child != 0) {
      going_ = was_going;
      changed_.notify_all();
    }
    return child;
  }

 private:
  void stand_still(std::unique_lock<std::mutex>& lock) {
    going_ = false;
    changed_.wait(lock, [&] { return inside_ == 0; });
  }
  // False at the end.
  bool begin_run(std::unique_lock<std::mutex>& lock) {
    changed_.wait(lock, [&] { return going_ || ending_; });
    if (ending_) return false;
    ++inside_;
    lock.unlock();
    return true;
  }
  void end_run(std::unique_lock<std::mutex>& lock, const Figures& run) {
    lock.lock();
    sum_.add(run);
    if (--inside_ == 0) changed_.notify_all();
  }

  void work(std::uint64_t number, std::chrono::microseconds pause) {
    std::vector<float> input;
    std::unique_lock lock(mutex_);
    while (begin_run(lock)) {
      Figures run;
      model_.run(++number, input, run);
      end_run(lock, run);
      if (pause.count() > 0) changed_.wait_for(lock, pause, [&] { return ending_; });
    }
  }
  // In bursts, each long enough to lose the advantage that the system gives to who slept.
  void work_plainly() {
    constexpr auto kBurst = std::chrono::milliseconds(25), kRest = std::chrono::milliseconds(75);
    std::vector<float> input;
    std::unique_lock lock(mutex_);
    while (begin_run(lock)) {
      Figures runs;
      const auto begin = Clock::now();
      while (Clock::now() - begin < kBurst) plain_->run(runs.runs, input, runs);
      // They are not among those that are counted.
      end_run(lock, {0, runs.failed, runs.wrong, 0, runs.longest_us});
      changed_.wait_for(lock, kRest, [&] { return ending_; });
    }
  }

  const Model& model_;
  const Model* const plain_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool going_ = false, ending_ = false;
  int inside_ = 0;
  Figures sum_;
  std::vector<std::thread> threads_;
};

std::string read_all(int fd) {
  std::string text;
  char buffer[512];
  for (ssize_t got; (got = ::read(fd, buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(got));
  ::close(fd);
  return text;
}

void write_all(int fd, const std::string& text) {
  if (::write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    die("a pipe would not take a line");
}

int wait_for(pid_t child) {
  int status = 0;
  if (::waitpid(child, &status, 0) != child) die("waitpid failed");
  return status;
}

// In the child: as many threads as Runs.
[[noreturn]] void be_child(const Model& model, int runs, int out) {
  std::vector<Figures> each(static_cast<std::size_t>(runs));
  std::vector<std::thread> threads;
  for (int i = 0; i < runs; ++i)
    threads.emplace_back([&, i] {
      std::vector<float> input;
      model.run(static_cast<std::uint64_t>(100 + i), input, each[static_cast<std::size_t>(i)]);
    });
  for (std::thread& thread : threads) thread.join();
  Figures sum;
  for (const Figures& one : each) sum.add(one);
  write_all(out, sum.json());
  std::_Exit(0);
}

std::string fork_child(const Model& model, Load& load, int runs) {
  int ends[2];
  if (::pipe(ends) != 0) die("pipe failed");
  const pid_t child = load.fork_between_runs();
  if (child == 0) {
    ::close(ends[0]);
    be_child(model, runs, ends[1]);
  }
  ::close(ends[1]);
  const std::string told = read_all(ends[0]);
  if (wait_for(child) != 0) die("the forked child did not end well");
  return told;
}

std::string spawn() {
  const pid_t child = ::fork();
  if (child == 0) {
    ::execl("/bin/true", "true", nullptr);
    std::_Exit(126);
  }
  return wait_for(child) == 0 ? "{}" : R"({"error": "the child did not end well"})";
}

std::string opened_json(std::uint64_t opened_us) {
  return R"({"opened_us": )" + std::to_string(opened_us) + "}";
}

void serve_lines(const Arguments& arguments, std::FILE* in, std::FILE* out) {
  void* library = dlopen(arguments.library, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) die(dlerror());
  const auto get_base = reinterpret_cast<const OrtApiBase* (*)()>(dlsym(library, "OrtGetApiBase"));
  if (get_base == nullptr) die("the library has no OrtGetApiBase");
  const OrtApi* ort = get_base()->GetApi(ORT_API_VERSION);
  OrtEnv* env = nullptr;
  if (ort == nullptr || ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "faults", &env) != nullptr)
    die("the library is older than the headers");
  {
    const Model model(*ort, env, arguments.model);
    const auto plain =
        arguments.plain == nullptr ? nullptr : std::make_unique<Model>(*ort, env, arguments.plain);
    Load load(model, plain.get(), arguments.threads, arguments.pause_us);
    std::fprintf(out, "%s\n", opened_json(plain ? plain->opened_us() : 0).c_str());
    std::fflush(out);
    char line[64];
    while (std::fgets(line, sizeof line, in) != nullptr) {
      int runs = 0;
      std::string answer = "{}";
      if (std::strcmp(line, "go\n") == 0) load.go();
      if (std::strcmp(line, "pause\n") == 0) answer = load.pause().json();
      if (std::strcmp(line, "spawn\n") == 0) answer = spawn();
      if (std::strcmp(line, "open\n") == 0)
        answer = opened_json(Model(*ort, env, arguments.plain).opened_us());
      if (std::sscanf(line, "fork %d", &runs) == 1) answer = fork_child(model, load, runs);
      std::fprintf(out, "%s\n", answer.c_str());
      std::fflush(out);
    }
  }
  ort->ReleaseEnv(env);
}

// One of --processes, seen from the process that they come from.
struct Worker {
  pid_t pid;
  std::FILE *in, *out;

  explicit Worker(const Arguments& arguments) {
    int down[2], up[2];
    if (::pipe2(down, O_CLOEXEC) != 0 || ::pipe2(up, O_CLOEXEC) != 0) die("pipe failed");
    pid = ::fork();
    if (pid < 0) die("fork failed");
    if (pid == 0) {
      // The ends of its elder siblings would keep their inputs open.
      ::close(down[1]), ::close(up[0]);
      for (int fd = 3; fd < 4096; ++fd)
        if (fd != down[0] && fd != up[1]) ::close(fd);
      serve_lines(arguments, ::fdopen(down[0], "r"), ::fdopen(up[1], "w"));
      std::exit(0);
    }
    ::close(down[0]), ::close(up[1]);
    in = ::fdopen(down[1], "w");
    out = ::fdopen(up[0], "r");
  }
  void tell(const std::string& line) const {
    std::fprintf(in, "%s\n", line.c_str());
    std::fflush(in);
  }
  std::string answer() const {
    char line[512];
    if (std::fgets(line, sizeof line, out) == nullptr) die("a process ended too soon");
    return line;
  }
};

int lead(const Arguments& arguments) {
  std::vector<std::unique_ptr<Worker>> workers;
  for (int i = 0; i < arguments.processes; ++i)
    workers.push_back(std::make_unique<Worker>(arguments));
  for (const auto& worker : workers) worker->answer();
  std::printf("%s\n", opened_json(0).c_str());
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    Figures sum;
    for (const auto& worker : workers) worker->tell(line);
    for (const auto& worker : workers) {
      const std::string told = worker->answer();
      if (told != "{}\n") sum.add(Figures::parse(told));
    }
    std::printf("%s\n", sum.json().c_str());
    std::fflush(stdout);
  }
  bool well = true;
  for (const auto& worker : workers) std::fclose(worker->in);
  for (const auto& worker : workers) well &= wait_for(worker->pid) == 0;
  return well ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  if (argc < 3) die("usage: fault_client LIBRARY MODEL [OPTION VALUE]...");
  arguments.library = argv[1];
  arguments.model = argv[2];
  for (int i = 3; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    if (option == "--plain") arguments.plain = argv[i + 1];
    if (option == "--threads") arguments.threads = std::atoi(argv[i + 1]);
    if (option == "--processes") arguments.processes = std::atoi(argv[i + 1]);
    if (option == "--pause-us") arguments.pause_us = std::atoi(argv[i + 1]);
  }
  if (arguments.processes > 1) return lead(arguments);
  serve_lines(arguments, stdin, stdout);
}
