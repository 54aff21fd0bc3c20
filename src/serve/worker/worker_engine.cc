// SPDX-License-Identifier: Apache-2.0
#include "serve/worker/worker_engine.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <utility>

#include "base/log.h"
#include "engine/memory_source.h"
#include "engine/optimiser.h"
#include "serve/convert.h"
#include "serve/worker/shown_model.h"
#include "serve/worker/worker_memory.h"
#include "serve/worker/worker_run.h"
#include "serve/worker/workers.h"

namespace outboard::serve {
namespace {

namespace fs = std::filesystem;

constexpr Nanoseconds kTimeToDie = std::chrono::seconds(2);

// Entered; left at the end.
class Attached {
 public:
  explicit Attached(std::shared_ptr<Worker> entered) : worker_(std::move(entered)) {}
  ~Attached() { worker_->leave(); }
  Attached(const Attached&) = delete;
  Attached& operator=(const Attached&) = delete;
  Worker& worker() const { return *worker_; }

  // The session that computes where its tensors are, opened when it is first asked for.
  Result<std::shared_ptr<wire::RemoteSession>> placed(const wire::SessionOptions& options) {
    const std::lock_guard lock(mutex_);
    if (!placed_.runs) {
      OB_TRY(placed_, worker_->open_placed(opened, options));
    }
    return placed_.runs;
  }

 private:
  const std::shared_ptr<Worker> worker_;
  std::mutex mutex_;
  Worker::Opened placed_;

 public:
  Worker::Opened opened;  // both go before the worker, which they are of
};

// The tenant's one worker at a time.
class TenantWorker {
 public:
  TenantWorker(std::shared_ptr<Workers> workers, TenantSpec tenant)
      : workers_(std::move(workers)), tenant_(std::move(tenant)) {}

  Workers& workers() const { return *workers_; }

  WorkerMemories memories;

  // Memory that has come to its end.
  void forget(const WorkerMemory& memory) {
    memories.remove(memory);
    std::shared_ptr<Worker> worker;
    {
      const std::lock_guard lock(mutex_);
      worker = current_;
    }
    if (worker && !worker->has_ended()) worker->forget_memory(memory.number);
  }

  Result<std::shared_ptr<Worker>> enter() {
    const std::lock_guard lock(mutex_);
    if (current_ && current_->enter()) return current_;
    if (current_) note_end(std::chrono::seconds(5));
    const Nanoseconds now = Clock::monotonic().now();
    if (const Nanoseconds left = delay_.left(now); left > Nanoseconds::zero())
      return error(ErrorKind::kOverloaded,
                   "the tenant's worker has ended {} times in a row; the next one may start in "
                   "{:.1f} s",
                   delay_.times(), std::chrono::duration<double>(left).count());
    OB_TRY(current_, workers_->make(tenant_));
    return current_;
  }

  struct Explained {
    Error error;
    bool may_repeat = false;  // the worker has ended, and perhaps not because of this call
  };
  // The call has failed in a way that may be the worker's end: what its caller is to hear.
  Explained explain(Worker& worker, Error error, const char* doing) {
    const bool broken = error.kind == ErrorKind::kDisconnected ||
                        error.kind == ErrorKind::kMaybeExecuted ||
                        error.kind == ErrorKind::kTimeout;
    if (!broken) return {std::move(error)};
    auto end = worker.how_it_ended(kTimeToDie);
    if (!end) {
      worker.end(error.kind == ErrorKind::kTimeout ? "it was silent" : "it closed its connection");
      end = worker.how_it_ended(kTimeToDie);
    }
    {
      const std::lock_guard lock(mutex_);
      if (current_.get() == &worker) note_end(Nanoseconds::zero());
    }
    const std::string how = end ? end->sentence : "it does not end";
    const bool may_repeat = end && !end->at_limit;
    if (!end || end->others > 0 || end->expected)
      return {{ErrorKind::kNotFound,
               fmt::format("the tenant's worker ended while {} ({})", doing, how), 0},
              may_repeat};
    return {{ErrorKind::kInternal,
             fmt::format("the model ended the tenant's worker while {} ({})", doing, how), 0},
            may_repeat};
  }

 private:
  // Called with the mutex held.
  void note_end(Nanoseconds patience) {
    const auto end = current_->how_it_ended(patience);
    if (!end) return;
    if (!end->expected) {
      delay_.ended(Clock::monotonic().now(), end->lived);
      workers_->count_failure();
    }
    current_.reset();
  }

