// SPDX-License-Identifier: Apache-2.0
// A folder for one test, which goes with it.
#pragma once

#include <stdlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace outboard::split::testing {

class OwnFolder {
 public:
  OwnFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "outboard-bands-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no folder for a test");
    path_ = name;
  }
  ~OwnFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  OwnFolder(const OwnFolder&) = delete;
  OwnFolder& operator=(const OwnFolder&) = delete;

  const std::string& path() const { return path_; }
  // All files in it, in the order of their names.
  std::vector<std::filesystem::path> files() const {
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path_))
      if (entry.is_regular_file()) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
  }
  std::uintmax_t size_bytes() const {
    std::uintmax_t size = 0;
    for (const auto& file : files()) size += std::filesystem::file_size(file);
    return size;
  }

 private:
  std::string path_;
};

// One bit of the byte in the middle is turned over.
inline void damage(const std::filesystem::path& path) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  const auto middle = static_cast<std::streamoff>(std::filesystem::file_size(path) / 2);
  file.seekg(middle);
  const char was = static_cast<char>(file.get());
  file.seekp(middle);
  file.put(static_cast<char>(was ^ 1));
}

}  // namespace outboard::split::testing
