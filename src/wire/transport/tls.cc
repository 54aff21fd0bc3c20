// SPDX-License-Identifier: Apache-2.0
// One TLS connection: OpenSSL between two byte buffers of ours, and the Stream over it.
#include "wire/transport/tls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cstring>
#include <mutex>

#include "base/check.h"
#include "base/openssl.h"
#include "wire/transport/tls_internal.h"

namespace outboard::wire {
namespace {

constexpr std::size_t kRecordBytes = 16u << 10;  // of data in one record of TLS
// Ciphered bytes are handed to the stream below in such pieces: several records a system call.
constexpr std::size_t kSendBytes = 4 * kRecordBytes;
constexpr std::size_t kFirstInputBytes = 4u << 10, kMostInputBytes = 4 * kRecordBytes;
// Parts of a message that are smaller are put together in one record.
constexpr std::size_t kSmallPartBytes = 4u << 10;

int to_int(std::size_t size) { return static_cast<int>(std::min<std::size_t>(size, 1u << 30)); }

}  // namespace

// What OpenSSL calls: our buffers are its network.
struct TlsCallbacks {
  static TlsSession& session_of(BIO* bio) { return *static_cast<TlsSession*>(BIO_get_data(bio)); }
  static int read(BIO* bio, char* data, int size) {
    TlsSession& session = session_of(bio);
    BIO_clear_retry_flags(bio);
    const std::size_t n = std::min(session.end_ - session.begin_, static_cast<std::size_t>(size));
    if (n == 0) {
      BIO_set_retry_read(bio);
      return -1;
    }
    std::memcpy(data, session.in_.data() + session.begin_, n);
    session.begin_ += n;
    return static_cast<int>(n);
  }
  static int write(BIO* bio, const char* data, int size) {
    const auto* bytes = reinterpret_cast<const std::byte*>(data);
    std::vector<std::byte>& out = session_of(bio).out_;
    out.insert(out.end(), bytes, bytes + size);
    return size;
  }
  static long control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }
  static int create(BIO* bio) {
    BIO_set_init(bio, 1);
    return 1;
  }
  static BIO_METHOD* method() {
    // Never freed: connections may be at work while the process ends.
    static BIO_METHOD* const made = [] {
      BIO_METHOD* m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "outboard");
      OB_CHECK(m != nullptr);
      BIO_meth_set_read(m, &TlsCallbacks::read);
      BIO_meth_set_write(m, &TlsCallbacks::write);
      BIO_meth_set_ctrl(m, &TlsCallbacks::control);
      BIO_meth_set_create(m, &TlsCallbacks::create);
      return m;
    }();
    return made;
  }
  static int verify(X509_STORE_CTX* store) {
    const auto* ssl =
        static_cast<SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
    auto& session = *static_cast<TlsSession*>(SSL_get_app_data(ssl));
    const std::optional<Sha256>& pinned = session.context_->identity();
    OB_CHECK(pinned.has_value());  // only such a context asks here
    const Sha256 shown = fingerprint_of(X509_STORE_CTX_get0_cert(store));
    const Sha256& expected = *pinned;
    if (CRYPTO_memcmp(shown.bytes.data(), expected.bytes.data(), expected.bytes.size()) == 0)
      return 1;
    session.refusal_ =
        Error{ErrorKind::kRefused,
              fmt::format("the server's identity ({}) must be the one that is known ({}); nothing "
                          "was sent to it",
                          shown.hex(), expected.hex()),
              0};
    X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_UNTRUSTED);
    return 0;
  }
};

int verify_pinned_identity(X509_STORE_CTX* store, void*) { return TlsCallbacks::verify(store); }

struct TlsSession::Handles {
  SslPointer ssl;
};

TlsSession::TlsSession(std::shared_ptr<const TlsContext> context)
    : context_(std::move(context)), handles_(std::make_unique<Handles>()) {}
TlsSession::~TlsSession() = default;

Result<std::unique_ptr<TlsSession>> TlsSession::make(std::shared_ptr<const TlsContext> context) {
  std::unique_ptr<TlsSession> session(new TlsSession(std::move(context)));
  const TlsTrust& trust = session->context_->trust_;
  session->handles_->ssl.reset(SSL_new(session->context_->handles_->context.get()));
  SSL* ssl = session->handles_->ssl.get();
  BIO* bio = BIO_new(TlsCallbacks::method());
  if (ssl == nullptr || bio == nullptr)
    return error(ErrorKind::kInternal, "OpenSSL has no memory left");
  BIO_set_data(bio, session.get());
  SSL_set_bio(ssl, bio, bio);
  SSL_set_app_data(ssl, session.get());
  if (SSL_is_server(ssl) != 0) {
    SSL_set_accept_state(ssl);
    return session;
  }
  SSL_set_connect_state(ssl);
  if (trust.identity) return session;
  in6_addr address{};
  const bool is_address = ::inet_pton(AF_INET, trust.host.c_str(), &address) == 1 ||
                          ::inet_pton(AF_INET6, trust.host.c_str(), &address) == 1;
  const int done =
      is_address ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), trust.host.c_str())
                 : SSL_set1_host(ssl, trust.host.c_str()) +
                       static_cast<int>(SSL_set_tlsext_host_name(ssl, trust.host.c_str())) - 1;
  if (done != 1)
    return error(ErrorKind::kInvalid, "the host's name ({}) cannot be verified", trust.host);
  return session;
}

