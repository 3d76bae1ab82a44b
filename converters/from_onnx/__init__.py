"""ONNX models as sources, and the rewrites that bring them to forms that onnx2tf converts rightly."""
