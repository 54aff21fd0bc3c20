// SPDX-License-Identifier: Apache-2.0
#include "manage/measured/table.h"

#include <zlib.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <memory>

namespace outboard::manage {
namespace {

constexpr std::size_t kMaxLine = 65536;
constexpr std::size_t kMaxText = std::size_t{1} << 30;

std::vector<std::string> split(std::string_view line) {
  std::vector<std::string> cells;
  while (true) {
    const auto comma = line.find(',');
    std::string_view cell = line.substr(0, comma);
    while (!cell.empty() && cell.front() == ' ') cell.remove_prefix(1);
    while (!cell.empty() && cell.back() == ' ') cell.remove_suffix(1);
    cells.emplace_back(cell);
    if (comma == std::string_view::npos) return cells;
    line.remove_prefix(comma + 1);
  }
}

struct Close {
  void operator()(gzFile_s* file) const { gzclose(file); }
};

}  // namespace

// zlib reads a file that is not compressed as it is.
Result<Table> Table::read(const std::string& path) {
  const std::unique_ptr<gzFile_s, Close> file(gzopen(path.c_str(), "rb"));
  if (!file) return error(ErrorKind::kNotFound, "file ({}) cannot be read", path);
  Table table;
  table.path_ = path;
  std::string buffer(kMaxLine, '\0');
  std::size_t total = 0;
  for (std::size_t line = 1; gzgets(file.get(), buffer.data(), static_cast<int>(kMaxLine));
       ++line) {
    std::string_view text(buffer.data(), std::strlen(buffer.data()));
    total += text.size();
    if (text.size() + 1 >= kMaxLine || total > kMaxText) {
      return error(ErrorKind::kInvalid, "{}:{}: the line or the file is too long for a table", path,
                   line);
    }
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.remove_suffix(1);
    if (text.empty()) continue;
    if (text.find('"') != std::string_view::npos) {
      return error(ErrorKind::kInvalid, "{}:{}: a quoted cell; expected plain ones", path, line);
    }
    auto cells = split(text);
    if (table.columns_.empty()) {
      table.columns_ = std::move(cells);
    } else if (cells.size() != table.columns_.size()) {
      return error(ErrorKind::kInvalid, "{}:{}: ({}) cells; expected ({}) as in the first line",
                   path, line, cells.size(), table.columns_.size());
    } else {
      std::move(cells.begin(), cells.end(), std::back_inserter(table.cells_));
    }
  }
  int status = Z_OK;
  const char* what = gzerror(file.get(), &status);
  if (status != Z_OK && status != Z_STREAM_END) {
    return error(ErrorKind::kInvalid, "file ({}) cannot be read: {}", path, what);
  }
  return table;
}

std::size_t Table::column(std::string_view name) const {
  const auto found = std::find(columns_.begin(), columns_.end(), name);
  if (found == columns_.end()) return kNone;
  return static_cast<std::size_t>(found - columns_.begin());
}

bool Table::has(std::initializer_list<std::string_view> names) const {
  return std::all_of(names.begin(), names.end(),
                     [this](std::string_view name) { return column(name) != kNone; });
}

Result<double> Table::number(std::size_t row, std::size_t column) const {
  const std::string& cell = text(row, column);
  double value = 0;
  const auto [end, fault] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
  if (fault != std::errc{} || end != cell.data() + cell.size() || !std::isfinite(value)) {
    return error(ErrorKind::kInvalid, "{}: row {}, column {} ({}) must be a number", path_, row + 1,
                 columns_[column], cell);
  }
  return value;
}

Result<std::vector<std::string>> tables_in(const std::string& folder) {
  std::vector<std::string> paths;
  std::error_code fault;
  for (const auto& entry : std::filesystem::directory_iterator(folder, fault)) {
    const std::string name = entry.path().string();
    if (name.ends_with(".csv") || name.ends_with(".csv.gz")) paths.push_back(name);
  }
  if (fault) {
    return error(ErrorKind::kNotFound, "folder ({}) cannot be read: {}", folder, fault.message());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace outboard::manage
