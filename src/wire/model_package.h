// SPDX-License-Identifier: Apache-2.0
// A model as a client holds it: its manifest and a way to read its files again, the same bytes,
// later.
//
// Files are kept as open descriptors, so that a model that is renamed or unlinked meanwhile can
// still be uploaded or opened; one that is rewritten in place is noticed by its hash. Bytes are
// kept by the caller's choice of spool. Thread-safe once made.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "wire/messages.h"

namespace outboard::wire {

// Where the bytes of a model that a program passed from memory are kept for later.
enum class Spool : std::uint8_t {
  kDisk,    // an unlinked file of mode 0600 in the temporary directory
  kMemory,  // a memory file (memfd)
  kNone,  // not at all: the package borrows the bytes until forget_bytes(), for an upload meanwhile
};

class ModelPackage {
 public:
  virtual ~ModelPackage() = default;

  // From a file. External data is found by reading the model's tensors (.onnx) and looked for
  // beside it, as ONNX says. Hashes are cached by device, inode, size, mtime and ctime for the life
  // of the process. kNotFound: a file is not there; kInvalid: external data outside the model's
  // folder.
  static Result<std::shared_ptr<const ModelPackage>> from_path(const std::string& path);
  // From memory; the bytes are copied to the spool. External data is looked for in `folder` when
  // given.
  static Result<std::shared_ptr<const ModelPackage>> from_bytes(std::span<const std::byte> model,
                                                                Spool spool,
                                                                const std::string& folder = {});

  virtual const ModelManifest& manifest() const = 0;
  const Sha256& id() const { return id_; }
  std::uint64_t total_bytes() const;

  // Bytes of file `index` from `offset`; fewer only at its end. kInvalid when the spool is kNone.
  virtual Result<std::size_t> read_at(std::size_t index, std::uint64_t offset,
                                      std::span<std::byte> out) const = 0;

  // A path under which the first file's bytes can be opened now ("/proc/self/fd/N" or the path
  // itself when it is unchanged), after every file's hash was checked again. kInvalid: the content
  // has changed.
  virtual Result<std::string> path_for_local_open() const = 0;
  virtual bool can_open_locally() const = 0;

  // Ends the loan of Spool::kNone: the caller's bytes are about to go. Nothing to do for the
  // others.
  virtual void forget_bytes() const = 0;

 protected:
  Sha256 id_;
};

// The relative paths of external data that an ONNX model's bytes name, each once, in order of
// appearance. Bytes that are no ONNX model (an .ort file, garbage) name none. Never fails on
// hostile bytes.
std::vector<std::string> external_data_locations(std::span<const std::byte> model);

// A file name as a manifest may carry: relative, no empty part, no "." or "..", no backslash or
// NUL.
bool is_safe_relative_path(std::string_view name);

}  // namespace outboard::wire
