// SPDX-License-Identifier: Apache-2.0
#include "wire/access.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <system_error>

#include "base/limits.h"
#include "wire/transport/tls.h"

namespace outboard::wire {
namespace {

constexpr std::size_t kFileBytes = 1u << 20;

Result<Sha256> parse_fingerprint(std::string_view text) {
  if (const auto hash = Sha256::from_hex(text)) return *hash;
  return error(ErrorKind::kInvalid, "the identity ({}) must be of 64 hexadecimal digits", text);
}

bool is_token(std::string_view text) {
  return !text.empty() && text.size() <= limits::kTokenBytes &&
         text.find_first_not_of(
             "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") ==
             std::string_view::npos;
}

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

Result<std::string> read_small_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const auto failed = [&](int code) {
    return error(ErrorKind::kInvalid, "the file ({}) cannot be read: {}", path,
                 std::generic_category().message(code));
  };
  if (fd < 0) return failed(errno);
  std::string text;
  std::array<char, 4096> piece;
  ssize_t n = 0;
  while ((n = ::read(fd, piece.data(), piece.size())) > 0 && text.size() <= kFileBytes)
    text.append(piece.data(), static_cast<std::size_t>(n));
  const int code = n < 0 ? errno : 0;
  ::close(fd);
  if (code != 0) return failed(code);
  if (text.size() > kFileBytes)
    return error(ErrorKind::kInvalid, "the file ({}) must have at most {} bytes", path, kFileBytes);
  return text;
}

bool leaves_this_machine(int fd) {
  sockaddr_storage peer{};
  socklen_t size = sizeof peer;
  if (fd < 0 || ::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0) return false;
  if (peer.ss_family == AF_INET) {
    const auto& four = reinterpret_cast<const sockaddr_in&>(peer);
    return (ntohl(four.sin_addr.s_addr) >> 24) != 127;
  }
  if (peer.ss_family == AF_INET6) {
    const in6_addr& six = reinterpret_cast<const sockaddr_in6&>(peer).sin6_addr;
    return !IN6_IS_ADDR_LOOPBACK(&six) && !(IN6_IS_ADDR_V4MAPPED(&six) && six.s6_addr[12] == 127);
  }
  return false;
}

}  // namespace

// The line is a secret: no message repeats what is behind '#'.
Result<Access> parse_login_line(std::string_view line) {
  line = trimmed(line);
  Access access;
  const auto hash = line.find('#');
  const std::string_view shown = line.substr(0, hash);
  if (!line.starts_with(kLoginScheme) || hash == std::string_view::npos)
    return error(ErrorKind::kInvalid,
                 "the line must be outboard://HOST:PORT?id=FINGERPRINT#TOKEN, as `outboard token "
                 "add` prints it");
  access.token = line.substr(hash + 1);
  if (!is_token(access.token))
    return error(ErrorKind::kInvalid,
                 "the token (behind #) must be of 1 to {} letters, digits, '.', '_' and '-'",
                 limits::kTokenBytes);
  const std::string_view rest = shown.substr(kLoginScheme.size());
  const auto question = rest.find('?');
  OB_TRY(access.endpoint, parse_endpoint(rest.substr(0, question)));
  if (question == std::string_view::npos) return access;
  const std::string_view query = rest.substr(question + 1);
  if (!query.starts_with("id="))
    return error(ErrorKind::kInvalid, "what follows ? ({}) must be id=FINGERPRINT", query);
  OB_TRY(access.identity, parse_fingerprint(query.substr(3)));
  return access;
}

std::string login_line(const Access& access) {
  std::string line = std::string(kLoginScheme) + access.endpoint.to_string();
  if (access.identity) line += "?id=" + access.identity->hex();
  return line + "#" + access.token;
}

