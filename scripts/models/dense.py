# SPDX-License-Identifier: Apache-2.0
"""Models whose output is a map or a list of boxes: pose, segmentation, detection."""
from .graph import Graph


def openpose_body25():
    """OpenPose's BODY_25 network (pose_deploy.prototxt): the first ten convolutions of VGG-19, two more, four stages of
    part affinity fields (52 channels), then two of heat maps (26). It has no batch norm."""
    g = Graph("openpose-body25")
    x = g.input("image", (1, 3, 368, 656))
    for stage, (channels, count) in enumerate([(64, 2), (128, 2), (256, 4)], start=1):
        for i in range(1, count + 1):
            x = g.relu(g.conv(x, channels, 3, pad=1, name=f"conv{stage}_{i}"))
        x = g.max_pool(x, 2, 2)
    x = g.relu(g.conv(x, 512, 3, pad=1, name="conv4_1"))
    for name, channels in [("conv4_2", 512), ("conv4_3_CPM", 256), ("conv4_4_CPM", 128)]:
        x = g.prelu(g.conv(x, channels, 3, pad=1, name=name), f"p{name}")
    fields = _stage(g, x, "stage0_L2", 96, 256, 52)
    for stage in (1, 2, 3):
        fields = _stage(g, g.concat([x, fields]), f"stage{stage}_L2", 128, 512, 52)
    heat = _stage(g, g.concat([x, fields]), "stage0_L1", 96, 256, 26)
    heat = _stage(g, g.concat([x, heat, fields]), "stage1_L1", 128, 512, 26)
    g.output(g.concat([heat, fields]), "net_output")
    return g


def _stage(g, x, name, width, hidden, channels):
    for block in range(1, 6):
        parts = []
        for i in range(3):
            x = g.prelu(g.conv(x, width, 3, pad=1, name=f"Mconv{block}_{name}_{i}"), f"Mprelu{block}_{name}_{i}")
            parts.append(x)
        x = g.concat(parts)
    x = g.prelu(g.conv(x, hidden, 1, name=f"Mconv6_{name}"), f"Mprelu6_{name}")
    return g.conv(x, channels, 1, name=f"Mconv7_{name}", gain=1.0)


def unet():
    """U-Net (Ronneberger et al. 2015) in its usual form today (milesial/Pytorch-UNet): padded convolutions, batch norm
    (folded), transposed convolutions, three channels in and one class out."""
    g = Graph("unet")
    x = g.input("input", (1, 3, 256, 256))
    skips = []
    for channels in (64, 128, 256, 512):
        x = _double(g, x, channels, f"down{channels}")
        skips.append(x)
        x = g.max_pool(x, 2, 2)
    x = _double(g, x, 1024, "bottom")
    for skip in reversed(skips):
        channels = skip.shape[1]
        x = g.concat([skip, g.conv_transpose(x, channels, 2, 2, name=f"up{channels}.up")])
        x = _double(g, x, channels, f"up{channels}")
    g.output(g.conv(x, 1, 1, name="outc", gain=1.0), "output")
    return g


def _double(g, x, channels, name):
    for i in (1, 2):
        # The published module gives these convolutions no bias of their own; the fold makes one.
        x = g.relu(g.conv(x, channels, 3, pad=1, bn=True, name=f"{name}.{i}"))
    return x


def yolov8n():
    """YOLOv8n (Ultralytics 2023; 640x640, 80 classes) with its head, as `yolo export format=onnx` writes it: batch norm
    folded, box distances decoded, one output of 84 rows (box, class scores) by 8,400 anchors."""
    g = Graph("yolo-v8n")
    x = g.input("images", (1, 3, 640, 640))
    x = _yolo_conv(g, x, 16, 3, 2, "model.0")
    x = _yolo_conv(g, x, 32, 3, 2, "model.1")
    x = _c2f(g, x, 32, 1, True, "model.2")
    x = _yolo_conv(g, x, 64, 3, 2, "model.3")
    p3 = x = _c2f(g, x, 64, 2, True, "model.4")
    x = _yolo_conv(g, x, 128, 3, 2, "model.5")
    p4 = x = _c2f(g, x, 128, 2, True, "model.6")
    x = _yolo_conv(g, x, 256, 3, 2, "model.7")
    x = _c2f(g, x, 256, 1, True, "model.8")
    p5 = x = _sppf(g, x, 256, "model.9")
    p4 = _c2f(g, g.concat([g.upsample(p5, 2), p4]), 128, 1, False, "model.12")
    n3 = _c2f(g, g.concat([g.upsample(p4, 2), p3]), 64, 1, False, "model.15")
    n4 = _c2f(g, g.concat([_yolo_conv(g, n3, 64, 3, 2, "model.16"), p4]), 128, 1, False, "model.18")
    n5 = _c2f(g, g.concat([_yolo_conv(g, n4, 128, 3, 2, "model.19"), p5]), 256, 1, False, "model.21")
    g.output(_detect(g, [n3, n4, n5], "model.22"), "output0")
    return g


