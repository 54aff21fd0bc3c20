// SPDX-License-Identifier: Apache-2.0
// Reads the fields of one JSON object and says where a bad one is.
//
//   ObjectReader read(json, "devices[2]");
//   device.name = read.text("name");
//   device.servers = read.integer("servers", 1, 1, 1024);   // optional: 1 when it is not there
//   OB_CHECK_OK(read.finish());                              // the first fault, or an unknown
//   field
//
// The first fault is kept and every later read gives a harmless value, so a caller reads all fields
// and checks once. A fault is a sentence: "applications[2].rate_per_s (-1) must be ...".
// Lifetime: borrows the json. Thread-safety: one thread at a time.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "profile/distribution.h"

namespace outboard::profile {

class ObjectReader {
 public:
  ObjectReader(const nlohmann::json& object, std::string place);

  bool has(std::string_view key) const;
  // Without a default the field is required.
  std::string text(std::string_view key, const std::optional<std::string>& absent = std::nullopt);
  double number(std::string_view key, std::optional<double> absent, double least, double most);
  std::int64_t integer(std::string_view key, std::optional<std::int64_t> absent, std::int64_t least,
                       std::int64_t most);
  bool flag(std::string_view key, bool absent);
  // A Distribution (see distribution_from_json); the constant 0 when the field is not there and
  // `required` is false.
  Distribution times_ms(std::string_view key, bool required = false);
  std::vector<std::string> texts(std::string_view key);  // none when it is not there
  std::vector<double> numbers(std::string_view key);     // empty when it is not there
  // The elements of an array (empty when it is not there), each with its place. The pointers are
  // into the json.
  std::vector<std::pair<const nlohmann::json*, std::string>> elements(std::string_view key);
  const nlohmann::json* object(std::string_view key);  // null when it is not there

  void ignore(std::string_view key) { known_.emplace(key); }  // somebody else reads it

  std::string place_of(std::string_view key) const;
  void fail(std::string_view key, std::string_view what);  // "PLACE.KEY (VALUE) WHAT"
  Result<void> finish();

 private:
  const nlohmann::json* find(std::string_view key, bool required);

  const nlohmann::json& object_;
  std::string place_;
  std::set<std::string, std::less<>> known_;
  std::optional<Error> fault_;
};

// The text as JSON, or a sentence with line and column. `name` is the file's, for the sentence.
Result<nlohmann::json> parse_json(std::string_view text, std::string_view name);

// A number is a constant in ms; {"atoms_ms": [[time, weight], ...]} and {"sample_ms": [time, ...]}
// are the other forms.
Result<Distribution> distribution_from_json(const nlohmann::json& json, const std::string& place);
// The inverse: a number for a constant, else atoms.
nlohmann::json as_json(const Distribution& times);

}  // namespace outboard::profile
