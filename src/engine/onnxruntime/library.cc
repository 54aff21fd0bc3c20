// SPDX-License-Identifier: Apache-2.0
#include "engine/onnxruntime/library.h"

#include <dlfcn.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "base/log.h"

namespace outboard::engine {
namespace {

namespace fs = std::filesystem;

void ORT_API_CALL log_message(void*, OrtLoggingLevel severity, const char* category, const char*,
                              const char* location, const char* message) {
  // What matters of the library's errors reaches the caller as a status; its log is for debugging.
  log(severity >= ORT_LOGGING_LEVEL_FATAL ? LogLevel::kError : LogLevel::kDebug,
      "onnxruntime: {} ({}, {})", message, category, location);
}

// "1.31.1" -> 31; nothing for what is no version 1.
std::optional<unsigned> minor_of(std::string_view version) {
  if (!version.starts_with("1.")) return std::nullopt;
  version.remove_prefix(2);
  unsigned minor = 0;
  const auto [end, code] = std::from_chars(version.data(), version.data() + version.size(), minor);
  if (code != std::errc{}) return std::nullopt;
  return minor;
}

// Version numbers of a file name, for comparing: "libonnxruntime.so.1.9.0" < "...1.31.1".
std::vector<unsigned> version_numbers(const std::string& name) {
  std::vector<unsigned> numbers;
  for (std::size_t i = 0; i < name.size();) {
    unsigned number = 0;
    const auto [end, code] = std::from_chars(name.data() + i, name.data() + name.size(), number);
    if (code == std::errc{}) {
      numbers.push_back(number);
      i = static_cast<std::size_t>(end - name.data());
    } else {
      ++i;
    }
  }
  return numbers;
}

// Folders below `parent` whose name starts with "python3".
std::vector<fs::path> python_folders(const fs::path& parent) {
  std::vector<fs::path> folders;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(parent, ignored))
    if (entry.path().filename().string().starts_with("python3")) folders.push_back(entry.path());
  std::sort(folders.rbegin(), folders.rend());
  return folders;
}

// The newest library of a wheel that is installed below `lib` (".../lib").
std::optional<std::string> wheel_library(const fs::path& lib) {
  std::error_code ignored;
  for (const fs::path& python : python_folders(lib)) {
    for (const char* packages : {"site-packages", "dist-packages"}) {
      std::vector<std::string> found;
      for (const auto& entry :
           fs::directory_iterator(python / packages / "onnxruntime" / "capi", ignored))
        if (entry.path().filename().string().starts_with("libonnxruntime.so"))
          found.push_back(entry.path().string());
      if (found.empty()) continue;
      return *std::max_element(found.begin(), found.end(), [](const auto& a, const auto& b) {
        return version_numbers(fs::path(a).filename()) < version_numbers(fs::path(b).filename());
      });
    }
  }
  return std::nullopt;
}

std::vector<fs::path> places() {
  std::vector<fs::path> places;
  const auto from_environment = [&](const char* name, const char* below) {
    if (const char* value = std::getenv(name); value != nullptr && *value != '\0')
      places.emplace_back(fs::path(value) / below);
  };
  from_environment("VIRTUAL_ENV", "lib");
  from_environment("CONDA_PREFIX", "lib");
  std::error_code ignored;
  fs::path folder = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  for (int up = 0; up < 4 && folder.has_relative_path(); ++up, folder = folder.parent_path())
    places.push_back(folder / "deps" / "venv" / "lib");
  from_environment("HOME", ".local/lib");
  places.emplace_back("/usr/local/lib");
  places.emplace_back("/usr/lib");
  return places;
}

std::string path_of(void* handle, const char* name) {
  Dl_info info{};
  void* symbol = dlsym(handle, "OrtGetApiBase");
  return symbol != nullptr && dladdr(symbol, &info) != 0 ? info.dli_fname : name;
}

}  // namespace

Result<std::string> find_onnxruntime_library() {
  std::string tried;
  for (const fs::path& place : places()) {
    if (auto found = wheel_library(place)) return *found;
    tried.append(tried.empty() ? "" : ", ").append(place.string());
  }
  for (const char* name : {"libonnxruntime.so.1", "libonnxruntime.so"}) {
    if (void* handle = dlopen(name, RTLD_NOW | RTLD_LOCAL)) return path_of(handle, name);
    tried.append(", ").append(name);
  }
  return error(ErrorKind::kNotFound,
               "no library of ONNX Runtime was found (looked for a wheel in and the linker's own: "
               "{}); install the PyPI package onnxruntime, or name the library with --ort-library "
               "or OUTBOARD_ORT_LIBRARY",
               tried);
}

