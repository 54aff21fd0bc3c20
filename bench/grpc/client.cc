// SPDX-License-Identifier: Apache-2.0
// Runs of one model by gRPC; worker.h says how it is told to work.
//
//   bench_grpc_client ADDRESS MODEL own|own-stream|oip
//
// One channel and one stub for all callers; messages are kept from Run to Run, so that their
// buffers are; a stream a caller where streams are asked for.
#include <grpcpp/grpcpp.h>

#include "bench/worker.h"
#include "oip.grpc.pb.h"
#include "own.grpc.pb.h"

namespace {

using bench::die;
namespace own = outboard::bench;

void check(const grpc::Status& status) {
  if (!status.ok()) die("a call failed: " + status.error_message());
}

struct Input {
  std::string name, datatype, bytes;
  std::vector<std::int64_t> dims;
};

struct Model {
  Model(const std::string& address, std::string model_name) : name(std::move(model_name)) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetMaxSendMessageSize(-1);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
    own_stub = own::Runner::NewStub(channel);
    oip_stub = inference::GRPCInferenceService::NewStub(channel);
    inference::ModelMetadataRequest request;
    inference::ModelMetadataResponse reply;
    request.set_name(name);
    grpc::ClientContext context;
    check(oip_stub->ModelMetadata(&context, request, &reply));
    for (int i = 0; i < reply.inputs_size(); ++i) {
      Input input{reply.inputs(i).name(),
                  reply.inputs(i).datatype(),
                  {},
                  {reply.inputs(i).shape().begin(), reply.inputs(i).shape().end()}};
      const std::size_t count = bench::close_dims(input.dims);
      input.bytes =
          bench::input_bytes(static_cast<std::size_t>(i), input.datatype == "FP32", count);
      inputs.push_back(std::move(input));
    }
  }
  std::string name;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<own::Runner::Stub> own_stub;
  std::unique_ptr<inference::GRPCInferenceService::Stub> oip_stub;
  std::vector<Input> inputs;
};

class OwnCaller final : public bench::Caller {
 public:
  OwnCaller(const Model& model, bool stream) : model_(model) {
    if (stream) stream_ = model.own_stub->RunMany(&stream_context_);
    request_.set_model(model.name);
    for (const Input& input : model.inputs) {
      own::Tensor& tensor = *request_.add_inputs();
      tensor.set_type(input.datatype == "FP32" ? 1 : 7);
      tensor.mutable_dims()->Add(input.dims.begin(), input.dims.end());
    }
  }
  ~OwnCaller() override {
    if (!stream_) return;
    stream_->WritesDone();
    check(stream_->Finish());
  }
  void run() override {
    // The program's tensors into the message: what its own memory cannot spare it.
    for (std::size_t i = 0; i < model_.inputs.size(); ++i)
      request_.mutable_inputs(static_cast<int>(i))->set_data(model_.inputs[i].bytes);
    if (stream_) {
      if (!stream_->Write(request_) || !stream_->Read(&reply_)) die("the stream broke");
      return;
    }
    grpc::ClientContext context;
    check(model_.own_stub->Run(&context, request_, &reply_));
  }
  std::uint64_t hash() override {
    run();
    std::uint64_t hash = bench::kHashStart;
    for (const own::Tensor& tensor : reply_.outputs())
      hash = bench::hash_of(tensor.data().data(), tensor.data().size(), hash);
    return hash;
  }

 private:
  const Model& model_;
  own::RunRequest request_;
  own::RunReply reply_;
  grpc::ClientContext stream_context_;
  std::unique_ptr<grpc::ClientReaderWriter<own::RunRequest, own::RunReply>> stream_;
};

class OipCaller final : public bench::Caller {
 public:
  explicit OipCaller(const Model& model) : model_(model) {
    request_.set_model_name(model.name);
    for (const Input& input : model.inputs) {
      auto& tensor = *request_.add_inputs();
      tensor.set_name(input.name);
      tensor.set_datatype(input.datatype);
      tensor.mutable_shape()->Add(input.dims.begin(), input.dims.end());
      request_.add_raw_input_contents();
    }
  }
  void run() override {
    for (std::size_t i = 0; i < model_.inputs.size(); ++i)
      request_.set_raw_input_contents(static_cast<int>(i), model_.inputs[i].bytes);
    grpc::ClientContext context;
    check(model_.oip_stub->ModelInfer(&context, request_, &reply_));
  }
  std::uint64_t hash() override {
    run();
    std::uint64_t hash = bench::kHashStart;
    for (const std::string& data : reply_.raw_output_contents())
      hash = bench::hash_of(data.data(), data.size(), hash);
    return hash;
  }

 private:
  const Model& model_;
  inference::ModelInferRequest request_;
  inference::ModelInferResponse reply_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) die("usage: bench_grpc_client ADDRESS MODEL own|own-stream|oip");
  const std::string kind = argv[3];
  const auto begin = bench::Clock::now();
  const Model model(argv[1], argv[2]);
  const double create_ms = bench::us_since(begin) / 1e3;
  return bench::Worker([&]() -> std::unique_ptr<bench::Caller> {
           if (kind == "oip") return std::make_unique<OipCaller>(model);
           return std::make_unique<OwnCaller>(model, kind == "own-stream");
         })
      .serve(create_ms);
}
