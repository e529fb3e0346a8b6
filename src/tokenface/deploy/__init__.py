"""The network and the head model for other runtimes: ONNX, OpenVINO, torch.export."""
