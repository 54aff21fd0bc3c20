// SPDX-License-Identifier: Apache-2.0
// What `outboard run` asks of the interposer, passed to the program and its children by environment
// variables. docs/interception.md lists them. Plain values; reading is pure but for the lookup.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "wire/access.h"
#include "wire/coding/choose.h"
#include "wire/model_package.h"

namespace outboard::intercept {

enum class Mode : std::uint8_t {
  kAuto,    // each Run where it is done sooner: on a server that is ready, or here
  kRemote,  // a server whenever one can; creating a session waits until it has the model
  kLocal,   // everything here; for comparison
};

struct Config {
  std::vector<wire::Access> servers;  // in the order of preference
  Mode mode = Mode::kAuto;
  wire::Spool spool = wire::Spool::kDisk;
  wire::CodingMode coding = wire::CodingMode::kAuto;
  bool shared_memory = true;   // with a server on the same host
  double deadline_ms = 0;      // a Run shall be answered within it; 0: as soon as can be
  bool hedging = true;         // a Run that is late at a server is begun elsewhere as well
  double verify = 0;           // this share of the Runs at servers is also done here and compared
  bool verify_strict = false;  // a server whose results differ is not used any more
  std::uint64_t seed = 0;      // of what is drawn at random; 0: another one in each process
  bool summary = false;        // a table on standard error at exit
  std::string json_path;       // "": none; absolute
  std::string trace_path;      // "": none; absolute
};

// `lookup` returns nullptr for a variable that is not set. kInvalid names the variable.
Result<Config> read_config(const std::function<const char*(const char*)>& lookup);

Result<Mode> parse_mode(std::string_view text);
Result<wire::Spool> parse_spool(std::string_view text);
Result<double> parse_deadline_ms(std::string_view text);
Result<double> parse_share(std::string_view text);  // of --verify

}  // namespace outboard::intercept
