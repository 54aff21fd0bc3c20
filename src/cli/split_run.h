// SPDX-License-Identifier: Apache-2.0
// `outboard split run` and `outboard split plan`: a plan over real nodes.
#pragma once

namespace CLI {
class App;
}

namespace outboard::cli {

void add_split_run(CLI::App& split, int& exit_code);

}  // namespace outboard::cli
