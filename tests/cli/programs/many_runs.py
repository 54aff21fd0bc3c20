# SPDX-License-Identifier: Apache-2.0
"""An ordinary program: many_runs.py MODEL COUNT"""
import sys

import numpy as np
import onnxruntime as ort

session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
feeds = {i.name: np.ones((2, 3), dtype=np.float32) for i in session.get_inputs()}
for _ in range(int(sys.argv[2])):
    session.run(None, feeds)
