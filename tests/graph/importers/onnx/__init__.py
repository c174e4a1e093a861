"""The steps from an ONNX file to a float graph."""
