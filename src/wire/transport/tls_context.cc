// SPDX-License-Identifier: Apache-2.0
// Identities, what a client trusts, and OpenSSL's settings.
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "base/openssl.h"
#include "wire/transport/tls.h"
#include "wire/transport/tls_internal.h"

namespace outboard::wire {
namespace {

constexpr const char* kCiphers =
    "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384";
constexpr const char* kGroups = "X25519:P-256:P-384";

tl::unexpected<Error> openssl_error(std::string_view what) {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  return error(ErrorKind::kInvalid, "{}: {}", what, reason == nullptr ? "no reason" : reason);
}

BioPointer memory_of(std::string_view text) {
  return BioPointer(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

std::string text_of(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return {data, static_cast<std::size_t>(size)};
}

// The next certificate of a PEM text; nullptr: there is none.
X509Pointer next_certificate(BIO* bio, OSSL_LIB_CTX* library) {
  X509* certificate = X509_new_ex(library, nullptr);
  if (PEM_read_bio_X509(bio, &certificate, nullptr, nullptr) == nullptr) {
    X509_free(certificate);
    return nullptr;
  }
  return X509Pointer(certificate);
}

Result<void> use_identity(SSL_CTX* context, OSSL_LIB_CTX* library, const TlsIdentity& identity) {
  const BioPointer chain = memory_of(identity.certificate_pem);
  const X509Pointer own = next_certificate(chain.get(), library);
  if (!own || SSL_CTX_use_certificate(context, own.get()) != 1)
    return openssl_error("the certificate cannot be used");
  while (const X509Pointer next = next_certificate(chain.get(), library))
    if (SSL_CTX_add1_chain_cert(context, next.get()) != 1)
      return openssl_error("the certificate's chain cannot be used");
  ERR_clear_error();
  const BioPointer text = memory_of(identity.key_pem);
  // A key with a password is not asked for one.
  const auto no_password = [](char*, int, int, void*) { return 0; };
  const KeyPointer key(
      PEM_read_bio_PrivateKey_ex(text.get(), nullptr, no_password, nullptr, library, nullptr));
  if (!key || SSL_CTX_use_PrivateKey(context, key.get()) != 1 ||
      SSL_CTX_check_private_key(context) != 1)
    return openssl_error("the certificate's key cannot be used");
  return {};
}

Result<void> use_authorities(SSL_CTX* context, OSSL_LIB_CTX* library, std::string_view pem) {
  const BioPointer text = memory_of(pem);
  int count = 0;
  while (const X509Pointer next = next_certificate(text.get(), library)) {
    if (X509_STORE_add_cert(SSL_CTX_get_cert_store(context), next.get()) != 1)
      return openssl_error("an authority's certificate cannot be used");
    ++count;
  }
  ERR_clear_error();
  if (count == 0)
    return error(ErrorKind::kInvalid, "the authorities' file must have at least one certificate");
  return {};
}

// A library context of our own: nothing that this process sets up for its OpenSSL reaches it. Made
// once and never freed: every thread that used it has a handler that looks into it when it ends.
OSSL_LIB_CTX* own_library() {
  static OSSL_LIB_CTX* const made = OSSL_LIB_CTX_new();
  return made;
}

// Fills the handles; a function of its own, as TlsContext::Handles is private.
template <typename Handles>
Result<void> set_up(Handles& owned, bool is_server) {
  prepare_openssl();
  ERR_clear_error();
  Handles* handles = &owned;
  handles->context.reset(SSL_CTX_new_ex(own_library(), nullptr,
                                        is_server ? TLS_server_method() : TLS_client_method()));
  SSL_CTX* context = handles->context.get();
  if (context == nullptr) return openssl_error("OpenSSL has no TLS");
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_quiet_shutdown(context, 1);
  SSL_CTX_set_max_early_data(context, 0);
  if (SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_ciphersuites(context, kCiphers) != 1 ||
      SSL_CTX_set1_groups_list(context, kGroups) != 1 || SSL_CTX_set_num_tickets(context, 0) != 1)
    return openssl_error("OpenSSL cannot be set to TLS 1.3");
  return {};
}

}  // namespace

TlsContext::TlsContext(std::unique_ptr<Handles> handles, TlsTrust trust)
    : handles_(std::move(handles)), trust_(std::move(trust)) {}
TlsContext::~TlsContext() = default;

Result<std::shared_ptr<const TlsContext>> TlsContext::server(const TlsIdentity& identity) {
  auto handles = std::make_unique<Handles>();
  OB_CHECK_OK(set_up(*handles, /*is_server=*/true));
  OB_CHECK_OK(use_identity(handles->context.get(), own_library(), identity));
  return std::shared_ptr<const TlsContext>(new TlsContext(std::move(handles), {}));
}

Result<std::shared_ptr<const TlsContext>> TlsContext::client(TlsTrust trust) {
  auto handles = std::make_unique<Handles>();
  OB_CHECK_OK(set_up(*handles, /*is_server=*/false));
  SSL_CTX* context = handles->context.get();
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  if (trust.identity)
    SSL_CTX_set_cert_verify_callback(context, &verify_pinned_identity, nullptr);
  else
    OB_CHECK_OK(use_authorities(context, own_library(), trust.authorities_pem));
  return std::shared_ptr<const TlsContext>(new TlsContext(std::move(handles), std::move(trust)));
}

Sha256 fingerprint_of(X509* certificate) {
  unsigned char* der = nullptr;
  const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
  if (size <= 0) return {};
  const Sha256 fingerprint = sha256(std::as_bytes(std::span(der, static_cast<std::size_t>(size))));
  OPENSSL_free(der);
  return fingerprint;
}

Result<Sha256> fingerprint_of(std::string_view certificate_pem) {
  prepare_openssl();
  ERR_clear_error();
  const X509Pointer certificate = next_certificate(memory_of(certificate_pem).get(), nullptr);
  if (!certificate) return openssl_error("the certificate cannot be read");
  return fingerprint_of(certificate.get());
}

Result<TlsIdentity> make_identity() {
  prepare_openssl();
  ERR_clear_error();
  const KeyPointer key(EVP_PKEY_Q_keygen(own_library(), nullptr, "ED25519"));
  const X509Pointer certificate(X509_new_ex(own_library(), nullptr));
  if (!key || !certificate) return openssl_error("no key could be made");
  X509* x = certificate.get();
  X509_NAME* name = X509_get_subject_name(x);
  const auto* common = reinterpret_cast<const unsigned char*>("outboard");
  // Valid always: it is known by its key, and taken back by taking it out of use.
  const bool is_made =
      X509_set_version(x, X509_VERSION_3) == 1 &&
      ASN1_INTEGER_set(X509_get_serialNumber(x), 1) == 1 &&
      ASN1_TIME_set_string_X509(X509_getm_notBefore(x), "20200101000000Z") == 1 &&
      ASN1_TIME_set_string_X509(X509_getm_notAfter(x), "99991231235959Z") == 1 &&
      X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, common, -1, -1, 0) == 1 &&
      X509_set_issuer_name(x, name) == 1 && X509_set_pubkey(x, key.get()) == 1 &&
      X509_sign(x, key.get(), nullptr) > 0;
  const BioPointer certificate_text(BIO_new(BIO_s_mem())), key_text(BIO_new(BIO_s_mem()));
  if (!is_made || PEM_write_bio_X509(certificate_text.get(), x) != 1 ||
      PEM_write_bio_PKCS8PrivateKey(key_text.get(), key.get(), nullptr, nullptr, 0, nullptr,
                                    nullptr) != 1)
    return openssl_error("no identity could be made");
  return TlsIdentity{text_of(certificate_text.get()), text_of(key_text.get())};
}

}  // namespace outboard::wire
