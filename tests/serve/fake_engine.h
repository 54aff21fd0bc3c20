// SPDX-License-Identifier: Apache-2.0
// An engine whose models are words, so that a test decides what a Run does and when it ends:
//   "echo"    one float input of any length, one output with the same elements
//   "block"   the same, but a Run waits for release() or for its control
//   "fixed"   a float input and output of 65536 elements, written to the caller's memory if there
//   is
//             some; "lying" says so of its output, which is as long as its input
//   "burn7"   the same as "echo", but a Run takes 7 ms of its thread's processor time
//   "crash"   dies by a signal when it runs, "crash-open" when it is opened
//   "hang"    never ends a Run, whatever its control says; "hang-open" never opens
//   "big"     one output of a MiB for each element of the input
//   "texts"   one output of 2^18 empty strings for each element of the input
//   "external" its output is the bytes of its external data (floats)
//   "escape"  its output is what Stage::escape returns
//   "reject"  cannot be opened;  "fail" opens, and its Runs fail;  "sequence" has no tensor output
// Thread-safe.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace outboard::serve {

class FakeEngine final : public engine::Engine {
 public:
  // What a test waits for and holds back, shared by all sessions.
  struct Stage {
    std::mutex mutex;
    std::condition_variable changed;
    int running = 0;   // Runs of "block" that have begun and not ended
    int most = 0;      // at the same time, ever
    int permits = 0;   // Runs that may end
    float latest = 0;  // first element of the input of the one that began last
    bool openings_held = false;
    int opening = 0;
    std::atomic<int> opened{0}, alive{0};
    std::function<std::vector<float>()> escape;  // set before the engine is used
    std::atomic<const void*> last_input{nullptr}, last_output{nullptr};  // of a Run

    void wait_for_running(int count);
    void release(int count);
    void hold_openings();
    void wait_for_opening(int count);
    void let_open();
  };

  const std::shared_ptr<Stage> stage = std::make_shared<Stage>();

  std::string name() const override { return "fake"; }
  std::string version() const override { return "1.0"; }
  std::string device() const override { return "cpu"; }
  std::vector<std::string> available_providers() const override { return {"FakeProvider"}; }
  Result<std::shared_ptr<engine::Session>> open(const std::string& path,
                                                const engine::OpenOptions& options) override;
  Result<std::shared_ptr<engine::Session>> open_bytes(std::span<const std::byte> model,
                                                      const engine::OpenOptions& options) override;
  std::unique_ptr<engine::RunControl> make_run_control() override;

 private:
  Result<std::shared_ptr<engine::Session>> open_text(const std::string& text,
                                                     const engine::OpenOptions& options);
};

}  // namespace outboard::serve
