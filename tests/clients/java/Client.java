// SPDX-License-Identifier: Apache-2.0
// An ordinary Java program that uses com.microsoft.onnxruntime and knows nothing of Outboard.
//   Client MODEL...      its inputs and outputs, and what a Run of it gives, to the last bit
import ai.onnxruntime.*;
import java.nio.*;
import java.nio.charset.StandardCharsets;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.*;
import java.util.concurrent.*;

public class Client {
  static final int THREADS = 4, RUNS_PER_THREAD = 4;

  static String typeName(OnnxJavaType type) {
    return type.toString().toLowerCase();
  }

  static String dims(long[] shape) {
    return Arrays.toString(shape).replace(" ", "");
  }

  static OnnxTensor makeInput(OrtEnvironment env, TensorInfo info) throws OrtException {
    long[] shape = Arrays.stream(info.getShape()).map(d -> d < 0 ? 2 : d).toArray();
    int count = (int) Arrays.stream(shape).reduce(1, (a, b) -> a * b);
    if (info.type == OnnxJavaType.STRING) {
      String[] values = new String[count];
      for (int k = 0; k < count; ++k) values[k] = "s" + k + "é";
      return OnnxTensor.createTensor(env, values, shape);
    }
    if (info.type == OnnxJavaType.INT64) {
      LongBuffer values = LongBuffer.allocate(count);
      for (int k = 0; k < count; ++k) values.put(k, k);
      return OnnxTensor.createTensor(env, values, shape);
    }
    FloatBuffer values = FloatBuffer.allocate(count);
    for (int k = 0; k < count; ++k) values.put(k, k / 4f - 1);
    return OnnxTensor.createTensor(env, values, shape);
  }

  static void flatten(Object value, List<String> into) {
    if (value instanceof Object[]) {
      for (Object v : (Object[]) value) flatten(v, into);
    } else if (value instanceof float[]) {
      for (float v : (float[]) value) into.add(String.format("%08x", Float.floatToRawIntBits(v)));
    } else if (value instanceof long[]) {
      for (long v : (long[]) value) into.add(Long.toString(v));
    } else {
      into.add(value.toString());
    }
  }

  static String run(OrtSession session, Map<String, OnnxTensor> feeds) throws OrtException {
    StringBuilder text = new StringBuilder();
    try (OrtSession.Result result = session.run(feeds)) {
      for (Map.Entry<String, OnnxValue> output : result) {
        TensorInfo info = (TensorInfo) output.getValue().getInfo();
        List<String> values = new ArrayList<>();
        flatten(output.getValue().getValue(), values);
        text.append("  " + output.getKey() + " " + typeName(info.type) + " " + dims(info.getShape()) + " "
            + String.join(" ", values) + "\n");
      }
    }
    return text.toString();
  }

  public static void main(String[] arguments) throws Exception {
    PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    OrtEnvironment env = OrtEnvironment.getEnvironment();
    for (int i = 0; i < arguments.length; ++i) {
      out.println(Path.of(arguments[i]).getFileName());
      OrtSession session = env.createSession(arguments[i]);
      Map<String, OnnxTensor> feeds = new LinkedHashMap<>();
      for (NodeInfo node : session.getInputInfo().values()) {
        TensorInfo info = (TensorInfo) node.getInfo();
        out.println("  in " + node.getName() + " " + typeName(info.type) + " " + dims(info.getShape()));
        feeds.put(node.getName(), makeInput(env, info));
      }
      for (NodeInfo node : session.getOutputInfo().values()) {
        TensorInfo info = (TensorInfo) node.getInfo();
        out.println("  out " + node.getName() + " " + typeName(info.type) + " " + dims(info.getShape()));
      }
      String first = run(session, feeds);
      out.print(first);
      ExecutorService pool = Executors.newFixedThreadPool(THREADS);
      List<Future<String>> again = new ArrayList<>();
      for (int k = 0; k < THREADS * RUNS_PER_THREAD; ++k) again.add(pool.submit(() -> run(session, feeds)));
      int equal = 0;
      for (Future<String> text : again) equal += text.get().equals(first) ? 1 : 0;
      pool.shutdown();
      out.println("  again " + equal);
      if (i % 2 == 1) session.close(); // and some are never closed
    }
  }
}
