// SPDX-License-Identifier: Apache-2.0
// An inference engine: opens models and runs them on one device. ONNX Runtime is the one that is
// there (onnxruntime/engine.h); tests bring their own.
//
//   OB_TRY(auto engine, load_onnxruntime({.library = path, .device = "cpu"}));
//   OB_TRY(auto session, engine->open("model.onnx", {}));
//   OB_TRY(auto outputs, session->run(inputs, wanted));     // outputs->values()[0].data
//
// Thread-safety: every method from any thread; any number of Runs of one session at once.
// Lifetime: sessions, outputs and run controls may outlive the Engine object (the library stays
// loaded for the life of the process). Outputs outlive neither their preallocated buffers nor,
// where a model passes an input through, the inputs.
// Errors: kEngine with the engine's own code in native_code; kNotFound, kInvalid and kUnimplemented
// for what is known before the engine is asked; kCancelled for a Run that was terminated;
// kOverloaded when memory is short.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace outboard::engine {

// The numbers of ONNX TensorProto.DataType. kUndefined: not a tensor, or of a type not known here.
enum class ElementType : std::uint8_t {
  kUndefined = 0,
  kFloat = 1,
  kUint8 = 2,
  kInt8 = 3,
  kUint16 = 4,
  kInt16 = 5,
  kInt32 = 6,
  kInt64 = 7,
  kString = 8,
  kBool = 9,
  kFloat16 = 10,
  kDouble = 11,
  kUint32 = 12,
  kUint64 = 13,
  kComplex64 = 14,
  kComplex128 = 15,
  kBfloat16 = 16,
  kFloat8E4M3FN = 17,
  kFloat8E4M3FNUZ = 18,
  kFloat8E5M2 = 19,
  kFloat8E5M2FNUZ = 20,
  kUint4 = 21,
  kInt4 = 22,
};

struct ValueInfo {
  std::string name;
  std::string kind;  // "tensor", "sequence", "map", "optional", "sparse tensor", "opaque"
  ElementType type = ElementType::kUndefined;
  bool has_shape = false;              // false: a scalar, or even the rank is unknown
  std::vector<std::int64_t> dims;      // -1: unknown or symbolic
  std::vector<std::string> dim_names;  // as many as dims; "" where there is none
};

// A session's signature and metadata as the engine reports them.
struct ModelInfo {
  std::vector<ValueInfo> inputs, outputs;
  std::vector<std::string> overridable_initializers;  // names
  std::string producer, graph_name, graph_description, domain, description;
  std::int64_t version = 0;
  std::map<std::string, std::string> custom_metadata;
};

struct Provider {
  std::string name;  // "CUDAExecutionProvider"
  std::map<std::string, std::string> options;
};

// A file of external data by the name that the model uses.
struct ExternalFile {
  std::string name;
  std::span<const std::byte> bytes;
};

// A tensor that the model names as external data, of whatever file that is there, in memory of the
// caller's. A session reads it in place, so those that are given the same memory have it once.
struct SharedTensor {
  std::string name;
  ElementType type = ElementType::kUndefined;
  std::vector<std::int64_t> dims;
  std::span<const std::byte> bytes;
};

struct OpenOptions {
  std::uint32_t graph_optimization_level = 99;  // 0, 1, 2, 3 or 99 (all)
  bool parallel_execution = false;
  std::map<std::string, std::int64_t> free_dimensions_by_name{}, free_dimensions_by_denotation{};
  std::map<std::string, std::string> config_entries{};
  // Those of available_providers() are taken, in this order; others are passed over. A CUDA device
  // computes with CUDAExecutionProvider whether it is named or not.
  std::vector<Provider> providers{};
  // Threads of this session alone; 0: the engine's shared pool where it has one, else its choice.
  int intra_op_threads = 0;
  // Of a model that comes as bytes; borrowed until its session has ended.
  std::vector<ExternalFile> external_files{};
  // Likewise, of an engine that takes them.
  std::vector<SharedTensor> shared_tensors{};
};

// An input, borrowed for the call: `data`, or `strings` for kString. The engine reads `data` in
// place.
struct InputView {
  ElementType type = ElementType::kUndefined;
  std::span<const std::int64_t> dims{};
  std::span<const std::byte> data{};
  std::span<const std::string_view> strings{};
};

// Memory of the caller's for an output whose shape is known beforehand; a shape that turns out to
// be another is the engine's error.
struct OutputBuffer {
  ElementType type = ElementType::kUndefined;
  std::span<const std::int64_t> dims{};
  std::span<std::byte> data{};
};

struct OutputWanted {
  std::uint32_t index = 0;               // into ModelInfo::outputs
  const OutputBuffer* buffer = nullptr;  // nullptr: the engine allocates
};

// One output's value in host memory; holds as long as its RunOutputs.
struct OutputView {
  ElementType type = ElementType::kUndefined;
  std::vector<std::int64_t> dims{};
  std::span<const std::byte> data{};        // empty for kString
  std::vector<std::string_view> strings{};  // kString
};

class RunOutputs {
 public:
  virtual ~RunOutputs() = default;
  const std::vector<OutputView>& values() const { return values_; }  // in the order wanted
  // What the engine itself took where it is in another process; 0: it is not.
  std::uint64_t engine_ns() const { return engine_ns_; }

 protected:
  std::vector<OutputView> values_;
  std::uint64_t engine_ns_ = 0;
};

// Ends Runs from another thread. One control serves one Run at a time and may be used again.
class RunControl {
 public:
  virtual ~RunControl() = default;
  virtual void terminate() = 0;  // the Run that holds it, or the next one, fails with kCancelled
  virtual void reset() = 0;      // before the next Run
  std::uint64_t request_id = 0;  // what logs call the Run, set before it; 0: nothing
};

class Session {
 public:
  virtual ~Session() = default;
  virtual const ModelInfo& info() const = 0;
  // `inputs`: one for each of info().inputs, in its order. `control` may be null.
  virtual Result<std::unique_ptr<RunOutputs>> run(std::span<const InputView> inputs,
                                                  std::span<const OutputWanted> outputs,
                                                  RunControl* control = nullptr) = 0;
};

class Engine {
 public:
  virtual ~Engine() = default;
  virtual std::string name() const = 0;     // "onnxruntime"
  virtual std::string version() const = 0;  // "1.31.1"
  virtual std::string device() const = 0;   // "cpu", "cuda:0"
  // The providers that OpenOptions may name on this device, the most capable first.
  virtual std::vector<std::string> available_providers() const = 0;
  virtual Result<std::shared_ptr<Session>> open(const std::string& path,
                                                const OpenOptions& options) = 0;
  // The same from bytes; external data is taken from OpenOptions::external_files alone.
  virtual Result<std::shared_ptr<Session>> open_bytes(std::span<const std::byte> model,
                                                      const OpenOptions& options) = 0;
  virtual std::unique_ptr<RunControl> make_run_control() = 0;
  // Whether sessions that are opened from bytes read OpenOptions::shared_tensors; else they are
  // passed over.
  virtual bool takes_shared_tensors() const { return false; }
};

}  // namespace outboard::engine
