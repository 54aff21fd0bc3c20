// SPDX-License-Identifier: Apache-2.0
// The verbs of `outboard manage`, one source file each; see verbs.h.
#pragma once

#include <string>

#include "base/result.h"

namespace CLI {
class App;
}

namespace outboard::cli {

void add_manage_capacity(CLI::App& manage, int& exit_code);
void add_manage_explain(CLI::App& manage, int& exit_code);
void add_manage_place(CLI::App& manage, int& exit_code);
void add_manage_predict(CLI::App& manage, int& exit_code);
void add_manage_simulate(CLI::App& manage, int& exit_code);
void add_manage_validate(CLI::App& manage, int& exit_code);

// The whole file, up to 1 GiB. kNotFound when it cannot be read.
Result<std::string> read_text(const std::string& path);
// Replaces the file. An .svg is written as it is; a .png is made of it by rsvg-convert (package
// librsvg2-bin). kInvalid for another ending, kNotFound when the file or the program is not there.
Result<void> write_picture(const std::string& path, const std::string& svg);

}  // namespace outboard::cli
