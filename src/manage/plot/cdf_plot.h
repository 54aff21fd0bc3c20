// SPDX-License-Identifier: Apache-2.0
// Distributions of response times as a picture: SVG text, written directly. One panel a device; the
// model's curve as a line, what was measured as a dashed one, a limit as a vertical mark.
// Pure; thread-safe. Units: microseconds in, milliseconds on the axis.
#pragma once

#include <string>
#include <vector>

#include "manage/queueing/predict.h"

namespace outboard::manage {

struct PlottedCurve {
  std::string name;
  Curve predicted;
  std::vector<double> measured_us;  // any order; empty: none
  double limit_us = 0;              // 0: none
};

struct PlottedPanel {
  std::string title;
  std::vector<PlottedCurve> curves;
};

std::string as_svg(const std::vector<PlottedPanel>& panels);

}  // namespace outboard::manage
