// SPDX-License-Identifier: Apache-2.0
// What a placement needs of a latency model: a quick bound, and the answer.
//
// QueueJudge asks the queueing models; a test or a baseline may ask something else.
// RememberingJudge keeps answers: in a fleet of equal devices most questions have been asked
// before. Units: microseconds. Thread-safety: one thread at a time.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "manage/place/load.h"

namespace outboard::manage {

// Where a mean response comes from; `mean_us` of a Reply is their sum.
enum class Term : std::uint8_t { kService, kSwap, kQueue, kSharing, kOutside };
inline constexpr std::size_t kTerms = 5;
// "service", "swap", "queue", "sharing", "network and host".
std::string_view name_of(Term term);

// Of one part of a load.
struct Reply {
  double mean_us = 0;
  double percentile_us = 0;  // at its limit's percentile
  double error_us = 0;       // what percentile_us may be off by
  double late = 0;           // P(response > limit); 0 without a limit
  std::array<double, kTerms> terms_us{};
};

struct Verdict {
  std::vector<Reply> parts;  // as Load::parts
};

// The percentile of the limit lies in [lower, upper] for certain, and hardly ever below `likely`: a
// quick approximation, less what it was ever seen to be too high by.
struct Range {
  double lower_us = 0;
  double likely_us = 0;
  double upper_us = 0;
};

class Judge {
 public:
  virtual ~Judge() = default;
  // kInvalid: the load is not stable. kRefused: no model is trusted for it; the sentence says why.
  virtual Result<Verdict> judge(const Load& load) = 0;
  // Much quicker. It may refuse, it never admits.
  virtual Result<std::vector<Range>> screen(const Load& load) = 0;
  // What judge() costs for this load, 1 for the cheapest kind of answer.
  virtual std::size_t cost(const Load& load) const { return load.parts.empty() ? 0 : 1; }
};

// Remembers what another judge said. Two loads with the same device traits and the same
// requests are one question, whatever the devices and applications are called. Errors are not kept:
// their sentences name applications.
class RememberingJudge : public Judge {
 public:
  // REQUIRES: `judge` outlives this. Forgets everything when `most` answers are kept.
  explicit RememberingJudge(Judge& judge, std::size_t most = 200000) : judge_(judge), most_(most) {}

  Result<Verdict> judge(const Load& load) override;
  Result<std::vector<Range>> screen(const Load& load) override;
  std::size_t cost(const Load& load) const override { return judge_.cost(load); }

  std::size_t asked() const { return asked_; }        // questions to judge()
  std::size_t computed() const { return computed_; }  // those that the other judge had to answer
  std::size_t memory_bytes() const;                   // an estimate

 private:
  template <typename Answer>
  using Known = std::unordered_map<std::string, Answer>;

  Judge& judge_;
  std::size_t most_;
  std::size_t asked_ = 0;
  std::size_t computed_ = 0;
  std::size_t key_bytes_ = 0;
  Known<Verdict> verdicts_;
  Known<std::vector<Range>> ranges_;
};

}  // namespace outboard::manage
