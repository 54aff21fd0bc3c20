// SPDX-License-Identifier: Apache-2.0
#include "intercept/common/cpu_share.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace outboard::intercept {
namespace {

std::optional<std::string> read_small_file(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return std::nullopt;
  std::array<char, 4096> bytes{};
  const std::size_t size = std::fread(bytes.data(), 1, bytes.size(), file);
  std::fclose(file);
  return std::string(bytes.data(), size);
}

double number(const std::optional<std::string>& text) {
  return text ? std::strtod(text->c_str(), nullptr) : 0;
}

// Version 2: "max 100000" or "10000 100000".
double share_of_v2(const ReadFile& read, const std::string& folder) {
  const auto text = read(folder + "/cpu.max");
  if (!text) return 1;
  const auto space = text->find(' ');
  if (space == std::string::npos || text->starts_with("max")) return 1;
  const double period = std::strtod(text->c_str() + space, nullptr);
  return period > 0 ? std::strtod(text->c_str(), nullptr) / period : 1;
}

double share_of_v1(const ReadFile& read, const std::string& folder) {
  const double quota = number(read(folder + "/cpu.cfs_quota_us"));
  const double period = number(read(folder + "/cpu.cfs_period_us"));
  return quota > 0 && period > 0 ? quota / period : 1;
}

}  // namespace

double cpu_share(const ReadFile& read) {
  const auto groups = read("/proc/self/cgroup");
  if (!groups) return 1;
  double share = 1;
  std::string_view left = *groups;
  while (!left.empty()) {  // "4:cpu,cpuacct:/path", version 2: "0::/path"
    const std::string_view line = left.substr(0, left.find('\n'));
    left.remove_prefix(std::min(left.size(), line.size() + 1));
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string_view::npos || second == std::string_view::npos) continue;
    const std::string controllers =
        "," + std::string(line.substr(first + 1, second - first - 1)) + ",";
    const bool is_v2 = controllers == ",,";
    if (!is_v2 && controllers.find(",cpu,") == std::string::npos) continue;
    for (std::string path(line.substr(second + 1));; path.resize(path.rfind('/'))) {
      if (path == "/") path.clear();
      share = std::min(share, is_v2 ? share_of_v2(read, "/sys/fs/cgroup" + path)
                                    : share_of_v1(read, "/sys/fs/cgroup/cpu" + path));
      if (path.rfind('/') == std::string::npos) break;
    }
  }
  return std::clamp(share, 0.001, 1.0);
}

double cpu_share() { return cpu_share(read_small_file); }

}  // namespace outboard::intercept
