// SPDX-License-Identifier: Apache-2.0
// A CSV file with a header line, plain or gzipped (by its name's end: .csv, .csv.gz).
//
// No quoting: the files that are read here have none, and a quote is refused. At most 1 GiB of text
// and 65,536 bytes a line. Errors: kNotFound when the file cannot be read, kInvalid with file and
// line for what is no such table. Thread-safety: plain values.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace outboard::manage {

class Table {
 public:
  static Result<Table> read(const std::string& path);

  const std::string& path() const { return path_; }
  std::size_t rows() const { return columns_.empty() ? 0 : cells_.size() / columns_.size(); }
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);
  std::size_t column(std::string_view name) const;  // kNone when it is not there
  bool has(std::initializer_list<std::string_view> names) const;
  const std::string& text(std::size_t row, std::size_t column) const {
    return cells_[row * columns_.size() + column];
  }
  // kInvalid, naming file, line and column, when it is not a finite number.
  Result<double> number(std::size_t row, std::size_t column) const;

 private:
  std::string path_;
  std::vector<std::string> columns_;
  std::vector<std::string> cells_;
};

// The paths in a folder whose names end in .csv or .csv.gz, sorted. kNotFound when there is no such
// folder.
Result<std::vector<std::string>> tables_in(const std::string& folder);

}  // namespace outboard::manage
