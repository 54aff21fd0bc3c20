// SPDX-License-Identifier: Apache-2.0
// What `outboard profile` found, and the same as JSON. The JSON's `devices` and `models` are those
// of a cluster file (profile/json/cluster.h), `links` those of profile/json/link.h; `measurements`
// has what they were made of. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/profile_inputs.h"
#include "cli/profile_measure.h"
#include "cli/profile_together.h"
#include "profile/device.h"
#include "profile/distribution.h"
#include "profile/link.h"
#include "profile/model.h"

namespace outboard::cli {

struct NamedInput {
  std::string name, type;
  std::vector<std::int64_t> dims;
};

struct ModelReport {
  std::string path;
  profile::ModelProfile profile;  // service, load and memory are filled in from what is below
  std::vector<NamedInput> inputs;
  Measurement measurement;
  TogetherTimes together;  // empty unless it was measured with others
  std::vector<double> load_us;
  double call_us = 0;  // of a remote Run: what the link and the server do not explain
};

struct LinkReport {
  std::string to;
  profile::LinkPair link;
  profile::Distribution round_trip;  // of an empty message
};

struct ProfileReport {
  std::string engine;  // "onnxruntime 1.31.1"
  profile::Device device;
  std::optional<LinkReport> link;
  std::vector<ModelReport> models;
  bool interrupted = false;
};

// Fills in what follows from the measurement: service and load times; for a Run over `link` its
// rates, where transfers were large enough to tell, and call_us. A model without any Run keeps an
// empty profile and is left out of the JSON's `models`.
void conclude(ModelReport& model, LinkReport* link);

std::string as_json_text(const ProfileReport& report);  // ends in a newline
std::string as_table(const ProfileReport& report);      // for people; ends in a newline

}  // namespace outboard::cli
