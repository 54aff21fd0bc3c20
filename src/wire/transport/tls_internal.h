// SPDX-License-Identifier: Apache-2.0
// OpenSSL's handles as owners; shared by tls.cc and tls_context.cc alone.
#pragma once

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <memory>

#include "wire/transport/tls.h"

namespace outboard::wire {

template <auto free_function>
struct FreedBy {
  template <typename T>
  void operator()(T* handle) const {
    free_function(handle);
  }
};
using BioPointer = std::unique_ptr<BIO, FreedBy<BIO_free>>;
using KeyPointer = std::unique_ptr<EVP_PKEY, FreedBy<EVP_PKEY_free>>;
using X509Pointer = std::unique_ptr<X509, FreedBy<X509_free>>;
using ContextPointer = std::unique_ptr<SSL_CTX, FreedBy<SSL_CTX_free>>;
using SslPointer = std::unique_ptr<SSL, FreedBy<SSL_free>>;

struct TlsContext::Handles {
  ContextPointer context;
};

Sha256 fingerprint_of(X509* certificate);
// OpenSSL's callback: whether the peer's certificate has the key that its TlsSession's context
// names.
int verify_pinned_identity(X509_STORE_CTX* store, void*);

}  // namespace outboard::wire
