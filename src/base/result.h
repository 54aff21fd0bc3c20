// SPDX-License-Identifier: Apache-2.0
// Result<T>: how every folder reports failure. No exception crosses a folder's border.
//
//   Result<Model> load(const std::string& path);      // value, or an Error that says what to do
//   OB_TRY(auto model, load(path));                    // returns the Error to our own caller
//   OB_CHECK_OK(store.flush());                        // the same for Result<void>
//   return error(ErrorKind::kInvalid, "rate_per_s ({}) must be positive", rate);
//
// Messages are sentences: the value in parentheses after its noun, what was given and what was
// expected. Context is added on the way up: `.while_doing("opening session (3)")`.
// Thread-safety: plain values.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace outboard {

// What the caller may do about it. The numbers travel on the wire and are never reused.
enum class ErrorKind : std::uint8_t {
  kInvalid = 1,        // the request is wrong; sending it again cannot help
  kRefused = 2,        // understood, but not for this caller (a token, a limit, a policy)
  kOverloaded = 3,     // full or draining; another server, or later
  kDisconnected = 4,   // the peer is gone; nothing was executed
  kUnimplemented = 5,  // the peer does not know this request
  kMaybeExecuted = 6,  // the peer is gone; whether it executed is unknown
  kNotFound = 7,       // the named model, session or file is not there
  kTimeout = 8,        // a deadline passed
  kCancelled = 9,      // the caller asked for it
  kEngine = 10,        // the inference engine failed; native_code is the engine's own
  kInternal = 11,      // our own bug
};

std::string_view name_of(ErrorKind kind);

struct Error {
  ErrorKind kind = ErrorKind::kInternal;
  std::string message;           // a sentence without a trailing full stop
  std::int32_t native_code = 0;  // e.g. an OrtErrorCode, unchanged; 0 when there is none

  // "MESSAGE, while WHAT". Returns itself so that it can be chained in a return statement.
  Error while_doing(std::string_view what) && {
    message.append(", while ").append(what);
    return std::move(*this);
  }
};

template <typename T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using tl::expected<T, Error>::expected;
};

template <typename... Args>
tl::unexpected<Error> error(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
  return tl::make_unexpected(Error{kind, fmt::format(format, std::forward<Args>(args)...), 0});
}

}  // namespace outboard

#define OB_CONCAT_INNER(a, b) a##b
#define OB_CONCAT(a, b) OB_CONCAT_INNER(a, b)
// OB_TRY(declaration, expression): declares from the value, or returns the error.
#define OB_TRY(declaration, ...) \
  OB_TRY_INNER(OB_CONCAT(ob_result_, __LINE__), declaration, __VA_ARGS__)
#define OB_TRY_INNER(name, declaration, ...)                      \
  auto name = (__VA_ARGS__);                                      \
  if (!name) return tl::make_unexpected(std::move(name).error()); \
  declaration = std::move(*name)
// For Result<void>.
#define OB_CHECK_OK(...)                                        \
  do {                                                          \
    if (auto ob_status = (__VA_ARGS__); !ob_status)             \
      return tl::make_unexpected(std::move(ob_status).error()); \
  } while (false)
