// SPDX-License-Identifier: Apache-2.0
#include "intercept/onnxruntime/runtime.h"

#include <link.h>
#include <pthread.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "base/log.h"

namespace outboard::intercept::onnxruntime {
namespace {

std::mutex runtimes_mutex;
Runtime* runtimes[kMaxRuntimes] = {};
int runtime_count = 0;

// Bytes that can be read from `address` on, up to the end of the loaded segment that holds it.
std::size_t readable_bytes(const void* address) {
  struct Search {
    std::uintptr_t address;
    std::size_t bytes = 0;
  } search{reinterpret_cast<std::uintptr_t>(address)};
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* data) {
        auto& s = *static_cast<Search*>(data);
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& segment = info->dlpi_phdr[i];
          const std::uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
          const std::uintptr_t end = begin + segment.p_memsz;
          if (segment.p_type == PT_LOAD && s.address >= begin && s.address < end) {
            s.bytes = end - s.address;
            return 1;
          }
        }
        return 0;
      },
      &search);
  return search.bytes;
}

}  // namespace

Runtime* runtime_of(const OrtApiBase* base) {
  // fork() waits for whoever is in here, so that the child finds the list free.
  [[maybe_unused]] static const int handlers =
      pthread_atfork([] { runtimes_mutex.lock(); }, [] { runtimes_mutex.unlock(); },
                     [] { runtimes_mutex.unlock(); });
  const std::lock_guard lock(runtimes_mutex);
  for (int i = 0; i < runtime_count; ++i) {
    if (runtimes[i]->base == base) return runtimes[i];
  }
  const char* version = base->GetVersionString();
  const char* minor = std::strchr(version, '.');
  const auto api_version =
      static_cast<std::uint32_t>(minor == nullptr ? 0 : std::strtoul(minor + 1, nullptr, 10));
  if (api_version < kMinimumApi || runtime_count == kMaxRuntimes) {
    static std::once_flag once;
    std::call_once(once, [&] {
      log_warn("ONNX Runtime {} in this process is left alone: {}", version,
               api_version < kMinimumApi ? "it is older than 1.16" : "there are too many copies");
    });
    return nullptr;
  }
  const OrtApi* api = base->GetApi(std::min<std::uint32_t>(api_version, ORT_API_VERSION));
  if (api == nullptr) return nullptr;
  auto* runtime = new Runtime;
  runtime->index = runtime_count;
  runtime->version = version;
  runtime->api_version = api_version;
  runtime->base = base;
  std::memcpy(static_cast<void*>(&runtime->ort), api,
              std::min(sizeof(OrtApi), readable_bytes(api)));
  runtimes[runtime_count++] = runtime;
  return runtime;
}

Error to_error(const Runtime& runtime, OrtStatus* status) {
  Error error{ErrorKind::kEngine, runtime.ort.GetErrorMessage(status),
              static_cast<std::int32_t>(runtime.ort.GetErrorCode(status))};
  runtime.ort.ReleaseStatus(status);
  return error;
}

OrtStatus* to_status(const Runtime& runtime, const Error& error) {
  const auto code =
      error.native_code <= 0 ? ORT_FAIL : static_cast<OrtErrorCode>(error.native_code);
  return runtime.ort.CreateStatus(code, error.message.c_str());
}

}  // namespace outboard::intercept::onnxruntime
