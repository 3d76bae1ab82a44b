"""Architectures of torchvision, timm and transformers, smallest members, built with edgeqwt; see __main__."""
