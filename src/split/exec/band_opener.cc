// SPDX-License-Identifier: Apache-2.0
#include "split/exec/band_opener.h"

#include <fmt/ranges.h>
#include <malloc.h>
#include <onnx/onnx_pb.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "base/log.h"
#include "engine/forwarding.h"
#include "engine/optimiser.h"
#include "split/exec/blocked.h"
#include "split/exec/optimised.h"
#include "split/graph/constants.h"

namespace outboard::split::exec {
namespace {

using SessionResult = Result<std::shared_ptr<engine::Session>>;

// Raised when what is kept changes its meaning or its form.
constexpr int kFormat = 3;

std::size_t at(int i) { return static_cast<std::size_t>(i); }

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

// What the engine's choice of kernels may depend on: the first processor's name and instructions.
std::string read_processor() {
  static const std::set<std::string_view> kTold = {
      "vendor_id",       "cpu family",       "model",       "model name", "flags", "Features",
      "CPU implementer", "CPU architecture", "CPU variant", "CPU part"};
  std::ifstream file("/proc/cpuinfo");
  std::string text;
  for (std::string line; std::getline(file, line) && !line.empty();)
    if (kTold.contains(std::string_view(line).substr(0, line.find_first_of("\t:"))))
      text += line + "\n";
  return text;
}

// Another build may write other bands of the same model.
std::string read_program() {
  struct stat status{};
  if (::stat("/proc/self/exe", &status) != 0) return {};
  return fmt::format("{} {}.{}", status.st_size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
}

// How the graph is divided; it is built from the model, the inputs' shapes, and those that the
// engine has inferred.
std::string describe(const Graph& graph) {
  std::string text;
  for (const Tensor& t : graph.tensors)
    text +=
        fmt::format("{} {} {} {} {} {} {} {}\n", t.name, t.element_type, fmt::join(t.shape, ","),
                    static_cast<int>(t.kind), t.axis, t.outer, t.extent, t.rows);
  for (const Op& op : graph.ops)
    text += fmt::format("{} {} {} {} {}\n", op.name, static_cast<int>(op.kind),
                        static_cast<int>(op.phase), op.unit, fmt::join(op.outputs, ","));
  return text;
}

bool is_convolution(const Op& op) { return op.type.starts_with("Conv"); }

// Whether the engine's layout matters in these units; a band without convolutions it leaves as it
// is.
bool has_convolutions(const Graph& graph, const BandRequest& band) {
  return std::ranges::any_of(graph.ops_of(band.first_unit, band.end_unit), is_convolution);
}

// Whether packing weights for the engine's kernels is in vain (emit.h); a band with others is
// better off with it.
bool multiplies_single_rows(const Graph& graph, const BandRequest& band) {
  bool single = false, others = false;
  for (const Op& op : graph.ops_of(band.first_unit, band.end_unit)) {
    const bool one_row = multiplies_one_row(graph, op);
    single |= one_row;
    others |= is_convolution(op) || (is_linear(op) && !one_row);
  }
  return single && !others;
}

Result<onnx::ModelProto> parse(const BandModel& band) {
  onnx::ModelProto model;
  if (!model.ParseFromString(band.bytes))
    return error(ErrorKind::kInternal, "a band's model ({} bytes) is none", band.bytes.size());
  return model;
}

// The model with the weights that were left outside.
Result<std::string> with_weights(const BandModel& band) {
  OB_TRY(onnx::ModelProto model, parse(band));
  for (auto& tensor : *model.mutable_graph()->mutable_initializer())
    for (const WeightView& weight : band.weights) {
      if (weight.name != tensor.name()) continue;
      tensor.clear_external_data();
      tensor.clear_data_location();
      tensor.set_raw_data(weight.bytes.data(), weight.bytes.size());
    }
  return model.SerializeAsString();
}

// Keeps the weights and makes the model name them.
Result<StoredBand> without_weights(BandStore& store, onnx::ModelProto model,
                                   std::span<const WeightView> outside, bool optimised) {
  StoredBand band;
  band.optimised = optimised;
  for (auto& tensor : *model.mutable_graph()->mutable_initializer()) {
    std::span<const std::byte> weight = bytes_of(tensor.raw_data());
    for (const WeightView& view : outside)
      if (view.name == tensor.name()) weight = view.bytes;
    StoredTensor stored{tensor.name(), tensor.data_type(), {}, {}, nullptr};
    stored.dims.assign(tensor.dims().begin(), tensor.dims().end());
    const auto size = static_cast<std::uint64_t>(element_count(stored.dims)) *
                      static_cast<std::uint64_t>(element_size_bytes(stored.element_type));
    // What is small stays inside, and so does what an engine could not be told the size of.
    const bool odd = weight.size() != size;
    if (odd && tensor.data_location() == onnx::TensorProto::EXTERNAL)
      return error(ErrorKind::kUnimplemented, "the weight ({}) has {} bytes; expected {}",
                   stored.name, weight.size(), size);
    if (odd || weight.size() < kOutsideBytes) continue;
    OB_TRY(auto kept, store.keep(weight));
    set_external(tensor, BandStore::location(kept.hash), size);
    stored.hash = kept.hash;
    stored.weight = std::move(kept.file);
    band.tensors.push_back(std::move(stored));
  }
  band.model = model.SerializeAsString();
  return band;
}

}  // namespace

std::string band_context(const engine::Engine& engine, const Graph& graph,
                         const BandOptions& options) {
  static const std::string processor = read_processor(), program = read_program();
  return fmt::format("band {}\n{}\n{}{} {} {}\n{}\n{} {}\n{}", kFormat, program, processor,
                     engine.name(), engine.version(), engine.device(), options.model.hex(),
                     options.channels, options.threads, describe(graph));
}

BandOpener::BandOpener(engine::Engine& engine, const Graph& graph, BandOptions options)
    : engine_(engine),
      graph_(graph),
      options_(std::move(options)),
      blocked_(exec::in_blocks(graph, options_.channels)) {
  if (!options_.store || !engine_.takes_shared_tensors()) return;
  context_ = sha256(bytes_of(band_context(engine_, graph_, options_))).hex();
  keeps_ = true;
}

void BandOpener::tidy_up() const {
  if (has_emitted_.exchange(false)) ::malloc_trim(0);
  graph_.file->let_go();
}

SessionResult BandOpener::open(const BandRequest& band) const {
  if (!keeps_) return open_inside(band);
  BandStore& store = *options_.store;
  const Sha256 key = key_of(band);
  if (auto session = store.session(engine_, key)) return session;
  const auto open_kept = [&]() -> SessionResult {
    OB_TRY(const StoredBand stored, find_or_make(band, key));
    return open_stored(band, stored);
  };
  if (auto session = open_kept()) {
    store.lend(engine_, key, *session);
    return session;
  } else if (keeps_.exchange(false)) {  // nor would the next ones
    log_warn("split bands are not kept reason=\"{}\"", session.error().message);
  }
  return open_inside(band);
}

Result<StoredBand> BandOpener::find_or_make(const BandRequest& band, const Sha256& key) const {
  if (auto found = options_.store->find(key)) return *std::move(found);
  OB_TRY(auto made, make(band));
  if (const auto added = options_.store->add(key, made); !added)
    log_warn("split band not kept reason=\"{}\"", added.error().message);
  return made;
}

Result<BandModel> BandOpener::emit(const BandRequest& band, Weights weights) const {
  has_emitted_ = true;
  return emit_band(graph_, band.first_unit, band.end_unit, band.wanted, band.slots,
                   {.weights = weights, .shims = blocked_});
}

// Whether something enters, leaves or is sliced in blocks.
bool BandOpener::in_blocks(const BandModel& model) const {
  const auto blocked = [&](const BandPort& p) { return blocked_[at(p.rows.tensor)] != 0; };
  return options_.channels > 0 &&
         (std::any_of(model.inputs.begin(), model.inputs.end(), blocked) ||
          std::any_of(model.outputs.begin(), model.outputs.end(), blocked) ||
          !model.slices.empty());
}

// What the engine makes of a model with its weights, its shims taken out.
Result<onnx::ModelProto> BandOpener::optimise(const BandRequest& band,
                                              const BandModel& model) const {
  auto* const optimiser = dynamic_cast<engine::ModelOptimiser*>(&engine_);
  if (optimiser == nullptr)
    return error(ErrorKind::kUnimplemented, "the engine does not show its own layout");
  OB_TRY(const std::string optimised,
         optimiser->optimise(bytes_of(model.bytes), open_options(band)));
  if (!in_blocks(model)) return parse_optimised(optimised);
  return without_shims(graph_, model, blocked_, options_.channels, optimised);
}

engine::OpenOptions BandOpener::open_options(const BandRequest& band) const {
  engine::OpenOptions open;
  open.intra_op_threads = options_.threads;
  // One session computes after the other, as the layers of a whole model do: in memory that the
  // last one has just given back and that is still in the caches. Weights are kept apart from it.
  open.config_entries = {{"session.use_env_allocators", "1"},
                         {"session.use_device_allocator_for_initializers", "1"}};
  if (multiplies_single_rows(graph_, band)) open.config_entries["session.disable_prepacking"] = "1";
  return open;
}

SessionResult BandOpener::open_inside(const BandRequest& band) const {
  OB_TRY(auto model, emit(band, Weights::kInside));
  engine::OpenOptions open = open_options(band);
  if (in_blocks(model)) {
    OB_TRY(const onnx::ModelProto optimised, optimise(band, model));
    model.bytes = optimised.SerializeAsString();
    open.graph_optimization_level = 0;
  }
  return engine_.open_bytes(bytes_of(model.bytes), open);
}

// Only convolutions have other weights in the engine's layout: a band without them and without
// blocks is kept as it was emitted.
Result<StoredBand> BandOpener::make(const BandRequest& band) const {
  OB_TRY(auto model, emit(band, Weights::kOutside));
  if (!in_blocks(model) && !has_convolutions(graph_, band)) {
    OB_TRY(onnx::ModelProto emitted, parse(model));
    return without_weights(*options_.store, std::move(emitted), model.weights, false);
  }
  OB_TRY(model.bytes, with_weights(model));
  OB_TRY(onnx::ModelProto optimised, optimise(band, model));
  return without_weights(*options_.store, std::move(optimised), {}, true);
}

SessionResult BandOpener::open_stored(const BandRequest& request, const StoredBand& band) const {
  engine::OpenOptions open = open_options(request);
  if (band.optimised) open.graph_optimization_level = 0;
  open.config_entries["session.model_external_initializers_file_folder_path"] =
      options_.store->folder();
  const auto weights = std::make_shared<std::vector<std::shared_ptr<const MappedFile>>>();
  std::set<const MappedFile*> ours;  // that nobody else has
  for (const StoredTensor& t : band.tensors) {
    open.shared_tensors.push_back(
        {t.name, static_cast<engine::ElementType>(t.element_type), t.dims, t.weight->bytes()});
    if (t.weight.use_count() == 1) ours.insert(t.weight.get());
    weights->push_back(t.weight);
  }
  OB_TRY(auto session, engine_.open_bytes(bytes_of(band.model), open));
  // Hashing and, with matrices, the engine's own copies have read weights that Runs may never read.
  for (const MappedFile* weight : ours) weight->let_go();
  return std::make_shared<engine::KeepingSession>(weights, std::move(session));
}

Sha256 BandOpener::key_of(const BandRequest& band) const {
  std::string text = fmt::format("{}\n{} {}\n", context_, band.first_unit, band.end_unit);
  for (const TensorRows& w : band.wanted)
    text += fmt::format("{} {} {}\n", w.tensor, w.rows.lo, w.rows.hi);
  // Those that these units fill or read; of others, which are all of the plan's, nothing depends.
  const auto ops = graph_.ops_of(band.first_unit, band.end_unit);
  for (const SlotRows& s : band.slots) {
    const bool touched = std::ranges::any_of(ops, [&](const Op& op) {
      return std::find(op.outputs.begin(), op.outputs.end(), s.tensor) != op.outputs.end() ||
             std::any_of(op.inputs.begin(), op.inputs.end(),
                         [&](const Input& in) { return in.tensor == s.tensor; });
    });
    if (!touched) continue;
    text += fmt::format("slots {}", s.tensor);
    for (const Rows& r : s.slot_rows) text += fmt::format(" {} {}", r.lo, r.hi);
    text += "\n";
  }
  return sha256(bytes_of(text));
}

}  // namespace outboard::split::exec
