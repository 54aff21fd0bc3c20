// SPDX-License-Identifier: Apache-2.0
// Who may use a server: the file of tokens and tenants in its state folder (tokens.json, 0600),
// which `outboard token` writes and the server reads again when it has changed.
//
// A token is ID.SECRET: eight hexadecimal digits that may be shown, and 256 random bits that are
// kept by their SHA-256 alone. With that many bits nothing slower or salted is needed.
// Thread-safe. Times are seconds of the wall clock since 1970; 0: never.
// Errors: kInvalid for a file that cannot be read or an argument that cannot be; kRefused, with a
// sentence for its owner, for a token that does not admit; kNotFound for an id that is not there.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/sha256.h"
#include "serve/tenant.h"

namespace outboard::serve {

struct TokenRow {
  std::string id, tenant;
  Sha256 secret_hash;
  std::int64_t created_s = 0, expires_s = 0;
  bool revoked = false;
};

struct TokenList {
  std::vector<TenantSpec> tenants;  // by name
  std::vector<TokenRow> tokens;
};

// An empty list where there is no file yet.
Result<TokenList> read_tokens(const std::string& path);
// Adds a token; the tenant is made or changed as `tenant` says. Returns the token, which is shown
// this once.
Result<std::string> add_token(const std::string& path, const TenantSpec& tenant, std::int64_t now_s,
                              std::int64_t expires_s);
Result<void> revoke_token(const std::string& path, std::string_view id);

struct Proof {
  std::string token_id;
  TenantSpec tenant;
};
// Whose token it is. Takes as long for one that is not known as for one whose secret is wrong.
Result<Proof> check_token(const TokenList& list, std::string_view token, std::int64_t now_s);

// The file as a running server sees it.
class Tokens {
 public:
  explicit Tokens(std::string path) : path_(std::move(path)) {}
  Result<Proof> check(std::string_view token);
  // Reads the file if it has changed; true when it had since the last call of this.
  bool refresh();
  // Whether a token that admitted once still does; and what its tenant may have now.
  bool admits(std::string_view id);
  std::vector<TenantSpec> tenants();

 private:
  void refresh_locked();
  const std::string path_;
  std::mutex mutex_;
  TokenList list_;
  bool is_news_ = false;  // what refresh() has not told yet
  std::int64_t seen_ns_ = -1, seen_inode_ = -1;
};

}  // namespace outboard::serve
