"""Export of the network and the head model: ONNX, OpenVINO, torch.export."""
