"""Networks from elsewhere: ONNX files and torch modules become a folder that the network "imported" builds."""
