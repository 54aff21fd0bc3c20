// SPDX-License-Identifier: Apache-2.0
#include "serve/greeting.h"

#include <algorithm>

#include "base/limits.h"

namespace outboard::serve {
namespace {

// RFC 8446, sections 4 and 5.1: a record's type, version and length; a message's type and length.
constexpr std::size_t kRecordHeaderBytes = 5, kMessageHeaderBytes = 4;
constexpr unsigned kChangeCipherSpec = 20, kAlert = 21, kHandshake = 22, kApplicationData = 23;

unsigned byte_at(std::span<const std::byte> bytes, std::size_t at) {
  return std::to_integer<unsigned>(bytes[at]);
}

// The size of the record at the beginning, 0 while it is not whole. kInvalid for one that a client
// does not send before its handshake is complete.
Result<std::size_t> whole_record(std::span<const std::byte> bytes) {
  if (bytes.size() < kRecordHeaderBytes) return std::size_t{0};
  const unsigned type = byte_at(bytes, 0);
  const std::size_t length = byte_at(bytes, 3) << 8 | byte_at(bytes, 4);
  const bool is_known = type == kHandshake || type == kApplicationData ||
                        (type == kChangeCipherSpec && length == 1) || type == kAlert;
  if (!is_known || byte_at(bytes, 1) != 3 || length == 0 || length > limits::kTlsClientHelloBytes)
    return error(ErrorKind::kInvalid,
                 "what came is not TLS's handshake: a record of type {} with {} bytes", type,
                 length);
  if (bytes.size() < kRecordHeaderBytes + length) return std::size_t{0};
  if (type == kHandshake) {
    const auto message = bytes.subspan(kRecordHeaderBytes, length);
    const std::size_t claimed =
        length < kMessageHeaderBytes
            ? 0
            : byte_at(message, 1) << 16 | byte_at(message, 2) << 8 | byte_at(message, 3);
    if (kMessageHeaderBytes + claimed != length)
      return error(ErrorKind::kInvalid,
                   "a message of TLS's handshake ({} bytes) must fill its record ({})",
                   kMessageHeaderBytes + claimed, length);
  }
  return kRecordHeaderBytes + length;
}

}  // namespace

Result<Greeting> Greeting::make(std::shared_ptr<const wire::TlsContext> context) {
  OB_TRY(auto session, wire::TlsSession::make(std::move(context)));
  return Greeting(std::move(session));
}

std::span<std::byte> Greeting::space() {
  if (is_private_) return session_->input_space(kStepBytes).first(kStepBytes);
  raw_.resize(raw_size_ + kStepBytes);
  return std::span(raw_).subspan(raw_size_);
}

Result<bool> Greeting::received(std::size_t bytes) {
  if (is_private_) {
    session_->received(bytes);
  } else {
    raw_size_ += bytes;
    OB_CHECK_OK(shake_hands());
    if (!is_private_) return false;
  }
  return read_hello();
}

// Gives the session one whole record after another, until it is done.
Result<void> Greeting::shake_hands() {
  std::size_t done = 0;
  const auto give = [&](std::size_t size) {
    std::copy_n(raw_.begin() + static_cast<std::ptrdiff_t>(done), size,
                session_->input_space(size).begin());
    session_->received(size);
    done += size;
  };
  while (!is_private_) {
    OB_TRY(const std::size_t size, whole_record(std::span(raw_).subspan(done, raw_size_ - done)));
    if (size == 0) break;
    give(size);
    OB_TRY(is_private_, session_->handshake());
  }
  if (is_private_) {
    give(raw_size_ - done);
    raw_ = {};
    raw_size_ = 0;
    return {};
  }
  raw_.erase(raw_.begin(), raw_.begin() + static_cast<std::ptrdiff_t>(done));
  raw_size_ -= done;
  return {};
}

Result<bool> Greeting::read_hello() {
  while (header_size_ < header_bytes_.size()) {
    OB_TRY(const std::size_t n, session_->read(std::span(header_bytes_).subspan(header_size_)));
    if (n == 0) return false;
    header_size_ += n;
    if (header_size_ < header_bytes_.size()) continue;
    OB_TRY(header_, wire::decode_frame_header(header_bytes_));
    if (header_.kind != wire::FrameKind::kHello)
      return error(ErrorKind::kInvalid, "the first frame ({}) must be a hello",
                   wire::name_of(header_.kind));
    if (header_.length > limits::kHelloBytes)
      return error(ErrorKind::kInvalid, "the hello ({} bytes) must have at most {}", header_.length,
                   limits::kHelloBytes);
    payload_.resize(header_.length);
  }
  while (payload_size_ < payload_.size()) {
    const std::span rest = std::as_writable_bytes(std::span(payload_)).subspan(payload_size_);
    OB_TRY(const std::size_t n, session_->read(rest));
    if (n == 0) return false;
    payload_size_ += n;
  }
  OB_TRY(hello_, wire::decode_hello(std::as_bytes(std::span(payload_))));
  return true;
}

std::string_view Greeting::token() const {
  for (const wire::Feature& feature : hello_.features)
    if (feature.number == wire::kFeatureAuthentication) return feature.data;
  return {};
}

void Greeting::refuse(const Error& error) {
  if (!is_private_) return;
  const std::string payload = wire::encode(error);
  const auto header = wire::encode(wire::FrameHeader{
      .kind = wire::FrameKind::kError, .request_id = header_.request_id, .length = payload.size()});
  if (session_->write(header)) (void)session_->write(std::as_bytes(std::span(payload)));
}

}  // namespace outboard::serve
