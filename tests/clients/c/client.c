// SPDX-License-Identifier: Apache-2.0
// An ordinary program in C that uses ONNX Runtime's C API and knows nothing of Outboard.
//
//   client MODEL...      its inputs and outputs, and what a Run of it gives, to the last bit
#include <onnxruntime_c_api.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kMaxValues = 8, kMaxDims = 8, kThreads = 4, kRunsPerThread = 4, kTextBytes = 1 << 16 };

static const OrtApi* ort;
static OrtAllocator* allocator;

static void check(OrtStatus* status) {
  if (status == NULL) return;
  printf("error %d %s\n", ort->GetErrorCode(status), ort->GetErrorMessage(status));
  exit(1);
}

typedef struct {
  OrtSession* session;
  size_t input_count, output_count;
  char *input_names[kMaxValues], *output_names[kMaxValues];
  OrtValue* inputs[kMaxValues];
} Model;

static const char* type_name(ONNXTensorElementDataType type) {
  switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT: return "float";
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64: return "int64";
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING: return "string";
    default: return "other";
  }
}

static void add(char* text, const char* more) { strncat(text, more, kTextBytes - strlen(text) - 1); }

static void add_dims(char* text, const int64_t* dims, size_t rank) {
  char number[32];
  add(text, "[");
  for (size_t i = 0; i < rank; ++i) {
    snprintf(number, sizeof number, "%s%lld", i == 0 ? "" : ",", (long long)dims[i]);
    add(text, number);
  }
  add(text, "]");
}

static void describe(const char* kind, const char* name, OrtTypeInfo* info) {
  const OrtTensorTypeAndShapeInfo* tensor;
  ONNXTensorElementDataType type;
  int64_t dims[kMaxDims];
  size_t rank;
  char text[kTextBytes] = "";
  check(ort->CastTypeInfoToTensorInfo(info, &tensor));
  check(ort->GetTensorElementType(tensor, &type));
  check(ort->GetDimensionsCount(tensor, &rank));
  check(ort->GetDimensions(tensor, dims, rank));
  add_dims(text, dims, rank);
  printf("  %s %s %s %s\n", kind, name, type_name(type), text);
  ort->ReleaseTypeInfo(info);
}

// 2 for every free dimension; numbers count up, strings are s0é, s1é, ...
static OrtValue* make_input(OrtTypeInfo* info) {
  const OrtTensorTypeAndShapeInfo* tensor;
  ONNXTensorElementDataType type;
  int64_t dims[kMaxDims];
  size_t rank, count = 1;
  OrtValue* value;
  check(ort->CastTypeInfoToTensorInfo(info, &tensor));
  check(ort->GetTensorElementType(tensor, &type));
  check(ort->GetDimensionsCount(tensor, &rank));
  check(ort->GetDimensions(tensor, dims, rank));
  for (size_t i = 0; i < rank; ++i) {
    if (dims[i] < 0) dims[i] = 2;
    count *= (size_t)dims[i];
  }
  check(ort->CreateTensorAsOrtValue(allocator, dims, rank, type, &value));
  void* data = NULL;
  if (type != ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING) check(ort->GetTensorMutableData(value, &data));
  for (size_t k = 0; k < count; ++k) {
    char text[32];
    snprintf(text, sizeof text, "s%zu\xc3\xa9", k);
    if (type == ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING) {
      check(ort->FillStringTensorElement(value, text, k));
    } else if (type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
      ((float*)data)[k] = (float)k / 4 - 1;
    } else {
      ((int64_t*)data)[k] = (int64_t)k;
    }
  }
  ort->ReleaseTypeInfo(info);
  return value;
}

