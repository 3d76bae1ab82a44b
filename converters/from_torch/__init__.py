"""PyTorch modules and programs as sources, and what stands for functions that exporters write wrong."""
