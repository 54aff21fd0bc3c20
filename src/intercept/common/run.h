// SPDX-License-Identifier: Apache-2.0
// One Run of the program: to the server or here, whichever is chosen; here when the server is lost.
// The vendor's part says what a Run is (ProgramRun); everything else is here.
//
//   Result<void> done = answer(session, run);      // on the program's thread
//
// Thread-safe: any number of threads may answer Runs of one session at once. Everything is borrowed
// for the call. Errors: the Run's own (kEngine with the engine's code, kCancelled); a lost server
// is none as long as the model can be opened here.
#pragma once

#include <cstdint>
#include <span>

#include "base/result.h"
#include "intercept/common/session.h"
#include "wire/client.h"

namespace outboard::intercept {

// The native code of an error of run_here(): nobody answered, the program's side will, and counts
// it.
inline constexpr std::int32_t kAnsweredByTheProgram = -1;

// A Run as the vendor's part offers it. Used on the thread of answer().
class ProgramRun {
 public:
  virtual ~ProgramRun() = default;
  // Positions among the model's outputs, in the order in which the sink gets them.
  virtual std::span<const std::uint32_t> wanted() const = 0;
  virtual std::span<const wire::InputTensor> inputs() const = 0;
  // The program's outputs. What was written before may be written again.
  virtual wire::OutputSink& outputs() = 0;
  virtual wire::CancelToken* cancel() const = 0;  // nullptr: nobody can end it
  // Computes with the program's own library into outputs().
  virtual Result<void> run_here(LocalModel& model) = 0;
};

Result<void> answer(Session& session, ProgramRun& run);

}  // namespace outboard::intercept
