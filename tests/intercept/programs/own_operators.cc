// SPDX-License-Identifier: Apache-2.0
// A library of operators, as programs register them.
#define ORT_API_MANUAL_INIT
#include "own_operator.h"

extern "C" __attribute__((visibility("default"))) OrtStatus* RegisterCustomOps(
    OrtSessionOptions* options, const OrtApiBase* base) {
  Ort::InitApi(base->GetApi(ORT_API_VERSION));
  static const Twice twice;
  static Ort::CustomOpDomain domain("test.own");
  static const bool added = [] {
    domain.Add(&twice);
    return true;
  }();
  static_cast<void>(added);
  return Ort::GetApi().AddCustomOpDomain(options, domain);
}
