// SPDX-License-Identifier: Apache-2.0
// A JSON file that is one object with one array in it, to which several processes add their entries
// one after the other; after each the file is a whole document. A report of a program and its
// children is such a file.
// Safe between threads and processes (flock). Errors: kInvalid, the file cannot be written.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace outboard {

// `head` is everything up to and with the array's opening bracket: {"processes": [
inline constexpr std::string_view kReportHead = "{\"processes\": [";
inline constexpr std::string_view kTraceHead = "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [";

// Replaces what the file held by an empty array.
Result<void> create_array_document(const std::string& path, std::string_view head);
// Adds `entries`, separated by commas, at the array's end; begins the document when there is none.
Result<void> append_to_array_document(const std::string& path, std::string_view head,
                                      std::string_view entries);
// The same, with `entries` in the place of `before`, which was added to this document earlier and
// is unlike everything else in it. At the end when it is not there (any more).
Result<void> replace_in_array_document(const std::string& path, std::string_view head,
                                       std::string_view before, std::string_view entries);

}  // namespace outboard