Result<Access> parse_access_file(std::string_view text, std::string_view path) {
  Access access;
  bool has_address = false;
  std::size_t number = 0;
  const auto wrong = [&](std::string_view what) {
    return error(ErrorKind::kInvalid, "line {} of the access file ({}) {}", number, path, what);
  };
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    const std::string_view line = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (line.empty() || line.front() == '#') continue;
    const auto blank = std::min(line.find(' '), line.size());
    const std::string_view word = line.substr(0, blank), value = trimmed(line.substr(blank));
    if (word == "address") {
      OB_TRY(access.endpoint, parse_endpoint(value));
      has_address = true;
    } else if (word == "id") {
      OB_TRY(access.identity, parse_fingerprint(value));
    } else if (word == "ca") {
      access.ca_path = value;
    } else if (word == "token") {
      if (!is_token(value)) return wrong("has no token behind its word (token)");
      access.token = value;
    } else {
      return wrong("must begin with address, id, ca or token");
    }
  }
  if (!has_address || !access.is_secured())
    return error(ErrorKind::kInvalid,
                 "the access file ({}) must have an address, and an id or authorities (ca)", path);
  return access;
}

Result<Access> read_access_file(const std::string& path) {
  OB_TRY(const std::string text, read_small_file(path));
  return parse_access_file(text, path);
}

std::string access_file_text(const Access& access) {
  std::string text = "# How outboard reaches a server. It holds the token: keep it to yourself.\n";
  text += "address " + access.endpoint.to_string() + "\n";
  if (access.identity) text += "id " + access.identity->hex() + "\n";
  if (!access.ca_path.empty()) text += "ca " + access.ca_path + "\n";
  if (!access.token.empty()) text += "token " + access.token + "\n";
  return text;
}

bool insecure_by_environment() {
  const char* value = std::getenv("OUTBOARD_INSECURE");
  return value != nullptr && std::string_view(value) == "1";
}

Result<std::vector<Access>> parse_servers(std::string_view list) {
  std::vector<Access> servers;
  while (!list.empty()) {
    const auto comma = std::min(list.find(','), list.size());
    const std::string_view item = list.substr(0, comma);
    list.remove_prefix(std::min(comma + 1, list.size()));
    if (item.empty()) continue;
    // HOST:PORT=access:PATH: where a server was heard of that the file knows at another address.
    const auto equals = item.find("=access:");
    const auto file = item.starts_with(kAccessFilePrefix) ? 0
                      : equals == item.npos               ? item.npos
                                                          : equals + 1;
    if (file != item.npos) {
      OB_TRY(Access access,
             read_access_file(std::string(item.substr(file + kAccessFilePrefix.size()))));
      if (file > 0) {
        OB_TRY(access.endpoint, parse_endpoint(item.substr(0, equals)));
      }
      servers.push_back(std::move(access));
      continue;
    }
    Access access;
    OB_TRY(access.endpoint, parse_endpoint(item));
    servers.push_back(std::move(access));
  }
  return servers;
}

Result<std::shared_ptr<const TlsContext>> Connector::context() {
  const std::lock_guard lock(mutex_);
  if (context_) return context_;
  TlsTrust trust{
      .identity = access_.identity, .authorities_pem = {}, .host = access_.endpoint.host};
  if (!access_.identity) {
    OB_TRY(trust.authorities_pem, read_small_file(access_.ca_path));
  }
  OB_TRY(context_, TlsContext::client(std::move(trust)));
  return context_;
}

Result<std::unique_ptr<Stream>> Connector::connect(std::chrono::milliseconds timeout,
                                                   CancelToken* cancel) {
  OB_TRY(auto stream, connect_to(access_.endpoint, timeout, resolver_));
  const std::string address = access_.endpoint.to_string();
  if (!access_.is_secured()) {
    if (!access_.insecure && !insecure_by_environment() && leaves_this_machine(stream->poll_fd()))
      return error(ErrorKind::kRefused,
                   "the server ({}) is beyond this machine, and who it must be is not known: "
                   "`outboard login` takes the line that its operator has, --insecure goes without",
                   address);
    return stream;
  }
  OB_TRY(auto shared, context());
  stream->set_stall_timeout(timeout);
  auto secured = tls_connect(std::move(stream), std::move(shared), cancel);
  if (!secured && secured.error().kind == ErrorKind::kDisconnected)
    return error(ErrorKind::kDisconnected,
                 "the server ({}) ended the connection before it had shown who it is", address);
  if (!secured)
    return tl::make_unexpected(
        std::move(secured).error().while_doing(fmt::format("connecting to ({})", address)));
  return secured;
}

}  // namespace outboard::wire
