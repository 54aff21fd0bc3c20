# SPDX-License-Identifier: Apache-2.0
"""Reads the text in a picture with RapidOCR (three ONNX models): a program like any other.

    python examples/ocr.py PICTURE
"""
import sys

from rapidocr_onnxruntime import RapidOCR

if len(sys.argv) != 2:
    sys.exit("usage: ocr.py PICTURE")
found, _ = RapidOCR()(sys.argv[1])
for _, text, confidence in found or []:
    print(f"{confidence:.3f}  {text}")
