"""From a PyTorch checkpoint to a bundle's `encoder.onnx` and `head.safetensors` (`docs/export.md`)."""
