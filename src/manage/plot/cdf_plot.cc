// SPDX-License-Identifier: Apache-2.0
#include "manage/plot/cdf_plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace outboard::manage {
namespace {

constexpr double kWidth = 760, kHeight = 360, kLeft = 60, kRight = 190, kTop = 40, kBottom = 46;
constexpr double kPlotWidth = kWidth - kLeft - kRight, kPlotHeight = kHeight - kTop - kBottom;
// Okabe & Ito's colours, which the colour-blind can tell apart.
constexpr const char* kColours[] = {"#0072B2", "#D55E00", "#009E73", "#CC79A7",
                                    "#E69F00", "#56B4E9", "#000000", "#999933"};

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '<') {
      result += "&lt;";
    } else if (c == '>') {
      result += "&gt;";
    } else if (c == '&') {
      result += "&amp;";
    } else {
      result += c;
    }
  }
  return result;
}

// 1, 2 or 5 times a power of ten, such that about six steps make `range`.
double nice_step(double range) {
  const double rough = range / 6, power = std::pow(10, std::floor(std::log10(rough)));
  const double digit = rough / power;
  return power * (digit < 1.5 ? 1 : digit < 3.5 ? 2 : digit < 7.5 ? 5 : 10);
}

// Where the x axis ends: past the 99.5th percentile of all curves, and past every limit.
double end_ms(const PlottedPanel& panel) {
  double end = 1e-3;
  for (const PlottedCurve& c : panel.curves) {
    const double quantile = c.predicted.empty() ? 0 : c.predicted.quantile_us(0.995);
    if (std::isfinite(quantile)) end = std::max(end, quantile / 1e3);
    end = std::max(end, c.limit_us * 1.05 / 1e3);
  }
  return end;
}

struct Axes {
  double top, end_ms;
  double x(double time_us) const {
    return kLeft + std::min(1.0, time_us / 1e3 / end_ms) * kPlotWidth;
  }
  double y(double p) const { return top + kTop + (1 - p) * kPlotHeight; }
};

std::string frame(const PlottedPanel& panel, const Axes& axes) {
  std::string svg = fmt::format(
      "<text x='{}' y='{}' font-size='15' font-weight='bold'>{}</text>\n"
      "<rect x='{}' y='{}' width='{}' height='{}' fill='none' stroke='#888'/>\n",
      kLeft, axes.top + 24, escaped(panel.title), kLeft, axes.top + kTop, kPlotWidth, kPlotHeight);
  for (const double p : {0.0, 0.25, 0.5, 0.75, 0.95, 1.0}) {
    svg += fmt::format(
        "<line x1='{0}' x2='{1}' y1='{2:.1f}' y2='{2:.1f}' stroke='#ddd'/>"
        "<text x='{3}' y='{4:.1f}' text-anchor='end'>{5:g}</text>\n",
        kLeft, kLeft + kPlotWidth, axes.y(p), kLeft - 6, axes.y(p) + 4, p);
  }
  const double step = nice_step(axes.end_ms);
  for (int i = 0; i * step <= axes.end_ms * 1.0001; ++i) {
    const double ms = i * step;
    svg += fmt::format("<text x='{:.1f}' y='{:.1f}' text-anchor='middle'>{:g}</text>\n",
                       axes.x(ms * 1e3), axes.top + kTop + kPlotHeight + 16, ms);
  }
  svg += fmt::format("<text x='{:.1f}' y='{:.1f}' text-anchor='middle'>response time (ms)</text>\n",
                     kLeft + kPlotWidth / 2, axes.top + kHeight - 12);
  return svg;
}

// Steps are kept to the pixel; a few hundred points show any curve.
std::string line(const std::vector<double>& time_us, const std::vector<double>& probability,
                 const Axes& axes, const char* colour, bool dashed) {
  std::string points = fmt::format("{:.1f},{:.1f}", axes.x(0), axes.y(0));
  for (std::size_t i = 0; i < time_us.size() && time_us[i] / 1e3 <= axes.end_ms; ++i) {
    points += fmt::format(" {:.1f},{:.1f}", axes.x(time_us[i]), axes.y(probability[i]));
  }
  return fmt::format("<polyline fill='none' stroke='{}' stroke-width='1.8'{} points='{}'/>\n",
                     colour, dashed ? " stroke-dasharray='2 4'" : "", points);
}

std::string measured_line(std::vector<double> sample_us, const Axes& axes, const char* colour) {
  std::sort(sample_us.begin(), sample_us.end());
  const std::size_t points = std::min<std::size_t>(sample_us.size(), 500);
  std::vector<double> time_us, probability;
  for (std::size_t i = 1; i <= points; ++i) {
    const std::size_t at = i * sample_us.size() / points - 1;
    time_us.push_back(sample_us[at]);
    probability.push_back(static_cast<double>(at + 1) / static_cast<double>(sample_us.size()));
  }
  return line(time_us, probability, axes, colour, true);
}

}  // namespace

std::string as_svg(const std::vector<PlottedPanel>& panels) {
  std::string svg = fmt::format(
      "<svg xmlns='http://www.w3.org/2000/svg' width='{0}' height='{1}' viewBox='0 0 {0} {1}' "
      "font-family='sans-serif' font-size='11'>\n<rect width='100%' height='100%' fill='white'/>\n",
      kWidth, kHeight * static_cast<double>(panels.size()));
  for (std::size_t p = 0; p < panels.size(); ++p) {
    const Axes axes{kHeight * static_cast<double>(p), end_ms(panels[p])};
    svg += frame(panels[p], axes);
    double legend = axes.top + kTop + 12;
    for (std::size_t i = 0; i < panels[p].curves.size(); ++i) {
      const PlottedCurve& c = panels[p].curves[i];
      const char* colour = kColours[i % std::size(kColours)];
      svg += line(c.predicted.time_us(), c.predicted.probability(), axes, colour, false);
      if (!c.measured_us.empty()) svg += measured_line(c.measured_us, axes, colour);
      if (c.limit_us > 0) {
        svg += fmt::format(
            "<line x1='{0:.1f}' x2='{0:.1f}' y1='{1:.1f}' y2='{2:.1f}' stroke='{3}' "
            "stroke-dasharray='6 3'/>\n",
            axes.x(c.limit_us), axes.y(0), axes.y(1), colour);
      }
      const char* suffix = c.measured_us.empty() ? "" : " (dotted: measured)";
      svg += fmt::format("<text x='{}' y='{}' fill='{}'>{}{}</text>\n", kLeft + kPlotWidth + 8,
                         legend, colour, escaped(c.name), suffix);
      legend += 15;
    }
  }
  return svg + "</svg>\n";
}

}  // namespace outboard::manage
