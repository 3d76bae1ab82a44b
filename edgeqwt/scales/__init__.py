"""Which scale and zero point tensors get: ranges, scales of weights, limits of kernels, searches."""