// The library has no code of its own for it: memory that is short now may be there later, or
// elsewhere, so the request is not to blame.
static bool is_about_memory(std::string_view message) {
  for (const std::string_view sign : {"bad_alloc", "Failed to allocate memory", "out of memory",
                                      "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED"}) {
    if (message.find(sign) != std::string_view::npos) return true;
  }
  return false;
}

Result<void> Library::check(OrtStatus* status) const {
  if (status == nullptr) return {};
  const std::string message = api_->GetErrorMessage(status);
  Error error{is_about_memory(message) ? ErrorKind::kOverloaded : ErrorKind::kEngine, message,
              static_cast<std::int32_t>(api_->GetErrorCode(status))};
  api_->ReleaseStatus(status);
  return tl::make_unexpected(std::move(error));
}

Result<void> Library::open(const std::string& path) {
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr)
    return error(ErrorKind::kNotFound, "the library of ONNX Runtime ({}) cannot be loaded: {}",
                 path, dlerror());
  using GetApiBase = const OrtApiBase* (*)();
  const auto get_base = reinterpret_cast<GetApiBase>(dlsym(handle, "OrtGetApiBase"));
  if (get_base == nullptr)
    return error(ErrorKind::kInvalid,
                 "the library ({}) is not ONNX Runtime: it has no OrtGetApiBase", path);
  const OrtApiBase* base = get_base();
  version_ = base->GetVersionString();
  const auto minor = minor_of(version_);
  if (!minor || *minor < kOldestMinor)
    return error(ErrorKind::kInvalid,
                 "the library ({}) is ONNX Runtime {}; expected version 1.{} or a later 1.x", path,
                 version_, kOldestMinor);
  api_version_ = std::min<unsigned>(*minor, ORT_API_VERSION);
  api_ = base->GetApi(api_version_);
  if (api_ == nullptr)
    return error(ErrorKind::kInvalid, "the library ({}) does not offer its own API version ({})",
                 path, api_version_);
  path_ = path_of(handle, path.c_str());
  return {};
}

Result<void> Library::make_environment(const OnnxRuntimeOptions& options) {
  const OrtLoggingLevel level =
      log_level() >= LogLevel::kDebug ? ORT_LOGGING_LEVEL_WARNING : ORT_LOGGING_LEVEL_FATAL;
  if (options.shared_threads) {
    Owned<OrtThreadingOptions> threading(api_->ReleaseThreadingOptions);
    OB_CHECK_OK(check(api_->CreateThreadingOptions(threading.out())));
    OB_CHECK_OK(check(api_->SetGlobalIntraOpNumThreads(threading.get(), options.threads)));
    OB_CHECK_OK(check(api_->SetGlobalInterOpNumThreads(threading.get(), options.threads)));
    OB_CHECK_OK(check(api_->SetGlobalSpinControl(threading.get(), options.spin ? 1 : 0)));
    OB_CHECK_OK(check(api_->CreateEnvWithCustomLoggerAndGlobalThreadPools(
        log_message, nullptr, level, "outboard", threading.get(), &env_)));
  } else {
    OB_CHECK_OK(
        check(api_->CreateEnvWithCustomLogger(log_message, nullptr, level, "outboard", &env_)));
  }
  shared_threads_ = options.shared_threads;
  OB_CHECK_OK(check(api_->GetAllocatorWithDefaultOptions(&allocator_)));
  OB_CHECK_OK(check(api_->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &cpu_memory_)));
  // An arena for sessions that ask to share one ("session.use_env_allocators").
  Owned<OrtArenaCfg> defaults(api_->ReleaseArenaCfg);
  OB_CHECK_OK(check(api_->CreateArenaCfg(0, -1, -1, -1, defaults.out())));
  return check(api_->CreateAndRegisterAllocator(env_, cpu_memory_, defaults.get()));
}

Result<std::shared_ptr<const Library>> Library::load(const OnnxRuntimeOptions& options) {
  std::string path = options.library;
  if (const char* value = std::getenv("OUTBOARD_ORT_LIBRARY");
      path.empty() && value != nullptr && *value != '\0')
    path = value;
  if (path.empty()) {
    OB_TRY(path, find_onnxruntime_library());
  }
  // The library keeps one environment a process and frees it with its last holder; ours is kept,
  // so that sessions may outlive the engine that opened them.
  static std::mutex mutex;
  static std::map<std::string, std::shared_ptr<const Library>> loaded;
  const std::lock_guard lock(mutex);
  if (const auto found = loaded.find(path); found != loaded.end()) return found->second;
  const auto library = std::make_shared<Library>();
  OB_CHECK_OK(library->open(path));
  OB_CHECK_OK(library->make_environment(options));
  loaded.emplace(path, library);
  return std::shared_ptr<const Library>(library);
}

}  // namespace outboard::engine
