# SPDX-License-Identifier: Apache-2.0
"""An ordinary program that makes one kind of call and prints what it sees; it knows nothing of Outboard.

    calls.py terminate MODEL WAY     WAY is run, values, binding or async
    calls.py huge MODEL              a model beyond 2 GB; its own peak of memory goes to standard error
    calls.py CHECK ARGUMENTS         see the functions
"""
import resource
import sys
import threading
import time

import numpy as np
import onnxruntime as ort

ort.set_default_logger_severity(4)
X = np.array([[0, 1, 2, 3], [-4, 5, 6, 7]], np.float32)
CPU = ["CPUExecutionProvider"]


def open_and_run(how, model, options=None, feeds=None, **arguments):
    try:
        session = ort.InferenceSession(model, options, providers=CPU, **arguments)
        print(how, [v.tolist() for v in session.run(None, feeds or {"x": X})])
        return session
    except Exception as error:
        print(how, "failed", type(error).__name__, error)
        return None


def ended_run(session, way, feeds, options):
    try:
        if way == "values":
            session.run_with_ort_values(["y"], {"x": ort.OrtValue.ortvalue_from_numpy(feeds["x"])}, options)
        elif way == "binding":
            binding = session.io_binding()
            binding.bind_cpu_input("x", feeds["x"])
            binding.bind_output("y")
            session.run_with_iobinding(binding, options)
        elif way == "async":
            done, said = threading.Event(), []
            session.run_async(["y"], feeds, lambda results, data, error: (said.append(error), done.set()), None, options)
            done.wait()
            return said[0] or "finished"
        else:
            session.run(["y"], feeds, options)
    except Exception as error:
        return str(error)
    return "finished"


def terminate(model, way):
    session = ort.InferenceSession(model, providers=CPU)
    feeds = {"x": np.full(session.get_inputs()[0].shape, 0.01, np.float32)}
    while sys.stdin.readline():  # one line starts a Run, the next ends it
        options, said = ort.RunOptions(), []
        thread = threading.Thread(target=lambda: said.append(ended_run(session, way, feeds, options)))
        thread.start()
        sys.stdin.readline()
        start = time.perf_counter()
        options.terminate = True
        thread.join()
        print(f"{(time.perf_counter() - start) * 1e3:.3f} {said[0]}", flush=True)


def dimensions(model):
    options = ort.SessionOptions()
    options.add_free_dimension_override_by_denotation("DATA_BATCH", 2)
    options.add_free_dimension_override_by_name("m", 4)
    session = open_and_run("run", model, options)
    print(session.get_inputs()[0].shape, session.get_outputs()[0].shape)


def options(model):
    made = ort.SessionOptions()
    made.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    made.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    made.intra_op_num_threads, made.inter_op_num_threads = 1, 2
    made.add_session_config_entry("session.set_denormal_as_zero", "1")
    made.use_deterministic_compute = True
    made.enable_mem_pattern = made.enable_cpu_mem_arena = False
    made.logid = "calls"
    for _ in range(2):
        open_and_run("options", model, made)
    print(made.get_session_config_entry("session.set_denormal_as_zero"))
    run_options = ort.RunOptions()
    run_options.logid, run_options.log_severity_level = "a run", 4
    run_options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    run_options.only_execute_path_to_fetches = True
    session = ort.InferenceSession(model, made, providers=CPU)
    print(session.run(["y"], {"x": X}, run_options)[0].tolist(), session.get_session_options().logid)


def operators(model, library):
    made = ort.SessionOptions()
    made.register_custom_ops_library(library)
    open_and_run("library", model, made)


def weights(dense, external):
    values = np.full((4, 3), 0.5, np.float32)
    made, value = ort.SessionOptions(), ort.OrtValue.ortvalue_from_numpy(values)
    made.add_initializer("w", value)
    open_and_run("initializer", dense, made)
    replaced = ort.SessionOptions()
    replaced.add_external_initializers(["w"], [value])
    open_and_run("external initializer", external, replaced)


def optimised(model, file):
    made = ort.SessionOptions()
    made.optimized_model_filepath = file
    open_and_run("optimised", model, made)
    print("written", len(open(file, "rb").read()) > 0)


def devices(model):
    made = ort.SessionOptions()
    made.set_provider_selection_policy(ort.OrtExecutionProviderDevicePolicy.PREFER_CPU)
    open_and_run("policy", model, made)
    made = ort.SessionOptions()
    made.add_provider_for_devices([d for d in ort.get_ep_devices() if d.ep_name == CPU[0]][:1], {})
    open_and_run("devices", model, made)
    made = ort.SessionOptions()
    made.set_provider_selection_policy_delegate(lambda devices, *_: devices[:1])
    open_and_run("delegate", model, made)


def profile(model, folder):
    made = ort.SessionOptions()
    made.enable_profiling, made.profile_file_prefix = True, folder + "/ended"
    session = ort.InferenceSession(model, made, providers=CPU)
    for _ in range(3):
        session.run(None, {"x": X})
    print(session.end_profiling())
    made.profile_file_prefix = folder + "/released"
    session = ort.InferenceSession(model, made, providers=CPU)
    session.run(None, {"x": X})
    del session


def fewer_outputs(model):
    """Asynchronously, and bound: only what is asked for."""
    session = ort.InferenceSession(model, providers=CPU)
    done, got = threading.Event(), []
    session.run_async(["z"], {"x": X}, lambda *said: (got.extend(said), done.set()), "data")
    done.wait()
    print(len(got[0]), got[0][0].tolist(), got[1:])
    binding = session.io_binding()
    binding.bind_cpu_input("x", X)
    for name in ("y", "z"):
        binding.bind_output(name)
        session.run_with_iobinding(binding)
        print(name, [v.tolist() for v in binding.copy_outputs_to_cpu()])
        binding.clear_binding_outputs()


def modules():
    """Every public name of the module and of its classes; whether it is the library's own."""
    extension = ort.capi._pybind_state
    for name in dir(ort):
        if not name.startswith("_"):
            print("module", name)
    for cls in (ort.InferenceSession, ort.SessionOptions, ort.RunOptions, ort.IOBinding, ort.OrtValue):
        for name in dir(cls):
            if not name.startswith("_"):
                print(cls.__name__, name)
    for cls in (extension.InferenceSession, extension.SessionOptions, extension.RunOptions, extension.SessionIOBinding,
                extension.OrtValue):
        for name in dir(cls):
            if not name.startswith("_") and callable(getattr(cls, name)):
                code = getattr(getattr(cls, name), "__code__", None)
                if code is not None and "outboard" in code.co_filename:
                    print("replaced", cls.__name__, name)


def cases(*models):
    for model in models:
        open_and_run(model.rsplit("/", 1)[-1], model)


def huge(model):
    index = np.array([0, 1, 549], np.int64)
    open_and_run("huge", model, feeds={"x": index})
    print("peak_kib", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
