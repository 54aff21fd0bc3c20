// SPDX-License-Identifier: Apache-2.0
// Sessions of the real ONNX Runtime.
#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "engine/element_type.h"
#include "tests/engine/support.h"

namespace outboard::engine {
namespace {

class OnnxRuntime : public testing::Test {
 protected:
  std::shared_ptr<Session> open(const std::string& name, const OpenOptions& options = {}) {
    auto session = engine_->open(model_path(name), options);
    EXPECT_TRUE(session) << session.error().message;
    return session ? *session : nullptr;
  }
  // All outputs of a session, in order.
  static std::vector<OutputWanted> all(const Session& session) {
    std::vector<OutputWanted> wanted;
    for (std::uint32_t i = 0; i < session.info().outputs.size(); ++i)
      wanted.push_back({.index = i});
    return wanted;
  }
  const std::unique_ptr<Engine> engine_ = engine_or_die();
};

TEST_F(OnnxRuntime, DescribesTheModel) {
  const auto session = open("add.onnx");
  const ModelInfo& info = session->info();
  ASSERT_EQ(info.inputs.size(), 1u);
  EXPECT_EQ(info.inputs[0].name, "x");
  EXPECT_EQ(info.inputs[0].kind, "tensor");
  EXPECT_EQ(info.inputs[0].type, ElementType::kFloat);
  EXPECT_TRUE(info.inputs[0].has_shape);
  EXPECT_EQ(info.inputs[0].dims, (std::vector<std::int64_t>{-1, 3}));
  EXPECT_EQ(info.inputs[0].dim_names, (std::vector<std::string>{"batch", ""}));
  ASSERT_EQ(info.outputs.size(), 1u);
  EXPECT_EQ(info.outputs[0].name, "y");
  EXPECT_EQ(info.producer, "tests");
  EXPECT_EQ(info.graph_name, "add one");
  EXPECT_EQ(info.graph_description, "the graph's own words");
  EXPECT_EQ(info.domain, "org.outboard");
  EXPECT_EQ(info.description, "adds one");
  EXPECT_EQ(info.version, 7);
  EXPECT_EQ(info.custom_metadata,
            (std::map<std::string, std::string>{{"author", "tests"}, {"licence", "none"}}));
}

TEST_F(OnnxRuntime, RunsOverTheCallersMemory) {
  const auto session = open("add.onnx");
  const std::vector<float> x{1, 2, 3, 4, 5, 6};
  const std::vector<std::int64_t> dims{2, 3};
  const auto outputs =
      session->run(std::array{input_of(ElementType::kFloat, dims, x)}, all(*session));
  ASSERT_TRUE(outputs) << outputs.error().message;
  const OutputView& y = (*outputs)->values()[0];
  EXPECT_EQ(y.type, ElementType::kFloat);
  EXPECT_EQ(y.dims, dims);
  EXPECT_EQ(elements_of<float>(y), (std::vector<float>{2, 3, 4, 5, 6, 7}));
}

TEST_F(OnnxRuntime, WritesIntoAPreallocatedOutput) {
  const auto session = open("add.onnx");
  const std::vector<float> x{1, 2, 3};
  std::vector<float> y(3);
  const std::vector<std::int64_t> dims{1, 3};
  OutputBuffer buffer{ElementType::kFloat, dims, std::as_writable_bytes(std::span(y))};
  const auto outputs = session->run(std::array{input_of(ElementType::kFloat, dims, x)},
                                    std::array{OutputWanted{.index = 0, .buffer = &buffer}});
  ASSERT_TRUE(outputs) << outputs.error().message;
  EXPECT_EQ(y, (std::vector<float>{2, 3, 4}));
  EXPECT_EQ((*outputs)->values()[0].data.data(), reinterpret_cast<std::byte*>(y.data()));
}

TEST_F(OnnxRuntime, APreallocatedOutputOfTheWrongShapeIsTheRuntimesError) {
  const auto session = open("add.onnx");
  const std::vector<float> x{1, 2, 3};
  std::vector<float> y(6);
  const std::vector<std::int64_t> dims{1, 3}, wrong{2, 3};
  OutputBuffer buffer{ElementType::kFloat, wrong, std::as_writable_bytes(std::span(y))};
  const auto outputs = session->run(std::array{input_of(ElementType::kFloat, dims, x)},
                                    std::array{OutputWanted{.index = 0, .buffer = &buffer}});
  ASSERT_FALSE(outputs);
  EXPECT_EQ(outputs.error().kind, ErrorKind::kEngine);
}

TEST_F(OnnxRuntime, EveryFixedSizeElementType) {
  for (const auto type :
       {ElementType::kFloat, ElementType::kUint8, ElementType::kInt8, ElementType::kUint16,
        ElementType::kInt16, ElementType::kInt32, ElementType::kInt64, ElementType::kBool,
        ElementType::kFloat16, ElementType::kDouble, ElementType::kUint32, ElementType::kUint64,
        ElementType::kBfloat16}) {
    const auto session = open("identity_" + std::string(name_of(type)) + ".onnx");
    ASSERT_EQ(session->info().inputs[0].type, type);
    const std::vector<std::int64_t> dims{3};
    std::vector<std::uint8_t> bytes(*size_bytes(type, dims), 1);
    const auto outputs = session->run(std::array{input_of(type, dims, bytes)}, all(*session));
    ASSERT_TRUE(outputs) << name_of(type) << ": " << outputs.error().message;
    EXPECT_EQ(elements_of<std::uint8_t>((*outputs)->values()[0]), bytes) << name_of(type);
  }
}

TEST_F(OnnxRuntime, StringsKeepTheirBytes) {
  const auto session = open("identity_string.onnx");
  using namespace std::string_view_literals;
  const std::vector<std::string_view> strings{"", "grün"sv, "with\0nul"sv, std::string_view("x")};
  const std::vector<std::int64_t> dims{4};
  const InputView input{.type = ElementType::kString, .dims = dims, .data = {}, .strings = strings};
  const auto outputs = session->run(std::array{input}, all(*session));
  ASSERT_TRUE(outputs) << outputs.error().message;
  EXPECT_EQ((*outputs)->values()[0].strings, strings);
}

TEST_F(OnnxRuntime, ScalarsEmptyTensorsAndShapelessValues) {
  const std::vector<float> one{5};
  const auto scalar = open("scalar.onnx");
  auto outputs =
      scalar->run(std::array{input_of<float>(ElementType::kFloat, {}, one)}, all(*scalar));
  ASSERT_TRUE(outputs) << outputs.error().message;
  EXPECT_TRUE((*outputs)->values()[0].dims.empty());
  EXPECT_EQ(elements_of<float>((*outputs)->values()[0]), one);

  const auto shapeless = open("shapeless.onnx");
  EXPECT_FALSE(shapeless->info().inputs[0].has_shape);
  const std::vector<std::int64_t> dims{1, 1, 1};
  outputs = shapeless->run(std::array{input_of(ElementType::kFloat, dims, one)}, all(*shapeless));
  ASSERT_TRUE(outputs) << outputs.error().message;
  EXPECT_EQ((*outputs)->values()[0].dims, dims);

  const auto empty = open("identity_float.onnx");
  const std::vector<std::int64_t> none{0};
  outputs = empty->run(std::array{input_of<float>(ElementType::kFloat, none, {})}, all(*empty));
  ASSERT_TRUE(outputs) << outputs.error().message;
  EXPECT_EQ((*outputs)->values()[0].dims, none);
  EXPECT_TRUE((*outputs)->values()[0].data.empty());
}

TEST_F(OnnxRuntime, OutputsWhoseShapeTheDataDecides) {
  const auto session = open("nonzero.onnx");
  const std::vector<float> x{0, 1, 0, 2};
  const std::vector<std::int64_t> dims{4};
  const auto outputs =
      session->run(std::array{input_of(ElementType::kFloat, dims, x)}, all(*session));
  ASSERT_TRUE(outputs) << outputs.error().message;
  EXPECT_EQ((*outputs)->values()[0].dims, (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(elements_of<std::int64_t>((*outputs)->values()[0]), (std::vector<std::int64_t>{1, 3}));
}

TEST_F(OnnxRuntime, OnlyTheOutputsWantedInTheOrderWanted) {
  const auto session = open("two_outputs.onnx");
  const std::vector<float> a{5, 7}, b{1, 2};
  const std::vector<std::int64_t> dims{2};
  const std::array inputs{input_of(ElementType::kFloat, dims, a),
                          input_of(ElementType::kFloat, dims, b)};
  auto outputs =
      session->run(inputs, std::array{OutputWanted{.index = 1}, OutputWanted{.index = 0}});
  ASSERT_TRUE(outputs) << outputs.error().message;
  EXPECT_EQ(elements_of<float>((*outputs)->values()[0]), (std::vector<float>{4, 5}));
  EXPECT_EQ(elements_of<float>((*outputs)->values()[1]), (std::vector<float>{6, 9}));
  outputs = session->run(inputs, std::array{OutputWanted{.index = 2}});
  ASSERT_FALSE(outputs);
  EXPECT_EQ(outputs.error().kind, ErrorKind::kInvalid);
}

TEST_F(OnnxRuntime, NoInputs) {
  const auto session = open("no_inputs.onnx");
  const auto outputs = session->run({}, all(*session));
  ASSERT_TRUE(outputs) << outputs.error().message;
  EXPECT_EQ(elements_of<std::int64_t>((*outputs)->values()[0]), (std::vector<std::int64_t>{4, 2}));
}

TEST_F(OnnxRuntime, ExternalDataLiesBesideTheModel) {
  const auto session = open("external/model.onnx");
  EXPECT_EQ(session->info().inputs[0].dims[1], 128);
}

TEST_F(OnnxRuntime, AModelFromBytes) {
  std::ifstream file(model_path("add.onnx"), std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  const auto session = engine_->open_bytes(std::as_bytes(std::span(bytes)), {});
  ASSERT_TRUE(session) << session.error().message;
  EXPECT_EQ((*session)->info().graph_name, "add one");
}

TEST_F(OnnxRuntime, FreeDimensionOverridesShowInTheDescription) {
  OpenOptions options;
  options.free_dimensions_by_name["batch"] = 4;
  EXPECT_EQ(open("add.onnx", options)->info().inputs[0].dims, (std::vector<std::int64_t>{4, 3}));
}

TEST_F(OnnxRuntime, EveryOptionIsTaken) {
  OpenOptions options{.graph_optimization_level = 0, .parallel_execution = true};
  options.config_entries["session.disable_prepacking"] = "1";
  options.intra_op_threads = 1;
  options.providers = {{"CUDAExecutionProvider", {{"use_tf32", "0"}}}};  // passed over on the CPU
  EXPECT_NE(open("add.onnx", options), nullptr);
}

TEST_F(OnnxRuntime, WhatIsNoTensorIsToldApart) {
  EXPECT_EQ(open("sequence.onnx")->info().outputs[0].kind, "sequence");
  EXPECT_EQ(open("overridable.onnx")->info().overridable_initializers,
            (std::vector<std::string>{"w"}));
}

TEST_F(OnnxRuntime, ErrorsCarryTheRuntimesOwnCode) {
  auto session = engine_->open(model_path("unknown_operator.onnx"), {});
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().kind, ErrorKind::kEngine);
  EXPECT_NE(session.error().native_code, 0);
  EXPECT_NE(session.error().message.find("NoSuchOperator"), std::string::npos);

  const std::string garbage = "this is no model at all";
  session = engine_->open_bytes(std::as_bytes(std::span(garbage)), {});
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().native_code, 7) << "ORT_INVALID_PROTOBUF: " << session.error().message;

  session = engine_->open(model_path("there_is_no_such.onnx"), {});
  ASSERT_FALSE(session);
  EXPECT_EQ(session.error().kind, ErrorKind::kNotFound);

  const auto gather = open("gather.onnx");
  const std::vector<std::int64_t> index{99}, dims{1};
  const auto outputs =
      gather->run(std::array{input_of(ElementType::kInt64, dims, index)}, all(*gather));
  ASSERT_FALSE(outputs);
  EXPECT_EQ(outputs.error().kind, ErrorKind::kEngine);
  EXPECT_EQ(outputs.error().native_code, 2) << "ORT_INVALID_ARGUMENT: " << outputs.error().message;
}

TEST_F(OnnxRuntime, ARunEndsWhenItIsTerminated) {
  const auto session = open("slow.onnx");
  const auto control = engine_->make_run_control();
  const std::vector<std::int64_t> forever{1'000'000'000}, once{1};
  // Terminated from another thread; if the Run has not begun yet it ends at once when it does.
  std::thread terminator([&] { control->terminate(); });
  auto outputs = session->run(std::array{input_of<std::int64_t>(ElementType::kInt64, {}, forever)},
                              all(*session), control.get());
  terminator.join();
  ASSERT_FALSE(outputs);
  EXPECT_EQ(outputs.error().kind, ErrorKind::kCancelled) << outputs.error().message;
  control->reset();
  outputs = session->run(std::array{input_of<std::int64_t>(ElementType::kInt64, {}, once)},
                         all(*session), control.get());
  EXPECT_TRUE(outputs) << outputs.error().message;
}

TEST_F(OnnxRuntime, SessionsAndOutputsOutliveTheEngine) {
  auto engine = engine_or_die();
  auto session = *engine->open(model_path("no_inputs.onnx"), {});
  engine.reset();
  auto outputs = session->run({}, all(*session));
  session.reset();
  EXPECT_EQ(elements_of<std::int64_t>((*outputs)->values()[0]), (std::vector<std::int64_t>{4, 2}));
}

}  // namespace
}  // namespace outboard::engine