std::span<std::byte> TlsSession::input_space(std::size_t at_least) {
  if (begin_ == end_) begin_ = end_ = 0;
  if (in_.size() - end_ < at_least && begin_ > 0) {
    std::memmove(in_.data(), in_.data() + begin_, end_ - begin_);
    end_ -= std::exchange(begin_, 0);
  }
  if (in_.size() - end_ < at_least) in_.resize(end_ + at_least);
  return std::span(in_).subspan(end_);
}

tl::unexpected<Error> TlsSession::failed(std::string_view doing) {
  if (refusal_) return tl::make_unexpected(*refusal_);
  SSL* ssl = handles_->ssl.get();
  const long verified = SSL_get_verify_result(ssl);
  if (SSL_is_server(ssl) == 0 && verified != X509_V_OK)
    return error(ErrorKind::kRefused,
                 "the server's certificate is not one of the authorities for ({}): {}; nothing was "
                 "sent to it",
                 context_->trust_.host, X509_verify_cert_error_string(verified));
  const char* reason = ERR_reason_error_string(ERR_peek_error());
  return error(ErrorKind::kInvalid, "the peer does not speak TLS 1.3 as expected ({}), while {}",
               reason == nullptr ? "no reason" : reason, doing);
}

Result<bool> TlsSession::handshake() {
  ERR_clear_error();
  SSL* ssl = handles_->ssl.get();
  const int done = SSL_do_handshake(ssl);
  if (done == 1) return true;
  if (SSL_get_error(ssl, done) == SSL_ERROR_WANT_READ) return false;
  return failed("shaking hands");
}

Result<std::size_t> TlsSession::read(std::span<std::byte> destination, bool consume) {
  ERR_clear_error();
  SSL* ssl = handles_->ssl.get();
  const int size = to_int(destination.size());
  const int n =
      consume ? SSL_read(ssl, destination.data(), size) : SSL_peek(ssl, destination.data(), size);
  if (n > 0) return static_cast<std::size_t>(n);
  switch (SSL_get_error(ssl, n)) {
    case SSL_ERROR_WANT_READ:
      return std::size_t{0};
    case SSL_ERROR_ZERO_RETURN:
      return error(ErrorKind::kDisconnected, "peer closed the connection");
    default:
      return failed("receiving");
  }
}

bool TlsSession::holds_bytes() const {
  return begin_ != end_ || SSL_has_pending(handles_->ssl.get()) != 0;
}

