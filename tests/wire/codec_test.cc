// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "base/cursor.h"
#include "base/limits.h"
#include "wire/frame.h"
#include "wire/messages.h"

namespace outboard::wire {
namespace {

Bytes bytes_of(std::string_view text) { return as_byte_span(text); }

FrameHeader decoded(FrameHeader header) { return decode_frame_header(encode(header)).value(); }
std::string refusal(FrameHeader header) {
  return decode_frame_header(encode(header)).error().message;
}

TEST(Frame, HeaderComesBack) {
  const FrameHeader h =
      decoded({.kind = FrameKind::kRun, .request_id = 9, .length = 77, .deadline_us = 5});
  EXPECT_EQ(h.kind, FrameKind::kRun);
  EXPECT_EQ(h.request_id, 9u);
  EXPECT_EQ(h.length, 77u);
  EXPECT_EQ(h.deadline_us, 5u);
}

TEST(Frame, RefusesWhatIsNoFrame) {
  EXPECT_NE(refusal({.magic = 0x20544547}).find("is the peer Outboard?"), std::string::npos);
  EXPECT_EQ(refusal({.version = 2}), "frame version (2) must be 1");
  EXPECT_NE(refusal({.reserved0 = 1}).find("reserved"), std::string::npos);
  EXPECT_NE(refusal({.reserved1 = 1}).find("reserved"), std::string::npos);
  EXPECT_NE(refusal({.kind = FrameKind::kPing, .length = 65'537}).find("must be at most 65536"),
            std::string::npos);
}

TEST(Frame, AnUnknownKindIsLeftToTheReceiver) {
  EXPECT_EQ(name_of(decoded({.kind = static_cast<FrameKind>(200)}).kind), "unknown");
}

TEST(Tensor, SizeOfEveryType) {
  const std::int64_t dims[] = {3};
  EXPECT_EQ(size_bytes(ElementType::kFloat, dims).value(), 12u);
  EXPECT_EQ(size_bytes(ElementType::kInt4, dims).value(), 2u);
  EXPECT_EQ(size_bytes(ElementType::kComplex128, dims).value(), 48u);
  EXPECT_EQ(size_bytes(ElementType::kBool, {}).value(), 1u);  // a scalar
  EXPECT_FALSE(size_bytes(ElementType::kString, dims));
}

TEST(Tensor, RefusesShapesThatAreNone) {
  const std::int64_t negative[] = {2, -1}, huge[] = {1LL << 40, 1LL << 40}, zero[] = {0, 1LL << 62};
  EXPECT_FALSE(size_bytes(ElementType::kFloat, negative));
  EXPECT_FALSE(size_bytes(ElementType::kFloat, huge));
  EXPECT_EQ(size_bytes(ElementType::kFloat, zero).value(), 0u);
}

RC_GTEST_PROP(Tensor, StringsComeBack, (const std::vector<std::string>& words)) {
  const std::vector<std::string_view> views(words.begin(), words.end());
  const std::string bytes = encode_strings(views);
  RC_ASSERT(decode_strings(bytes_of(bytes), views.size()).value() == views);
  RC_ASSERT(!decode_strings(bytes_of(bytes + "x"), views.size()));
}

RC_GTEST_PROP(Messages, RunRequestComesBack, ()) {
  RunRequest request;
  request.session = *rc::gen::arbitrary<std::uint32_t>();
  request.outputs =
      *rc::gen::container<std::vector<std::uint32_t>>(rc::gen::arbitrary<std::uint32_t>());
  const auto shapes = *rc::gen::container<std::vector<std::vector<std::int64_t>>>(rc::gen::resize(
      6, rc::gen::container<std::vector<std::int64_t>>(rc::gen::inRange<std::int64_t>(0, 9))));
  for (const auto& dims : shapes) {
    const auto type = static_cast<ElementType>(*rc::gen::distinctFrom(rc::gen::inRange(1, 23), 8));
    request.inputs.push_back({type, dims, size_bytes(type, dims).value()});
  }
  const std::string record = encode(request);
  const RunRequest back = decode_run_request(bytes_of(record)).value();
  RC_ASSERT(back.session == request.session);
  RC_ASSERT(back.outputs == request.outputs);
  RC_ASSERT(back.inputs.size() == request.inputs.size());
  for (std::size_t i = 0; i < back.inputs.size(); ++i) {
    RC_ASSERT(back.inputs[i].type == request.inputs[i].type);
    RC_ASSERT(back.inputs[i].dims == request.inputs[i].dims);
    RC_ASSERT(back.inputs[i].data_bytes == request.inputs[i].data_bytes);
  }
}

TEST(Messages, ATensorsSizeMustBeItsShapes) {
  const std::string record = encode(RunRequest{1, {0}, {{ElementType::kFloat, {2}, 9}}});
  EXPECT_EQ(decode_run_request(bytes_of(record)).error().message,
            "size (9 bytes) of a tensor must be 8 by its type and shape");
}

RC_GTEST_PROP(Messages, ControlMessagesComeBack,
              (const std::string& text, const std::map<std::string, std::string>& entries,
               std::int64_t number)) {
  const Hello hello{text, text, {{7, text}}};
  RC_ASSERT(decode_hello(bytes_of(encode(hello))).value() == hello);
  SessionOpen open;
  open.handle = static_cast<std::uint32_t>(number);
  open.options.config_entries = entries;
  open.options.free_dimensions_by_name = {{text, number}};
  open.options.providers = {{text, entries}};
  RC_ASSERT(decode_session_open(bytes_of(encode(open))).value() == open);
  SessionDescription description;
  description.inputs = {{text, ElementType::kInt8, true, {number, 2}, {text, ""}}};
  description.custom_metadata = entries;
  description.version = number;
  RC_ASSERT(decode_session_description(bytes_of(encode(description))).value() == description);
}

TEST(Messages, RefusesNamesThatLeaveTheFolder) {
  for (const char* name : {"../up", "/etc/passwd", "a//b", "a/./b", "", "a\\b"}) {
    const ModelManifest manifest{{{name, 1, {}}}};
    EXPECT_FALSE(decode_model_manifest(bytes_of(encode(manifest)))) << name;
  }
}

TEST(Messages, AnErrorKeepsTheEnginesCode) {
  const Error back = decode_error(bytes_of(encode(Error{ErrorKind::kEngine, "m", 9}))).value();
  EXPECT_EQ(back.native_code, 9);
  EXPECT_EQ(back.kind, ErrorKind::kEngine);
  EXPECT_EQ(decode_error(bytes_of(encode(Error{static_cast<ErrorKind>(99), "m", 0}))).value().kind,
            ErrorKind::kInternal);
}

TEST(Messages, ALongListIsRefused) {
  ModelState state;
  state.have_bytes.resize(limits::kModelFiles + 1);
  EXPECT_NE(
      decode_model_state(bytes_of(encode(state))).error().message.find("must be at most 4096"),
      std::string::npos);
}

TEST(Messages, TheIdOfAModelDependsOnEveryField) {
  const ModelManifest one{{{"model", 1, {}}}}, renamed{{{"mode", 1, {}}}},
      resized{{{"model", 2, {}}}};
  EXPECT_NE(one.id(), renamed.id());
  EXPECT_NE(one.id(), resized.id());
  EXPECT_EQ(one.id(), ModelManifest(one).id());
}

}  // namespace
}  // namespace outboard::wire
