"""ONNX graphs on the CPU: weights filled into shipped graphs, sessions of onnxruntime and OpenVINO."""
