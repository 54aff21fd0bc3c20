// SPDX-License-Identifier: Apache-2.0
#include "profile/json/reader.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace outboard::profile {
namespace {

using nlohmann::json;

constexpr double kMaxTimeMs = 1e9;  // 11 days: a longer one is a mistake of the unit

// The value as the person wrote it, cut where it is long.
std::string shown(const json& value) {
  std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

Result<double> time_ms(const json& value, const std::string& place) {
  const double ms = value.is_number() ? value.get<double>() : std::nan("");
  if (!(ms >= 0 && ms <= kMaxTimeMs)) {
    return error(ErrorKind::kInvalid, "{} ({}) must be a time in ms between 0 and {:g}", place,
                 shown(value), kMaxTimeMs);
  }
  return ms;
}

}  // namespace

ObjectReader::ObjectReader(const json& object, std::string place)
    : object_(object), place_(std::move(place)) {
  if (!object_.is_object()) {
    fault_ = Error{ErrorKind::kInvalid,
                   fmt::format("{} ({}) must be an object", place_.empty() ? "the file" : place_,
                               shown(object_))};
  }
}

bool ObjectReader::has(std::string_view key) const {
  return object_.is_object() && object_.contains(key);
}

std::string ObjectReader::place_of(std::string_view key) const {
  return place_.empty() ? std::string(key) : fmt::format("{}.{}", place_, key);
}

void ObjectReader::fail(std::string_view key, std::string_view what) {
  if (fault_) return;
  const std::string value = has(key) ? fmt::format(" ({})", shown(object_[std::string(key)])) : "";
  fault_ = Error{ErrorKind::kInvalid, fmt::format("{}{} {}", place_of(key), value, what)};
}

const json* ObjectReader::find(std::string_view key, bool required) {
  known_.emplace(key);
  if (has(key)) return &object_[std::string(key)];
  if (required) fail(key, "is missing");
  return nullptr;
}

std::string ObjectReader::text(std::string_view key, const std::optional<std::string>& absent) {
  const json* value = find(key, !absent);
  if (!value) return absent.value_or("");
  if (value->is_string() && (absent || !value->get_ref<const std::string&>().empty())) {
    return value->get<std::string>();
  }
  fail(key, absent ? "must be a string" : "must be a string that is not empty");
  return "";
}

double ObjectReader::number(std::string_view key, std::optional<double> absent, double least,
                            double most) {
  const json* value = find(key, !absent);
  if (!value) return absent.value_or(least);
  const double number = value->is_number() ? value->get<double>() : std::nan("");
  if (number >= least && number <= most) return number;
  fail(key, fmt::format("must be a number between {:g} and {:g}", least, most));
  return least;
}

std::int64_t ObjectReader::integer(std::string_view key, std::optional<std::int64_t> absent,
                                   std::int64_t least, std::int64_t most) {
  const json* value = find(key, !absent);
  if (!value) return absent.value_or(least);
  const double number = value->is_number() ? value->get<double>() : std::nan("");
  if (number >= static_cast<double>(least) && number <= static_cast<double>(most) &&
      number == std::floor(number)) {
    return value->is_number_integer() ? value->get<std::int64_t>()
                                      : static_cast<std::int64_t>(number);
  }
  fail(key, fmt::format("must be a whole number between {} and {}", least, most));
  return least;
}

bool ObjectReader::flag(std::string_view key, bool absent) {
  const json* value = find(key, false);
  if (!value) return absent;
  if (value->is_boolean()) return value->get<bool>();
  fail(key, "must be true or false");
  return absent;
}

Distribution ObjectReader::times_ms(std::string_view key, bool required) {
  const json* value = find(key, required);
  if (!value) return {};
  auto times = distribution_from_json(*value, place_of(key));
  if (times) return *std::move(times);
  if (!fault_) fault_ = std::move(times).error();
  return {};
}

std::vector<std::string> ObjectReader::texts(std::string_view key) {
  std::vector<std::string> texts;
  for (const auto& [value, place] : elements(key)) {
    if (value->is_string() && !value->get_ref<const std::string&>().empty()) {
      texts.push_back(value->get<std::string>());
    } else if (!fault_) {
      fault_ = Error{ErrorKind::kInvalid, fmt::format("{} ({}) must be a string that is not empty",
                                                      place, shown(*value))};
    }
  }
  return texts;
}

std::vector<double> ObjectReader::numbers(std::string_view key) {
  std::vector<double> numbers;
  for (const auto& [value, place] : elements(key)) {
    if (value->is_number() && std::isfinite(value->get<double>())) {
      numbers.push_back(value->get<double>());
    } else if (!fault_) {
      fault_ =
          Error{ErrorKind::kInvalid, fmt::format("{} ({}) must be a number", place, shown(*value))};
    }
  }
  return numbers;
}

std::vector<std::pair<const json*, std::string>> ObjectReader::elements(std::string_view key) {
  const json* array = find(key, false);
  std::vector<std::pair<const json*, std::string>> elements;
  if (!array) return elements;
  if (!array->is_array()) {
    fail(key, "must be an array");
    return elements;
  }
  for (std::size_t i = 0; i < array->size(); ++i) {
    elements.emplace_back(&(*array)[i], fmt::format("{}[{}]", place_of(key), i));
  }
  return elements;
}

const json* ObjectReader::object(std::string_view key) { return find(key, false); }

Result<void> ObjectReader::finish() {
  if (!fault_) {
    for (const auto& [key, value] : object_.items()) {
      if (known_.contains(key)) continue;
      std::string names;
      for (const auto& name : known_) names += (names.empty() ? "" : ", ") + name;
      fault_ = Error{ErrorKind::kInvalid,
                     fmt::format("{} is not a field that is known here; expected one of: {}",
                                 place_of(key), names)};
      break;
    }
  }
  if (fault_) return tl::make_unexpected(*fault_);
  return {};
}

Result<json> parse_json(std::string_view text, std::string_view name) {
  try {
    return json::parse(text);
  } catch (const json::exception& e) {
    // The library's own sentence has line and column; its "[json.exception...] " is noise here.
    std::string what = e.what();
    if (auto end = what.find("] "); end != std::string::npos) what = what.substr(end + 2);
    return error(ErrorKind::kInvalid, "{} is not JSON: {}", name, what);
  }
}

Result<Distribution> distribution_from_json(const json& value, const std::string& place) {
  if (value.is_number()) {
    OB_TRY(const double ms, time_ms(value, place));
    return Distribution::constant(ms * 1e3);
  }
  ObjectReader read(value, place);
  std::vector<Atom> atoms;
  for (const auto& [atom, where] : read.elements("atoms_ms")) {
    if (!atom->is_array() || atom->size() != 2 || !(*atom)[1].is_number()) {
      return error(ErrorKind::kInvalid, "{} ({}) must be a pair [time in ms, weight]", where,
                   shown(*atom));
    }
    OB_TRY(const double ms, time_ms((*atom)[0], where + "[0]"));
    atoms.push_back({ms * 1e3, (*atom)[1].get<double>()});
  }
  std::vector<double> sample_us;
  for (const auto& [time, where] : read.elements("sample_ms")) {
    OB_TRY(const double ms, time_ms(*time, where));
    sample_us.push_back(ms * 1e3);
  }
  OB_CHECK_OK(read.finish());
  if (atoms.empty() == sample_us.empty()) {
    return error(ErrorKind::kInvalid,
                 "{} ({}) must be a number (ms), or have either atoms_ms or sample_ms, not empty",
                 place, shown(value));
  }
  auto times = atoms.empty() ? Distribution::from_samples(sample_us)
                             : Distribution::from_atoms(std::move(atoms));
  if (!times) return tl::make_unexpected(std::move(times).error().while_doing("reading " + place));
  return times;
}

json as_json(const Distribution& times) {
  if (times.is_constant()) return times.min_us() / 1e3;
  json atoms = json::array();
  for (const Atom& atom : times.atoms()) atoms.push_back({atom.time_us / 1e3, atom.probability});
  return {{"atoms_ms", atoms}};
}

}  // namespace outboard::profile
