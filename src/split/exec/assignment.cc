// SPDX-License-Identifier: Apache-2.0
#include "split/exec/assignment.h"

#include <algorithm>
#include <cmath>

#include "base/cursor.h"
#include "base/limits.h"

namespace outboard::split::exec {
namespace {

constexpr std::size_t kMostParticipants = 64;
constexpr std::size_t kMostBlocks = 65536;
constexpr std::size_t kMostInputs = 256;
constexpr int kMostPieces = 64;
constexpr int kMostRows = 1 << 24;
constexpr int kMostContexts = 16;
constexpr int kMostBlockChannels = 64;

std::size_t at(int i) { return static_cast<std::size_t>(i); }

void write_text(ByteWriter& out, const std::string& text) {
  out.write(static_cast<std::uint32_t>(text.size()));
  out.append(as_byte_span(text));
}

std::string read_text(ByteReader& in) {
  const auto size = in.read<std::uint32_t>();
  const auto bytes = in.take(std::min<std::size_t>(size, limits::kNameBytes + 1));
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void write_int(ByteWriter& out, int value) { out.write(static_cast<std::int32_t>(value)); }
int read_int(ByteReader& in) { return in.read<std::int32_t>(); }

std::string text_of(const ByteWriter& out) {
  return {reinterpret_cast<const char*>(out.bytes().data()), out.size()};
}

void write_id(ByteWriter& out, const PlanId& id) {
  for (auto word : id) out.write(word);
}
PlanId read_id(ByteReader& in) {
  PlanId id{};
  for (auto& word : id) word = in.read<std::uint64_t>();
  return id;
}

void write(ByteWriter& out, const Program& program) {
  write_int(out, program.size());
  out.write(static_cast<std::uint8_t>(program.boundary_first));
  write_int(out, program.scatter_parts);
  write_int(out, static_cast<int>(program.blocks.size()));
  for (const Block& b : program.blocks) {
    write_int(out, b.first_unit);
    write_int(out, b.end_unit);
    write_int(out, b.rows);
    write_int(out, b.interior_pieces);
    out.write(static_cast<std::uint8_t>(b.via_host));
    for (int cut : b.cuts) write_int(out, cut);
  }
}

Result<Program> read_program(ByteReader& in) {
  Program p;
  const int n = read_int(in);
  p.boundary_first = in.read<std::uint8_t>() != 0;
  p.scatter_parts = read_int(in);
  const int blocks = read_int(in);
  if (!in.ok() || n < 1 || at(n) > kMostParticipants || p.scatter_parts < 1 ||
      p.scatter_parts > kMostPieces || blocks < 1 || at(blocks) > kMostBlocks)
    return error(ErrorKind::kInvalid,
                 "a program of {} participants, {} blocks and {} scattered parts is none", n,
                 blocks, p.scatter_parts);
  for (int i = 0; i < n; ++i) p.participants.push_back(i);
  for (int i = 0; i < blocks && in.ok(); ++i) {
    Block b{read_int(in), read_int(in), read_int(in), {}, read_int(in), false};
    b.via_host = in.read<std::uint8_t>() != 0;
    for (int c = 0; c <= n; ++c) b.cuts.push_back(read_int(in));
    p.blocks.push_back(std::move(b));
  }
  return p;
}

std::uint64_t mix(std::uint64_t h, std::uint64_t v) {  // FNV-1a over 64-bit words
  return (h ^ v) * 0x100000001b3;
}

}  // namespace

std::string encode(const Assignment& a) {
  ByteWriter out;
  write_id(out, a.id);
  out.append(a.model.bytes);
  write_int(out, a.participant);
  write_int(out, a.host);
  write_int(out, a.contexts);
  out.write(static_cast<std::uint64_t>(std::llround(a.pace * 1e6)));
  write_int(out, a.block_channels);
  write_text(out, a.engine);
  out.write(a.layout);
  write_int(out, static_cast<int>(a.input_shapes.size()));
  for (const auto& [name, shape] : a.input_shapes) {
    write_text(out, name);
    write_int(out, static_cast<int>(shape.size()));
    for (auto d : shape) out.write(d);
  }
  write(out, a.program);
  for (const auto& m : a.members) write_text(out, m);
  return text_of(out);
}

Result<Assignment> decode_assignment(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  Assignment a;
  a.id = read_id(in);
  if (const auto hash = in.take(a.model.bytes.size()); in.ok())
    std::copy(hash.begin(), hash.end(), a.model.bytes.begin());
  a.participant = read_int(in);
  a.host = read_int(in);
  a.contexts = read_int(in);
  a.pace = static_cast<double>(in.read<std::uint64_t>()) / 1e6;
  a.block_channels = read_int(in);
  a.engine = read_text(in);
  a.layout = in.read<std::uint64_t>();
  const int inputs = read_int(in);
  if (!in.ok() || inputs < 0 || at(inputs) > kMostInputs)
    return error(ErrorKind::kInvalid, "an assignment of ({}) inputs is none", inputs);
  for (int i = 0; i < inputs && in.ok(); ++i) {
    std::string name = read_text(in);
    const int rank = read_int(in);
    if (rank < 0 || at(rank) > limits::kRank)
      return error(ErrorKind::kInvalid, "the rank ({}) of an input must be at most {}", rank,
                   limits::kRank);
    Shape shape;
    for (int d = 0; d < rank; ++d) shape.push_back(in.read<std::int64_t>());
    if (std::any_of(shape.begin(), shape.end(), [](auto d) { return d < 1 || d > kMostRows; }))
      return error(ErrorKind::kInvalid, "the shape of the input ({}) is not whole", name);
    std::uint64_t elements = 1;
    for (auto d : shape)
      if (__builtin_mul_overflow(elements, static_cast<std::uint64_t>(d), &elements) ||
          elements > limits::kTensorBytes)
        return error(ErrorKind::kInvalid, "the input ({}) has more elements than any tensor may",
                     name);
    a.input_shapes.insert_or_assign(std::move(name), std::move(shape));
  }
  OB_TRY(a.program, read_program(in));
  for (int i = 0; i < a.program.size() && in.ok(); ++i) a.members.push_back(read_text(in));
  if (!in.ok() || in.remaining() != 0)
    return error(ErrorKind::kInvalid, "the assignment ({} bytes) is cut off or too long",
                 bytes.size());
  const int n = a.program.size();
  if (a.participant < 0 || a.participant >= n || a.host < 0 || a.host >= n || a.contexts < 1 ||
      a.contexts > kMostContexts || !(a.pace >= 0 && a.pace <= 16) || a.block_channels < 0 ||
      a.block_channels > kMostBlockChannels)
    return error(ErrorKind::kInvalid,
                 "the participant ({}), the host ({}), the contexts ({}), the pace ({}) and the "
                 "channels of a block ({}) do not fit {} participants",
                 a.participant, a.host, a.contexts, a.pace, a.block_channels, n);
  return a;
}

std::string encode(const PlanId& id) {
  ByteWriter out;
  write_id(out, id);
  return text_of(out);
}

Result<PlanId> decode_plan_id(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  const PlanId id = read_id(in);
  if (!in.ok() || in.remaining() != 0)
    return error(ErrorKind::kInvalid, "the name of a plan ({} bytes) must have 16", bytes.size());
  return id;
}

std::string encode(const Join& join) {
  ByteWriter out;
  write_id(out, join.id);
  write_int(out, join.from);
  return text_of(out);
}

Result<Join> decode_join(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  Join join;
  join.id = read_id(in);
  join.from = read_int(in);
  if (!in.ok() || in.remaining() != 0 || join.from < 0 || at(join.from) >= kMostParticipants)
    return error(ErrorKind::kInvalid, "the request to join ({} bytes) is none", bytes.size());
  return join;
}

std::string encode(const Ready& ready) {
  ByteWriter out;
  out.write(static_cast<std::uint64_t>(std::llround(ready.build_ms * 1e3)));
  out.write(ready.memory_bytes);
  return text_of(out);
}

Result<Ready> decode_ready(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  Ready ready;
  ready.build_ms = static_cast<double>(in.read<std::uint64_t>()) / 1e3;
  ready.memory_bytes = in.read<std::uint64_t>();
  if (!in.ok()) return error(ErrorKind::kInvalid, "the reply ({} bytes) is cut off", bytes.size());
  return ready;
}

Result<void> check_program(const Graph& graph, const Program& program) {
  const int units = static_cast<int>(graph.units.size());
  int next = 0;
  for (const Block& b : program.blocks) {
    const bool order = b.first_unit == next && b.end_unit > b.first_unit && b.end_unit <= units;
    if (!order || b.rows != unit_rows(graph, b.end_unit - 1) || b.interior_pieces < 0 ||
        b.interior_pieces > kMostPieces ||
        b.cuts.size() != static_cast<std::size_t>(program.size()) + 1 || b.cuts.front() != 0 ||
        b.cuts.back() != b.rows || !std::is_sorted(b.cuts.begin(), b.cuts.end()))
      return error(ErrorKind::kInvalid,
                   "the block of units [{}, {}) with {} rows in {} cuts does not fit the model",
                   b.first_unit, b.end_unit, b.rows, b.cuts.size());
    for (int u = b.first_unit + 1; u < b.end_unit; ++u)
      if (graph.units[at(u)].hard_border && program.size() > 1) {
        // What one participant does alone may pass a hard border.
        const auto alone = std::count_if(b.cuts.begin(), b.cuts.end(),
                                         [&](int c) { return c != 0 && c != b.rows; });
        if (alone > 0) return error(ErrorKind::kInvalid, "unit ({}) must begin a block", u);
      }
    next = b.end_unit;
  }
  if (next != units)
    return error(ErrorKind::kInvalid, "the program ends with unit ({}) of {}", next, units);
  return {};
}

std::uint64_t fingerprint(const Graph& graph, const Layout& layout) {
  std::uint64_t h = 0xcbf29ce484222325;
  const auto rows = [&](const std::vector<TensorRows>& all) {
    h = mix(h, all.size());
    for (const auto& r : all) {
      h = mix(h, static_cast<std::uint64_t>(r.tensor));
      h = mix(h, static_cast<std::uint64_t>(r.rows.lo));
      h = mix(h, static_cast<std::uint64_t>(r.rows.hi));
    }
  };
  for (const auto& t : graph.tensors)
    for (auto d : t.shape) h = mix(h, static_cast<std::uint64_t>(d));
  for (const auto& p : layout.pieces) {
    h = mix(h, static_cast<std::uint64_t>(p.participant));
    rows(p.wanted);
    rows(p.inputs);
  }
  for (const auto& m : layout.messages) {
    h = mix(h, static_cast<std::uint64_t>(m.from) * 64 + static_cast<std::uint64_t>(m.to));
    rows(m.parts);
  }
  return h;
}

}  // namespace outboard::split::exec