static Model open_model(OrtEnv* env, const OrtSessionOptions* options, const char* path) {
  Model m = {0};
  OrtTypeInfo* info;
  check(ort->CreateSession(env, path, options, &m.session));
  check(ort->SessionGetInputCount(m.session, &m.input_count));
  check(ort->SessionGetOutputCount(m.session, &m.output_count));
  for (size_t i = 0; i < m.input_count; ++i) {
    check(ort->SessionGetInputName(m.session, i, allocator, &m.input_names[i]));
    check(ort->SessionGetInputTypeInfo(m.session, i, &info));
    describe("in", m.input_names[i], info);
    check(ort->SessionGetInputTypeInfo(m.session, i, &info));
    m.inputs[i] = make_input(info);
  }
  for (size_t i = 0; i < m.output_count; ++i) {
    check(ort->SessionGetOutputName(m.session, i, allocator, &m.output_names[i]));
    check(ort->SessionGetOutputTypeInfo(m.session, i, &info));
    describe("out", m.output_names[i], info);
  }
  return m;
}

static void add_output(char* text, const char* name, OrtValue* value) {
  OrtTensorTypeAndShapeInfo* info;
  ONNXTensorElementDataType type;
  int64_t dims[kMaxDims];
  size_t rank, count;
  void* data = NULL;
  char element[256];
  check(ort->GetTensorTypeAndShape(value, &info));
  check(ort->GetTensorElementType(info, &type));
  check(ort->GetDimensionsCount(info, &rank));
  check(ort->GetDimensions(info, dims, rank));
  check(ort->GetTensorShapeElementCount(info, &count));
  ort->ReleaseTensorTypeAndShapeInfo(info);
  snprintf(element, sizeof element, "  %s %s ", name, type_name(type));
  add(text, element);
  add_dims(text, dims, rank);
  if (type != ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING) check(ort->GetTensorMutableData(value, &data));
  for (size_t k = 0; k < count; ++k) {
    if (type == ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING) {
      size_t length;
      check(ort->GetStringTensorElementLength(value, k, &length));
      memset(element, 0, sizeof element);
      element[0] = ' ';
      check(ort->GetStringTensorElement(value, length, k, element + 1));
    } else if (type == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT) {
      snprintf(element, sizeof element, " %08x", ((uint32_t*)data)[k]);
    } else {
      snprintf(element, sizeof element, " %lld", (long long)((int64_t*)data)[k]);
    }
    add(text, element);
  }
  add(text, "\n");
}

static char* run(const Model* m) {
  OrtValue* outputs[kMaxValues] = {0};
  char* text = calloc(1, kTextBytes);
  check(ort->Run(m->session, NULL, (const char* const*)m->input_names, (const OrtValue* const*)m->inputs,
                 m->input_count, (const char* const*)m->output_names, m->output_count, outputs));
  for (size_t i = 0; i < m->output_count; ++i) {
    add_output(text, m->output_names[i], outputs[i]);
    ort->ReleaseValue(outputs[i]);
  }
  return text;
}

typedef struct {
  const Model* model;
  const char* expected;
  int equal;
} Repeat;

static void* repeat(void* argument) {
  Repeat* r = argument;
  for (int i = 0; i < kRunsPerThread; ++i) {
    char* text = run(r->model);
    r->equal += strcmp(text, r->expected) == 0;
    free(text);
  }
  return NULL;
}

int main(int argc, char** argv) {
  OrtEnv* env;
  OrtSessionOptions* options;
  ort = OrtGetApiBase()->GetApi(16);
  check(ort->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "client", &env));
  check(ort->CreateSessionOptions(&options));
  check(ort->GetAllocatorWithDefaultOptions(&allocator));
  for (int i = 1; i < argc; ++i) {
    printf("%s\n", strrchr(argv[i], '/') + 1);
    Model m = open_model(env, options, argv[i]);
    char* text = run(&m);
    printf("%s", text);
    pthread_t threads[kThreads];
    Repeat repeats[kThreads];
    int equal = 0;
    for (int t = 0; t < kThreads; ++t) {
      repeats[t] = (Repeat){&m, text, 0};
      pthread_create(&threads[t], NULL, repeat, &repeats[t]);
    }
    for (int t = 0; t < kThreads; ++t) {
      pthread_join(threads[t], NULL);
      equal += repeats[t].equal;
    }
    printf("  again %d\n", equal);
    free(text);
    if (i % 2 == 0) ort->ReleaseSession(m.session);  // and some are never released
  }
  return 0;
}