def _yolo_conv(g, x, channels, kernel, stride, name):
    return g.silu(g.conv(x, channels, kernel, stride=stride, pad=kernel // 2, bn=True, name=name))


def _c2f(g, x, channels, repeats, shortcut, name):
    half = channels // 2
    x = _yolo_conv(g, x, channels, 1, 1, f"{name}.cv1")
    parts = [g.slice(x, 0, half, 1), g.slice(x, half, channels, 1)]
    for i in range(repeats):
        y = _yolo_conv(g, parts[-1], half, 3, 1, f"{name}.m.{i}.cv1")
        y = _yolo_conv(g, y, half, 3, 1, f"{name}.m.{i}.cv2")
        parts.append(g.add(parts[-1], y) if shortcut else y)
    return _yolo_conv(g, g.concat(parts), channels, 1, 1, f"{name}.cv2")


def _sppf(g, x, channels, name):
    parts = [_yolo_conv(g, x, channels // 2, 1, 1, f"{name}.cv1")]
    for _ in range(3):
        parts.append(g.max_pool(parts[-1], 5, 1, 2))
    return _yolo_conv(g, g.concat(parts), channels, 1, 1, f"{name}.cv2")


def _detect(g, levels, name):
    classes, bins = 80, 16
    flat, anchors, strides = [], [], []
    for i, x in enumerate(levels):
        box = _yolo_conv(g, x, 64, 3, 1, f"{name}.cv2.{i}.0")
        box = _yolo_conv(g, box, 64, 3, 1, f"{name}.cv2.{i}.1")
        box = g.conv(box, 4 * bins, 1, name=f"{name}.cv2.{i}.2", gain=1.0)
        score = _yolo_conv(g, x, 80, 3, 1, f"{name}.cv3.{i}.0")
        score = _yolo_conv(g, score, 80, 3, 1, f"{name}.cv3.{i}.1")
        score = g.conv(score, classes, 1, name=f"{name}.cv3.{i}.2", gain=1.0)
        side, count = x.shape[2], x.shape[2] * x.shape[3]
        flat.append(g.reshape(g.concat([box, score]), (1, 4 * bins + classes, count)))
        anchors += [(column + 0.5, row + 0.5) for row in range(side) for column in range(side)]
        strides += [640 // side] * count
    x = g.concat(flat, axis=2)
    count = x.shape[2]
    box, score = g.slice(x, 0, 4 * bins, 1), g.slice(x, 4 * bins, 4 * bins + classes, 1)
    # Distribution focal loss: the expected distance of each side over 16 bins, by a fixed 1x1 convolution.
    box = g.softmax(g.transpose(g.reshape(box, (1, 4, bins, count)), [0, 2, 1, 3]), axis=1)
    expectation = g.array(f"{name}.dfl.conv.weight", [[[[float(b)]] for b in range(bins)]])
    box = g.node("Conv", [box, expectation], (1, 1, 4, count), kernel_shape=[1, 1])
    box = g.reshape(box, (1, 4, count))
    g.counts.macs += bins * 4 * count
    centre = g.constant("anchors", [[[a[0] for a in anchors], [a[1] for a in anchors]]], "float32")
    low = g.node("Sub", [centre, g.slice(box, 0, 2, 1)], (1, 2, count))
    high = g.node("Add", [centre, g.slice(box, 2, 4, 1)], (1, 2, count))
    middle = g.node("Mul", [g.add(low, high), g.constant("half", 0.5, "float32")], (1, 2, count))
    box = g.concat([middle, g.node("Sub", [high, low], (1, 2, count))])
    box = g.node("Mul", [box, g.constant("strides", [[strides]], "float32")], box.shape)
    return g.concat([box, g.node("Sigmoid", [score], score.shape)])