Result<void> TlsSession::write(std::span<const std::byte> bytes) {
  ERR_clear_error();
  SSL* ssl = handles_->ssl.get();
  while (!bytes.empty()) {
    const int n = SSL_write(ssl, bytes.data(), to_int(bytes.size()));
    if (n <= 0) return failed("sending");  // our buffer takes everything: no retry
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

namespace {

// Writers come one at a time, and so do readers; a reader and a writer meet in `mutex_` for as long
// as OpenSSL works, never while the stream below waits.
class TlsStream final : public Stream {
 public:
  TlsStream(std::unique_ptr<Stream> below, std::unique_ptr<TlsSession> session)
      : below_(std::move(below)), session_(std::move(session)) {}

  Result<std::size_t> read_some(std::span<const iovec> buffers) override {
    for (;;) {
      OB_TRY(const std::size_t n, take(buffers));
      if (n > 0) return n;
      const iovec space = input_space();
      OB_TRY(const std::size_t came, below_->read_some(std::span(&space, 1)));
      received(came, space);
    }
  }
  Result<std::size_t> read_what_is_there(std::span<const iovec> buffers) override {
    OB_TRY(const std::size_t n, take(buffers));
    if (n > 0) return n;
    const iovec space = input_space();
    OB_TRY(const std::size_t came, below_->read_what_is_there(std::span(&space, 1)));
    if (came == 0) return std::size_t{0};
    received(came, space);
    return take(buffers);
  }
  bool can_look() const override { return below_->can_look(); }

  Result<void> write_all(std::span<iovec> buffers) override {
    small_.clear();
    for (const iovec& buffer : buffers) {
      const std::span part(static_cast<const std::byte*>(buffer.iov_base), buffer.iov_len);
      if (part.size() < kSmallPartBytes && small_.size() + part.size() <= kRecordBytes) {
        small_.insert(small_.end(), part.begin(), part.end());
        continue;
      }
      OB_CHECK_OK(write(small_));
      small_.clear();
      for (std::size_t done = 0; done < part.size();) {
        const std::size_t step = std::min(kSendBytes, part.size() - done);
        OB_CHECK_OK(write(part.subspan(done, step)));
        done += step;
        if (sending_.size() >= kSendBytes) OB_CHECK_OK(flush());
      }
    }
    OB_CHECK_OK(write(small_));
    return flush();
  }

  void set_stall_timeout(std::chrono::milliseconds timeout) override {
    below_->set_stall_timeout(timeout);
  }
  std::uint64_t delivered_bytes() const override { return below_->delivered_bytes(); }
  void shut_down() override { below_->shut_down(); }
  void abandon() override { below_->abandon(); }

  Result<std::size_t> peek(std::span<std::byte> buffer) override {
    for (;;) {
      {
        const std::lock_guard lock(mutex_);
        OB_TRY(const std::size_t n, session_->read(buffer, /*consume=*/false));
        if (n > 0) return n;
      }
      std::byte probe;
      OB_TRY(const std::size_t below, below_->peek(std::span(&probe, 1)));
      if (below == 0) return std::size_t{0};
      const iovec space = input_space();
      OB_TRY(const std::size_t came, below_->read_some(std::span(&space, 1)));  // does not wait
      received(came, space);
    }
  }
  bool holds_bytes() const override {
    const std::lock_guard lock(mutex_);
    return session_->holds_bytes();
  }
  int poll_fd() const override { return below_->poll_fd(); }

 private:
  // What is deciphered already, or can be with the input that is there.
  Result<std::size_t> take(std::span<const iovec> buffers) {
    const std::lock_guard lock(mutex_);
    std::size_t total = 0;
    for (const iovec& buffer : buffers) {
      std::span space(static_cast<std::byte*>(buffer.iov_base), buffer.iov_len);
      while (!space.empty()) {
        auto n = session_->read(space);
        if (!n && total > 0) return total;  // the error comes again
        if (!n) return n;
        if (*n == 0) return total;
        total += *n;
        space = space.subspan(*n);
      }
    }
    return total;
  }

  // Input is touched by the one reader alone, so it needs no lock.
  iovec input_space() { return {session_->input_space(input_bytes_).data(), input_bytes_}; }
  void received(std::size_t came, const iovec& space) {
    session_->received(came);
    if (came == space.iov_len) input_bytes_ = std::min(2 * input_bytes_, kMostInputBytes);
  }

  Result<void> write(std::span<const std::byte> bytes) {
    if (bytes.empty()) return {};
    const std::lock_guard lock(mutex_);
    OB_CHECK_OK(session_->write(bytes));
    std::vector<std::byte>& output = session_->output();
    if (sending_.empty()) {
      sending_.swap(output);
    } else {
      sending_.insert(sending_.end(), output.begin(), output.end());
      output.clear();
    }
    return {};
  }

  Result<void> flush() {
    if (sending_.empty()) return {};
    iovec part{sending_.data(), sending_.size()};
    auto sent = below_->write_all(std::span(&part, 1));
    sending_.clear();
    return sent;
  }

  const std::unique_ptr<Stream> below_;
  mutable std::mutex mutex_;  // of the session, but for its input
  const std::unique_ptr<TlsSession> session_;
  std::size_t input_bytes_ = kFirstInputBytes;  // the reader's
  std::vector<std::byte> small_, sending_;      // the writer's
};

Result<void> send_output(Stream& below, TlsSession& session) {
  std::vector<std::byte>& output = session.output();
  if (output.empty()) return {};
  iovec part{output.data(), output.size()};
  auto sent = below.write_all(std::span(&part, 1));
  output.clear();
  return sent;
}

Result<std::unique_ptr<Stream>> shake_hands(std::unique_ptr<Stream> below,
                                            std::shared_ptr<const TlsContext> context,
                                            CancelToken* cancel) {
  const CancelWatch watch(cancel, [raw = below.get()](bool) { raw->shut_down(); });
  OB_TRY(auto session, TlsSession::make(std::move(context)));
  for (;;) {
    auto done = session->handshake();
    if (!done) {
      (void)send_output(*below, *session);  // the alert that says why
      return tl::make_unexpected(std::move(done).error());
    }
    // A client's last message waits for what follows it.
    if (*done) return make_tls_stream(std::move(below), std::move(session));
    OB_CHECK_OK(send_output(*below, *session));
    const std::span<std::byte> space = session->input_space(kFirstInputBytes);
    const iovec part{space.data(), space.size()};
    OB_TRY(const std::size_t n, below->read_some(std::span(&part, 1)));
    session->received(n);
  }
}

}  // namespace

Result<std::unique_ptr<Stream>> tls_connect(std::unique_ptr<Stream> below,
                                            std::shared_ptr<const TlsContext> context,
                                            CancelToken* cancel) {
  return shake_hands(std::move(below), std::move(context), cancel);
}

Result<std::unique_ptr<Stream>> tls_accept(std::unique_ptr<Stream> below,
                                           std::shared_ptr<const TlsContext> context) {
  return shake_hands(std::move(below), std::move(context), nullptr);
}

std::unique_ptr<Stream> make_tls_stream(std::unique_ptr<Stream> below,
                                        std::unique_ptr<TlsSession> session) {
  return std::make_unique<TlsStream>(std::move(below), std::move(session));
}

}  // namespace outboard::wire
