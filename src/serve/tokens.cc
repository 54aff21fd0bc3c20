// SPDX-License-Identifier: Apache-2.0
#include "serve/tokens.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/check.h"
#include "base/files.h"
#include "base/log.h"

namespace outboard::serve {
namespace {

using nlohmann::json;

constexpr std::size_t kFileBytes = 16u << 20;
constexpr std::size_t kIdDigits = 8, kSecretBytes = 32;

// Limits by their names in the file.
struct Limit {
  const char* name;
  std::uint64_t TenantLimits::* value;
};
constexpr Limit kLimits[] = {{"connections", &TenantLimits::connections},
                             {"sessions", &TenantLimits::sessions},
                             {"concurrent_runs", &TenantLimits::concurrent_runs},
                             {"in_flight_bytes", &TenantLimits::in_flight_bytes},
                             {"store_bytes", &TenantLimits::store_bytes},
                             {"device_memory_bytes", &TenantLimits::device_memory_bytes}};

json to_json(const TenantSpec& tenant) {
  json document = {{"name", tenant.name}, {"weight", tenant.weight}};
  for (const Limit& limit : kLimits) document[limit.name] = tenant.limits.*limit.value;
  document["runs_per_s"] = tenant.limits.runs_per_s;
  return document;
}

TenantSpec tenant_from(const json& document) {
  TenantSpec tenant;
  tenant.name = document.at("name").get<std::string>();
  tenant.weight = document.value("weight", 1.0);
  for (const Limit& limit : kLimits)
    tenant.limits.*limit.value = document.value(limit.name, std::uint64_t{0});
  tenant.limits.runs_per_s = document.value("runs_per_s", 0.0);
  return tenant;
}

json to_json(const TokenRow& token) {
  return {{"id", token.id},
          {"tenant", token.tenant},
          {"sha256", token.secret_hash.hex()},
          {"created_s", token.created_s},
          {"expires_s", token.expires_s},
          {"revoked", token.revoked}};
}

std::optional<TokenRow> token_from(const json& document) {
  const auto hash = Sha256::from_hex(document.at("sha256").get<std::string>());
  if (!hash) return std::nullopt;
  return TokenRow{document.at("id").get<std::string>(),
                  document.at("tenant").get<std::string>(),
                  *hash,
                  document.value("created_s", std::int64_t{0}),
                  document.value("expires_s", std::int64_t{0}),
                  document.value("revoked", false)};
}

Result<TokenList> parse(const std::string& text, const std::string& path) {
  const auto wrong = [&](std::string_view why) {
    return error(ErrorKind::kInvalid, "the file of tokens ({}) cannot be read: {}", path, why);
  };
  try {
    const json document = json::parse(text);
    TokenList list;
    for (const json& row : document.at("tenants")) {
      TenantSpec tenant = tenant_from(row);
      OB_CHECK_OK(check_tenant_name(tenant.name));
      if (!(tenant.weight > 0)) return wrong("a weight must be positive");
      list.tenants.push_back(std::move(tenant));
    }
    for (const json& row : document.at("tokens")) {
      auto token = token_from(row);
      if (!token) return wrong("a hash must be of 64 hexadecimal digits");
      list.tokens.push_back(std::move(*token));
    }
    return list;
  } catch (const json::exception& e) {
    return wrong(e.what());
  }
}

std::string random_bytes(std::size_t count) {
  std::string bytes(count, '\0');
  OB_CHECK(::getrandom(bytes.data(), count, 0) == static_cast<ssize_t>(count));
  return bytes;
}

// Base64 for addresses and file names (RFC 4648, section 5), without padding.
std::string base64url(std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string text;
  unsigned bits = 0;
  int held = 0;
  for (const char c : bytes) {
    bits = (bits << 8) | static_cast<unsigned char>(c);
    for (held += 8; held >= 6; held -= 6) text += kDigits[(bits >> (held - 6)) & 63];
  }
  if (held > 0) text += kDigits[(bits << (6 - held)) & 63];
  return text;
}

std::string hex_digits(std::string_view bytes) {
  std::string text;
  for (const char c : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return text;
}

Sha256 hash_of(std::string_view text) { return sha256(std::as_bytes(std::span(text))); }

// Changes the file under a lock, so that two commands at once both have their effect.
template <typename Change>
Result<void> change(const std::string& path, const Change& apply) {
  OB_TRY(const File lock, open_file(path + ".lock", O_RDWR | O_CREAT));
  while (::flock(lock.get(), LOCK_EX) != 0 && errno == EINTR) {
  }
  OB_TRY(TokenList list, read_tokens(path));
  OB_CHECK_OK(apply(list));
  json document = {{"tenants", json::array()}, {"tokens", json::array()}};
  for (const TenantSpec& tenant : list.tenants) document["tenants"].push_back(to_json(tenant));
  for (const TokenRow& token : list.tokens) document["tokens"].push_back(to_json(token));
  return write_secret_file(path, document.dump(1) + "\n");
}

std::string day_of(std::int64_t time_s) {
  const auto time = static_cast<std::time_t>(time_s);
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  std::array<char, 32> text{};
  const std::size_t size = std::strftime(text.data(), text.size(), "%F %T UTC", &parts);
  return {text.data(), size};
}

}  // namespace

Result<TokenList> read_tokens(const std::string& path) {
  if (::access(path.c_str(), F_OK) != 0) return TokenList{};
  OB_TRY(const std::string text, read_file(path, kFileBytes));
  return parse(text, path);
}

Result<std::string> add_token(const std::string& path, const TenantSpec& tenant, std::int64_t now_s,
                              std::int64_t expires_s) {
  OB_CHECK_OK(check_tenant_name(tenant.name));
  if (!(tenant.weight > 0) || tenant.weight > 1e6)
    return error(ErrorKind::kInvalid, "the tenant's weight ({}) must be from above 0 to 1000000",
                 tenant.weight);
  const std::string secret = base64url(random_bytes(kSecretBytes));
  TokenRow row{hex_digits(random_bytes(kIdDigits / 2)),
               tenant.name,
               hash_of(secret),
               now_s,
               expires_s,
               false};
  OB_CHECK_OK(change(path, [&](TokenList& list) -> Result<void> {
    const auto found = std::ranges::find(list.tenants, tenant.name, &TenantSpec::name);
    if (found == list.tenants.end())
      list.tenants.push_back(tenant);
    else
      *found = tenant;
    list.tokens.push_back(row);
    return {};
  }));
  return row.id + "." + secret;
}

Result<void> revoke_token(const std::string& path, std::string_view id) {
  return change(path, [&](TokenList& list) -> Result<void> {
    const auto found = std::ranges::find(list.tokens, id, &TokenRow::id);
    if (found == list.tokens.end())
      return error(ErrorKind::kNotFound,
                   "no token has the id ({}); `outboard token list` shows them", id);
    found->revoked = true;
    return {};
  });
}

Result<Proof> check_token(const TokenList& list, std::string_view token, std::int64_t now_s) {
  if (token.empty())
    return error(ErrorKind::kRefused,
                 "the server asks for a token: `outboard login` takes the line that has one");
  const std::string_view id = token.substr(0, token.find('.'));
  const Sha256 shown = hash_of(token.substr(std::min(id.size() + 1, token.size())));
  const auto found = std::ranges::find(list.tokens, id, &TokenRow::id);
  const bool is_known = found != list.tokens.end();
  const Sha256 expected = is_known ? found->secret_hash : Sha256{};
  const bool is_right =
      CRYPTO_memcmp(shown.bytes.data(), expected.bytes.data(), expected.bytes.size()) == 0;
  if (!is_known || !is_right)
    return error(ErrorKind::kRefused, "the token is not one of the server's");
  if (found->revoked)
    return error(ErrorKind::kRefused, "the token ({}) was revoked by the server's operator",
                 found->id);
  if (found->expires_s != 0 && now_s >= found->expires_s)
    return error(ErrorKind::kRefused, "the token ({}) expired at {}", found->id,
                 day_of(found->expires_s));
  const auto tenant = std::ranges::find(list.tenants, found->tenant, &TenantSpec::name);
  if (tenant == list.tenants.end())
    return error(ErrorKind::kRefused, "the token ({}) is of a tenant that is no more", found->id);
  return Proof{found->id, *tenant};
}

void Tokens::refresh_locked() {
  struct stat status{};
  const bool exists = ::stat(path_.c_str(), &status) == 0;
  const std::int64_t at_ns =
      exists ? status.st_mtim.tv_sec * 1'000'000'000 + status.st_mtim.tv_nsec : 0;
  const auto inode = exists ? static_cast<std::int64_t>(status.st_ino) : 0;
  if (at_ns == seen_ns_ && inode == seen_inode_) return;
  auto list = read_tokens(path_);
  if (!list) {
    // Whoever had access keeps it until the file can be read; nobody new gets any by the mistake.
    log_error("tokens not read reason=\"{}\"", list.error().message);
    return;
  }
  seen_ns_ = at_ns;
  seen_inode_ = inode;
  list_ = std::move(*list);
  is_news_ = true;
}

bool Tokens::refresh() {
  const std::lock_guard lock(mutex_);
  refresh_locked();
  return std::exchange(is_news_, false);
}

Result<Proof> Tokens::check(std::string_view token) {
  const std::lock_guard lock(mutex_);
  refresh_locked();
  return check_token(list_, token, now_s());
}

bool Tokens::admits(std::string_view id) {
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find(list_.tokens, id, &TokenRow::id);
  return found != list_.tokens.end() && !found->revoked &&
         (found->expires_s == 0 || now_s() < found->expires_s);
}

std::vector<TenantSpec> Tokens::tenants() {
  const std::lock_guard lock(mutex_);
  return list_.tenants;
}

}  // namespace outboard::serve