  const std::shared_ptr<Workers> workers_;
  const TenantSpec tenant_;
  std::mutex mutex_;
  std::shared_ptr<Worker> current_;
  RestartDelay delay_;
};

using Files = std::function<Result<std::vector<Worker::File>>()>;

class WorkerSession final : public engine::Session {
 public:
  WorkerSession(std::shared_ptr<TenantWorker> tenant, Files files, wire::SessionOptions options,
                bool to_show)
      : tenant_(std::move(tenant)),
        files_(std::move(files)),
        options_(std::move(options)),
        to_show_(to_show) {}

  // The first time: reads the signature.
  Result<void> begin() {
    OB_TRY(const auto attached, attach());
    info_ = to_engine(attached->opened.runs->description());
    return {};
  }

  const engine::ModelInfo& info() const override { return info_; }

  Result<std::unique_ptr<engine::RunOutputs>> run(std::span<const engine::InputView> inputs,
                                                  std::span<const engine::OutputWanted> outputs,
                                                  engine::RunControl* control) override {
    for (bool again = false;; again = true) {
      OB_TRY(const auto attached, attach());
      auto done = run_attached(*attached, inputs, outputs, control);
      if (done) return std::move(*done);
      TenantWorker::Explained& explained = done.error();
      if (again || !explained.may_repeat) return tl::make_unexpected(std::move(explained.error));
    }
  }

 private:
  tl::expected<std::unique_ptr<engine::RunOutputs>, TenantWorker::Explained> run_attached(
      Attached& attached, std::span<const engine::InputView> inputs,
      std::span<const engine::OutputWanted> outputs, engine::RunControl* control) {
    const Workers::Options& options = tenant_->workers().options();
    const Worker::Limit limit(attached.worker(), options.run_limit, "a Run",
                              control == nullptr ? 0 : control->request_id);
    const OutputMemory memory{&tenant_->workers().output_memory(), options.memory_bytes};
    const auto places = tenant_->memories.places_of(info_, inputs, outputs);
    auto done = places ? run_in_place(attached, *places, outputs, control, memory)
                       : run_in_worker(*attached.opened.runs, inputs, outputs, control, memory);
    if (done) return std::move(*done);
    return tl::make_unexpected(
        tenant_->explain(attached.worker(), std::move(done).error(), "it ran"));
  }

  Result<std::unique_ptr<engine::RunOutputs>> run_in_place(
      Attached& attached, const Places& places, std::span<const engine::OutputWanted> outputs,
      engine::RunControl* control, OutputMemory memory) {
    OB_CHECK_OK(
        attached.worker().hand_memory(places.memory->number, places.memory->descriptor.get()));
    OB_TRY(const auto session, attached.placed(options_));
    return run_placed(*session, places, outputs, control, memory);
  }

  Result<std::shared_ptr<Attached>> attach() {
    const std::lock_guard lock(mutex_);
    if (attached_ && !attached_->worker().has_ended()) return attached_;
    for (bool again = false;; again = true) {
      OB_TRY(auto worker, tenant_->enter());
      auto opened = open_in(std::move(worker));
      if (opened) return attached_ = std::move(*opened);
      TenantWorker::Explained& explained = opened.error();
      if (again || !explained.may_repeat) return tl::make_unexpected(std::move(explained.error));
    }
  }

  // `worker` is entered.
  tl::expected<std::shared_ptr<Attached>, TenantWorker::Explained> open_in(
      std::shared_ptr<Worker> worker) {
    auto attached = std::make_shared<Attached>(std::move(worker));
    // Reading a folder takes its time, too: from here on the worker is not retired for another's.
    const Worker::Limit limit(attached->worker(), tenant_->workers().options().open_limit,
                              "opening a model");
    const auto files = files_();
    if (!files) return tl::make_unexpected(TenantWorker::Explained{files.error()});
    auto opened = attached->worker().open(*files, options_, to_show_);
    if (!opened)
      return tl::make_unexpected(
          tenant_->explain(attached->worker(), std::move(opened).error(), "it was opened"));
    attached->opened = std::move(*opened);
    return attached;
  }

