// SPDX-License-Identifier: Apache-2.0
// What the shared library exports for programs in C and what is built on the C API: OrtGetApiBase()
// stands before the library's own when it is preloaded, and dlsym() catches programs that load the
// library themselves. Neither changes what it returns: the real functions, their table patched.
#include <dlfcn.h>
#include <link.h>
#include <onnxruntime_c_api.h>

#include <string>
#include <vector>

#include "intercept/onnxruntime/hooks.h"
#include "intercept/onnxruntime/provider_hooks.h"
#include "intercept/onnxruntime/providers.h"

extern "C" {
OrtStatus* OrtSessionOptionsAppendExecutionProvider_CUDA(OrtSessionOptions* options,
                                                         int device) noexcept;
OrtStatus* OrtSessionOptionsAppendExecutionProvider_Tensorrt(OrtSessionOptions* options,
                                                             int device) noexcept;
}

namespace outboard::intercept::onnxruntime {
namespace {

using GetApiBase = const OrtApiBase* (*)();
using Dlsym = void* (*)(void*, const char*) noexcept;
constexpr const char* kEntryPoint = "OrtGetApiBase";

// glibc gave dlsym a new version when it moved from libdl into libc.
__attribute__((noinline)) Dlsym find_real_dlsym() noexcept {
  for (const char* version : {"GLIBC_2.34", "GLIBC_2.2.5", "GLIBC_2.17"}) {
    if (void* found = ::dlvsym(RTLD_NEXT, "dlsym", version)) {
      return reinterpret_cast<Dlsym>(found);
    }
  }
  return nullptr;
}

Dlsym real_dlsym_pointer = nullptr;

// Patches the table behind a real entry point.
void intercept(GetApiBase real) {
  const OrtApiBase* base = real();
  if (base == nullptr) return;
  if (Runtime* runtime = runtime_of(base)) install_hooks(*runtime);
}

bool is_ours(const void* address) {
  Dl_info target{}, self{};
  return ::dladdr(address, &target) != 0 &&
         ::dladdr(reinterpret_cast<const void*>(&find_real_dlsym), &self) != 0 &&
         target.dli_fbase == self.dli_fbase;
}

// The entry point as the named object sees it, itself or in what it was linked with; nullptr: none
// but ours. `path` as the loader knows it; also when it was loaded with RTLD_LOCAL.
void* entry_point_of(const char* path) {
  void* handle = ::dlopen(path, RTLD_NOLOAD | RTLD_LAZY);
  if (handle == nullptr) return nullptr;
  void* found = real_dlsym_pointer(handle, kEntryPoint);
  ::dlclose(handle);
  return found == nullptr || is_ours(found) ? nullptr : found;
}

// What the caller would have got without us: the entry point in its own object's scope, else any
// that is loaded.
GetApiBase real_entry_point(const void* caller) {
  Dl_info object{};
  void* found = nullptr;
  if (::dladdr(caller, &object) != 0 && object.dli_fname != nullptr) {
    found = entry_point_of(object.dli_fname);
  }
  if (found != nullptr) return reinterpret_cast<GetApiBase>(found);
  // The names first: the loader's lock is held while it lists them.
  std::vector<std::string> paths;
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* list) {
        if (info->dlpi_name != nullptr && *info->dlpi_name != '\0') {
          static_cast<std::vector<std::string>*>(list)->emplace_back(info->dlpi_name);
        }
        return 0;
      },
      &paths);
  // Those that are called like the library first.
  for (const bool likely : {true, false}) {
    for (auto path = paths.begin(); found == nullptr && path != paths.end(); ++path) {
      if ((path->find("onnxruntime") != std::string::npos) == likely) {
        found = entry_point_of(path->c_str());
      }
    }
  }
  return reinterpret_cast<GetApiBase>(found);
}

// Functions that a library has only when it was built with the provider.
constexpr const char* kAppendCuda = "OrtSessionOptionsAppendExecutionProvider_CUDA";
constexpr const char* kAppendTensorRt = "OrtSessionOptionsAppendExecutionProvider_Tensorrt";
using AppendLegacy = OrtStatus* (*)(OrtSessionOptions*, int);

