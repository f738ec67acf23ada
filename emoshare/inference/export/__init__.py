"""A trained run in another form: an ONNX file, a model for OpenVINO, or a folder for the hub.

`forms` writes the requested one. `onnx` and `hub` do it: `graph` is the model as one module that `onnx` traces,
`check` compares every export with PyTorch before it is kept, `card` is the model card.
"""