  const std::shared_ptr<TenantWorker> tenant_;
  const Files files_;
  const wire::SessionOptions options_;
  const bool to_show_;
  engine::ModelInfo info_;
  std::mutex mutex_;  // held while the model is opened, which others wait for, too
  std::shared_ptr<Attached> attached_;
};

Result<wire::FileDescriptor> open_to_read(const std::string& path) {
  wire::FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file) return file;
  return error(ErrorKind::kNotFound, "the model ({}) cannot be read: {}", path,
               std::generic_category().message(errno));
}

// The file, and all others in its folder by their names there: its external data.
Result<std::vector<Worker::File>> files_of(const std::string& path) {
  std::vector<Worker::File> files;
  OB_TRY(auto model, open_to_read(path));
  files.push_back({"model", std::move(model)});
  const fs::path folder = fs::path(path).parent_path();
  std::error_code failed;
  for (fs::recursive_directory_iterator at(folder, failed), end; !failed && at != end;
       at.increment(failed)) {
    if (!at->is_regular_file(failed) || at->path() == path) continue;
    OB_TRY(auto file, open_to_read(at->path().string()));
    files.push_back({at->path().lexically_relative(folder).string(), std::move(file)});
  }
  return files;
}

Result<wire::FileDescriptor> file_in_memory(std::span<const std::byte> bytes) {
  wire::FileDescriptor file(::memfd_create("outboard-model", MFD_CLOEXEC));
  std::size_t written = 0;
  while (file && written < bytes.size()) {
    const ssize_t n = ::write(file.get(), bytes.data() + written, bytes.size() - written);
    if (n < 0 && errno != EINTR) break;
    written += n > 0 ? static_cast<std::size_t>(n) : 0;
  }
  if (file && written == bytes.size()) return file;
  return error(ErrorKind::kOverloaded, "no memory for a model ({} bytes): {}", bytes.size(),
               std::generic_category().message(errno));
}

// The files of a model that is bytes, borrowed for as long as it may be called.
Files files_in_memory(std::shared_ptr<const wire::FileDescriptor> model,
                      const std::vector<engine::ExternalFile>& external) {
  return [model = std::move(model), external]() -> Result<std::vector<Worker::File>> {
    std::vector<Worker::File> files;
    files.push_back({"model", wire::FileDescriptor(::dup(model->get()))});
    for (const engine::ExternalFile& file : external) {
      OB_TRY(auto copy, file_in_memory(file.bytes));
      files.push_back({file.name, std::move(copy)});
    }
    return files;
  };
}

class WorkerEngine final : public engine::Engine,
                           public engine::ModelOptimiser,
                           public engine::MemorySource {
 public:
  WorkerEngine(std::shared_ptr<Workers> workers, const TenantSpec& tenant)
      : facts_(workers->facts()),
        tenant_(std::make_shared<TenantWorker>(std::move(workers), tenant)) {}

  std::string name() const override { return facts_->name(); }
  std::string version() const override { return facts_->version(); }
  std::string device() const override { return facts_->device(); }
  std::vector<std::string> available_providers() const override {
    return facts_->available_providers();
  }
  Result<std::shared_ptr<engine::Session>> open(const std::string& path,
                                                const engine::OpenOptions& options) override {
    return open_files([path] { return files_of(path); }, options);
  }
  Result<std::shared_ptr<engine::Session>> open_bytes(std::span<const std::byte> model,
                                                      const engine::OpenOptions& options) override {
    return open_model(model, options, /*to_show=*/false);
  }
  Result<std::string> optimise(std::span<const std::byte> model,
                               const engine::OpenOptions& options) override {
    OB_TRY(const auto session, open_model(model, options, /*to_show=*/true));
    std::uint64_t given_bytes = model.size();
    for (const engine::ExternalFile& file : options.external_files)
      given_bytes += file.bytes.size();
    return take_shown_model(*session, given_bytes);
  }
  Result<std::shared_ptr<std::byte>> take_memory(std::uint64_t size_bytes) override {
    OB_TRY(auto memory, WorkerMemory::make(size_bytes));
    std::byte* const data = memory->mapping.data();
    tenant_->memories.add(memory);
    return std::shared_ptr<std::byte>(data, [memory = std::move(memory), tenant = tenant_](
                                                std::byte*) { tenant->forget(*memory); });
  }
  std::unique_ptr<engine::RunControl> make_run_control() override {
    return make_worker_run_control();
  }

 private:
  Result<std::shared_ptr<engine::Session>> open_model(std::span<const std::byte> model,
                                                      const engine::OpenOptions& options,
                                                      bool to_show) {
    OB_TRY(auto file, file_in_memory(model));
    auto kept = std::make_shared<const wire::FileDescriptor>(std::move(file));
    return open_files(files_in_memory(std::move(kept), options.external_files), options, to_show);
  }
  Result<std::shared_ptr<engine::Session>> open_files(Files files,
                                                      const engine::OpenOptions& options,
                                                      bool to_show = false) {
    auto session =
        std::make_shared<WorkerSession>(tenant_, std::move(files), to_wire(options), to_show);
    OB_CHECK_OK(session->begin());
    return std::shared_ptr<engine::Session>(std::move(session));
  }

  const std::unique_ptr<engine::Engine> facts_;
  const std::shared_ptr<TenantWorker> tenant_;
};

}  // namespace

std::unique_ptr<engine::Engine> make_worker_engine(std::shared_ptr<Workers> workers,
                                                   const TenantSpec& tenant) {
  return std::make_unique<WorkerEngine>(std::move(workers), tenant);
}

}  // namespace outboard::serve
