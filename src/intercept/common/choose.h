// SPDX-License-Identifier: Apache-2.0
// What may answer a Run, and why it is answered here where it is. Pure. Among the sides that are
// ready, Estimates (estimates.h) say which is sooner.
#pragma once

#include <cstdint>
#include <string_view>

#include "intercept/common/config.h"

namespace outboard::intercept {

// What a session knows of its two sides when a Run comes.
struct Situation {
  Mode mode = Mode::kAuto;
  bool server_has_session = false;  // the model is there and the session was opened
  bool server_answers = false;      // nothing to the contrary is known
  bool server_drains = false;       // it told us to go elsewhere
  bool upload_under_way = false;
  bool sooner_here = false;           // of two sides that are ready
  bool server_is_distrusted = false;  // --verify-strict; and no other answers
};

enum class Place : std::uint8_t { kServer, kLocal };

// Why a Run was answered here. The names appear in reports and stay.
enum class LocalReason : std::uint8_t {
  kNone,            // it was not
  kModeLocal,       // --mode local
  kUploading,       // the server does not have the model yet
  kServerGone,      // it does not answer
  kServerDraining,  // it asked to go elsewhere
  kServerRefused,   // it would not open this model
  kNotEligible,     // this session cannot go out; the session says why
  kSooner,          // a server could, and this machine is sooner
  kLate,            // a server did not answer in time, this machine did (hedge.h)
  kDistrusted,      // its results differ from those here (--verify-strict)
};
inline constexpr std::size_t kLocalReasons = 10;

struct Choice {
  Place place = Place::kLocal;
  LocalReason reason = LocalReason::kNone;
};

constexpr Choice choose(const Situation& s) {
  if (s.mode == Mode::kLocal) return {Place::kLocal, LocalReason::kModeLocal};
  if (s.server_drains) return {Place::kLocal, LocalReason::kServerDraining};
  if (!s.server_answers && s.server_is_distrusted) return {Place::kLocal, LocalReason::kDistrusted};
  if (!s.server_answers) return {Place::kLocal, LocalReason::kServerGone};
  if (s.server_has_session && s.mode == Mode::kAuto && s.sooner_here)
    return {Place::kLocal, LocalReason::kSooner};
  if (s.server_has_session) return {Place::kServer, LocalReason::kNone};
  return {Place::kLocal,
          s.upload_under_way ? LocalReason::kUploading : LocalReason::kServerRefused};
}

constexpr std::string_view name_of(LocalReason reason) {
  switch (reason) {
    case LocalReason::kNone:
      return "";
    case LocalReason::kModeLocal:
      return "mode local";
    case LocalReason::kUploading:
      return "uploading";
    case LocalReason::kServerGone:
      return "server gone";
    case LocalReason::kServerDraining:
      return "server draining";
    case LocalReason::kServerRefused:
      return "server refused";
    case LocalReason::kNotEligible:
      return "not eligible";
    case LocalReason::kSooner:
      return "sooner here";
    case LocalReason::kLate:
      return "server late";
    case LocalReason::kDistrusted:
      return "server distrusted";
  }
  return "";
}

}  // namespace outboard::intercept
