// SPDX-License-Identifier: Apache-2.0
// An operator of a program's own: test.own.Twice, y = 2 x.
#pragma once

#include <onnxruntime_cxx_api.h>

struct TwiceKernel {
  void Compute(OrtKernelContext* raw) {
    const Ort::KernelContext context(raw);
    const auto x = context.GetInput(0);
    const auto info = x.GetTensorTypeAndShapeInfo();
    auto y = context.GetOutput(0, info.GetShape());
    for (std::size_t i = 0; i < info.GetElementCount(); ++i)
      y.GetTensorMutableData<float>()[i] = 2 * x.GetTensorData<float>()[i];
  }
};

struct Twice : Ort::CustomOpBase<Twice, TwiceKernel> {
  void* CreateKernel(const OrtApi&, const OrtKernelInfo*) const { return new TwiceKernel; }
  const char* GetName() const { return "Twice"; }
  std::size_t GetInputTypeCount() const { return 1; }
  ONNXTensorElementDataType GetInputType(std::size_t) const {
    return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  }
  std::size_t GetOutputTypeCount() const { return 1; }
  ONNXTensorElementDataType GetOutputType(std::size_t) const {
    return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  }
};