// The library's own where it has one and that works here, else the server's provider.
OrtStatus* append_legacy(const void* caller, const char* function, const char* provider,
                         OrtSessionOptions* options, int device) {
  if (real_dlsym_pointer == nullptr) real_dlsym_pointer = find_real_dlsym();
  const GetApiBase entry = real_entry_point(caller);
  Runtime* runtime = entry == nullptr ? nullptr : runtime_of(entry());
  Dl_info library{};
  AppendLegacy own = nullptr;
  if (entry != nullptr && ::dladdr(reinterpret_cast<const void*>(entry), &library) != 0) {
    if (void* handle = ::dlopen(library.dli_fname, RTLD_NOLOAD | RTLD_LAZY)) {
      void* found = real_dlsym_pointer(handle, function);
      if (found != nullptr && !is_ours(found)) own = reinterpret_cast<AppendLegacy>(found);
      ::dlclose(handle);
    }
  }
  if (own == nullptr && runtime == nullptr) {
    return entry == nullptr ? nullptr
                            : entry()->GetApi(1)->CreateStatus(
                                  ORT_FAIL, "this library has no such execution provider");
  }
  if (runtime == nullptr) return own(options, device);
  return append_legacy_provider(*runtime, options, provider, device,
                                own == nullptr ? nullptr : own(options, device), own != nullptr);
}

bool is_an_entry_point(const char* name) noexcept {
  return __builtin_strcmp(name, kEntryPoint) == 0 || __builtin_strcmp(name, kAppendCuda) == 0 ||
         __builtin_strcmp(name, kAppendTensorRt) == 0;
}

// Off the fast path, so that dlsym() itself stays a jump.
__attribute__((noinline)) void* entry_point_by_name(void* handle, const char* name) noexcept {
  void* found = real_dlsym_pointer(handle, name);
  if (__builtin_strcmp(name, kEntryPoint) == 0) {
    if (found != nullptr && !is_ours(found)) intercept(reinterpret_cast<GetApiBase>(found));
    return found;
  }
  // A library without the provider: ours answers for it.
  if (found != nullptr || real_dlsym_pointer(handle, kEntryPoint) == nullptr) return found;
  const bool cuda = __builtin_strcmp(name, kAppendCuda) == 0;
  return reinterpret_cast<void*>(cuda ? &OrtSessionOptionsAppendExecutionProvider_CUDA
                                      : &OrtSessionOptionsAppendExecutionProvider_Tensorrt);
}

}  // namespace
}  // namespace outboard::intercept::onnxruntime

namespace ours = outboard::intercept::onnxruntime;

extern "C" {

__attribute__((visibility("default"))) const OrtApiBase* OrtGetApiBase() noexcept {
  if (ours::real_dlsym_pointer == nullptr) ours::real_dlsym_pointer = ours::find_real_dlsym();
  const ours::GetApiBase real = ours::real_entry_point(__builtin_return_address(0));
  if (real == nullptr) return nullptr;
  ours::intercept(real);
  return real();
}

// A tail call, so that RTLD_NEXT counts from our caller and not from us. The library is built with
// -O2 at least (CMakeLists.txt), and a test looks at what a second preloaded library gets.
__attribute__((visibility("default"))) void* dlsym(void* handle, const char* name) noexcept {
  if (ours::real_dlsym_pointer == nullptr) ours::real_dlsym_pointer = ours::find_real_dlsym();
  if (handle != RTLD_NEXT && __builtin_strncmp(name, "Ort", 3) == 0 &&
      ours::is_an_entry_point(name)) {
    return ours::entry_point_by_name(handle, name);
  }
  return ours::real_dlsym_pointer(handle, name);
}

__attribute__((visibility("default"))) OrtStatus* OrtSessionOptionsAppendExecutionProvider_CUDA(
    OrtSessionOptions* options, int device) noexcept {
  return ours::append_legacy(__builtin_return_address(0), ours::kAppendCuda, ours::kCudaProvider,
                             options, device);
}

__attribute__((visibility("default"))) OrtStatus* OrtSessionOptionsAppendExecutionProvider_Tensorrt(
    OrtSessionOptions* options, int device) noexcept {
  return ours::append_legacy(__builtin_return_address(0), ours::kAppendTensorRt,
                             ours::kTensorRtProvider, options, device);
}

}  // extern "C"
