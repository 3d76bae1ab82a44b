"""Integer graphs as ONNX, with QuantizeLinear and DequantizeLinear around every op."""
